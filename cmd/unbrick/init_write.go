package main

import (
	"context"
	"encoding/csv"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"unbrick/remediate"
)

// What init writes beside the configuration.
const (
	sitesFile     = "sites.csv"
	secretsFolder = "secrets"
)

// A neededSecret is one that somebody has to put into its place.
type neededSecret struct{ ref, what string }

// A blueprint turns answers into files.
type blueprint struct {
	answers answers
	secrets []neededSecret
	folder  bool     // secrets are in files
	notes   []string // for the person
	out     strings.Builder
}

func newBlueprint(a answers) *blueprint { return &blueprint{answers: a} }

// line writes a line of the configuration.
func (b *blueprint) line(format string, args ...any) { fmt.Fprintf(&b.out, format+"\n", args...) }

// plain is a text that YAML takes as it is.
var plain = regexp.MustCompile(`^[A-Za-z/][A-Za-z0-9_./-]*$`)

// quoted writes a text as YAML does.
func quoted(v string) string {
	if plain.MatchString(v) && !slices.Contains([]string{"true", "false", "yes", "no", "on", "off", "y", "n", "null"}, strings.ToLower(v)) {
		return v
	}
	return strconv.Quote(v)
}

// secret returns the reference to a secret, which is put on the list of what is to be done.
func (b *blueprint) secret(name, what string) string {
	ref := "file:" + secretsFolder + "/" + name
	if b.answers["secrets"] == "env" {
		ref = "env:UNBRICK_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
	} else {
		b.folder = true
	}
	b.secrets = append(b.secrets, neededSecret{ref, what})
	return quoted(ref)
}

// text returns the configuration.
func (b *blueprint) text() string {
	b.line("# unbrick.yaml, written by unbrick init. Every key has a default and an unknown one is an error;")
	b.line("# paths are relative to this file; the README describes all keys. No secret belongs in here:")
	b.line("# file:PATH, env:NAME and exec:COMMAND say where one is.")
	b.fleet()
	b.keys()
	b.rescue()
	b.credentials()
	b.ladder()
	b.line("\n# How much at once, and when to stop. These are the defaults.")
	b.line("# limits: {hosts: 50, per_site: 10, images_per_site: 4, power_per_minute: 60}")
	b.line("# stop: {stranded: 3, failed: 0.5}   # so many hosts not put back, or such a share of bad ends, halt the run")
	b.line("\n# What loses data, or restarts Windows into Safe Mode, needs a yes.")
	b.line("# allow: {hibernated: false, drop_journal: false, safe_mode: false}")
	return b.out.String()
}

func (b *blueprint) fleet() {
	a := b.answers
	b.line("\n# Where hosts are listed.")
	if a["source"] == "csv" {
		b.line("inventory: %s   # a header; only the column name is needed", quoted(a["file"]))
		b.line("# map: [name=Hostname]         # columns by another name")
		b.line("# sources: []                  # a CMDB beside it: kind netbox, servicenow, intune, falcon, …")
		b.notes = append(b.notes, a["file"]+" lists the hosts; unbrick inventory check "+a["file"]+" says what is wrong with it")
	} else {
		b.line("sources:")
		b.source()
		b.line("# inventory: fleet.csv         # a file beside it, which is believed first")
	}
	b.line("# incident: {from: 2024-07-19T04:09:00Z, until: 2024-07-19T05:27:00Z}   # which hosts it can have hit")
	if a["country"]+a["timezone"] == "" {
		b.line("# calendar: {sites: %s}   # site,country,region,timezone,opens: for hosts whose row does not say", sitesFile)
		return
	}
	b.line("\n# Country, time zone and opening hours of sites, for hosts whose row does not say.")
	b.line("calendar: {sites: %s}", sitesFile)
}

func (b *blueprint) keys() {
	a := b.answers
	b.line("\n# Where the recovery keys of encrypted disks are. Every release is put on the ledger first.")
	if a["keys"] == "none" {
		b.line("# keys: [keys.csv]   # without keys, encrypted disks cannot be opened")
	}
	if a.has("keys", "file") {
		b.line("keys: [%s]   # host,key_id,recovery_key; mode 0600", quoted(a["keys-file"]))
		b.notes = append(b.notes, a["keys-file"]+" holds the recovery keys: chmod 600; unbrick keys check says for which hosts there is one")
	}
	b.escrows()
	b.line("ledger: unbrick.ledger")
}

// escrows writes where keys are beside files.
func (b *blueprint) escrows() {
	a := b.answers
	if !is("keys", "activedirectory", "entra", "vault", "configmgr")(a) {
		return
	}
	b.line("escrows:")
	if a.has("keys", "activedirectory") {
		b.line("  # The account needs read and CONTROL_ACCESS on msFVE-RecoveryPassword.")
		b.line("  - activedirectory:\n      name: %s\n      user: %s\n      password: %s", quoted(a["keys-dc"]), quoted(a["keys-user"]), b.secret("keys-ad", "password of "+a["keys-user"]+", who reads recovery keys in Active Directory"))
	}
	if a.has("keys", "entra") {
		b.line("  # The application needs BitlockerKey.Read.All and Device.Read.All, with the administrator's consent.")
		b.line("  - entra:\n      tenant: %s\n      client_id: %s\n      secret: %s", quoted(a["keys-tenant"]), quoted(a["keys-client"]), b.secret("keys-entra", "client secret of the application "+a["keys-client"]))
	}
	if a.has("keys", "vault") {
		b.line("  - vault:\n      url: %s\n      mount: secret\n      prefix: bitlocker\n      token: %s", quoted(a["keys-vault"]), b.secret("keys-vault", "token of Vault that may read secret/bitlocker"))
	}
	if a.has("keys", "configmgr") {
		b.line("  - configmgr:\n      server: %s\n      database: %s\n      user: %s\n      password: %s", quoted(a["keys-server"]), quoted(a["keys-database"]), quoted(a["keys-user"]),
			b.secret("keys-configmgr", "password of "+a["keys-user"]+", who reads Configuration Manager's database"))
	}
}

func (b *blueprint) rescue() {
	b.line("\n# Where the run is remembered: a file, or postgres://… for several machines on one run.")
	b.line("state: unbrick.db")
	b.line("image: unbrick-image   # what unbrick image build makes")
	b.line("\n# What hosts and BMCs fetch from here. A firewall has to let them.")
	b.line("rescue:\n  dir: unbrick-rescue   # the server's key, and copies of what was removed\n  listen: \":8443\"       # HTTPS, for the rescue system\n  image_listen: \":8080\" # HTTP, for BMCs")
	if address := b.answers["address"]; address != "" {
		b.line("  url: %s   # as hosts reach this machine", quoted("https://"+net.JoinHostPort(address, "8443")))
		b.line("  image_url: %s", quoted("http://"+net.JoinHostPort(address, "8080")))
	} else {
		b.line("  # url: https://10.0.0.5:8443   # as hosts reach this machine; found out if left out")
	}
	b.line("tls: pin   # certificates of BMCs: pin (recorded at first sight), verify (tls_ca), insecure")
}

// credentials writes the logins of the ways in.
func (b *blueprint) credentials() {
	var with []string
	for _, way := range []string{"redfish", "ipmi", "amt", "winrm"} {
		if b.answers.has("ways", way) {
			with = append(with, way)
		}
	}
	if len(with) == 0 {
		return
	}
	b.line("\n# Logins; the first that fits a way in is used. site:, host: and address: take patterns.")
	b.line("credentials:")
	for _, way := range with {
		user := b.answers[way+"-user"]
		b.line("  - driver: %s\n    user: %s\n    password: %s", way, quoted(user), b.secret(way, "password of "+user+" for "+way))
	}
	b.line("  # - {driver: redfish, site: SYD, address: \"https://10.1.*\", user: other, password: \"file:secrets/syd\"}")
}

// ladder writes the ways in, in their usual order, with restarts where a controller can do them
// and a person at the end.
func (b *blueprint) ladder() {
	a := b.answers
	if a.has("ways", "netboot") {
		b.line("\n# Answers DHCP, TFTP and HTTP for hosts of the run and for nobody else.")
		b.line("netboot: {enabled: true}")
	}
	if is("ways", "libvirt", "ec2", "azure", "gce", "vsphere", "hyperv", "proxmox", "openstack")(a) {
		b.line("\n# Volumes are hung on a helper: unbrick image helper makes what it boots.")
		b.line("# swap: {helpers: [unbrick-helper], per_helper: 10, snapshot: false}")
	}
	b.line("\n# Ways in, cheapest first; one left out is not used.")
	b.line("ladder:")
	controller := is("ways", "redfish", "ipmi", "amt")(a)
	for _, r := range remediate.DefaultLadder() {
		switch {
		case a.has("ways", r.Way):
			b.line("  - way: %s", r.Way)
		case r.Way == "restart" && controller:
			b.line("  - way: restart   # counted restarts: many hosts fetch the good file before they crash again")
		case r.Way == remediate.Manual:
			b.line("  - way: %s    # a person with a card or a stick", r.Way)
		}
	}
}

// sites returns the table of sites: those of a fleet file that is there already, with the
// country and the time zone that were given where its rows have none.
func (b *blueprint) sites(ctx context.Context, dir string) (string, error) {
	a := b.answers
	if a["country"]+a["timezone"] == "" {
		return "", nil
	}
	var names []string
	if a["source"] == "csv" {
		src, err := csvSource(new(config), anchored(dir, a["file"]))
		if err != nil {
			return "", err
		}
		for h, err := range src.Hosts(ctx) {
			if err != nil || h.Site == "" || h.Country != "" && h.TimeZone != "" {
				continue // what is wrong with the file is said by who reads it for a run
			}
			if !slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, h.Site) }) {
				names = append(names, h.Site)
			}
		}
	}
	slices.Sort(names)
	var text strings.Builder
	w := csv.NewWriter(&text)
	rows := [][]string{{"site", "country", "region", "timezone", "opens"}}
	for _, n := range names {
		rows = append(rows, []string{n, a["country"], "", a["timezone"], ""})
	}
	if len(names) == 0 {
		b.notes = append(b.notes, filepath.Join(dir, sitesFile)+" has no line yet: write one for each site, its name as the hosts have it,\n"+strings.Join([]string{"SITE", a["country"], "", a["timezone"], "08:00"}, ","))
	}
	err := w.WriteAll(rows)
	return text.String(), err
}
