package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// What an entry of each kind may say is part of what people have written down: a field of a
// package that is renamed breaks their files.
func TestSourceFields(t *testing.T) {
	want := map[string]string{
		"csv":             "file, map",
		"servicenow":      "url, ca, user, password, client_id, secret, table, query, fields, page",
		"netbox":          "url, ca, token, query, vms, fields, bmc, page",
		"snipeit":         "url, ca, token, query, fields, page",
		"glpi":            "url, ca, token, user, password, app_token, retired, in_stock, page",
		"intune":          "tenant, client_id, secret, token, graph, authority, ca",
		"entra":           "tenant, client_id, secret, token, graph, authority, ca",
		"falcon":          "url, ca, client_id, secret, filter, affected, page",
		"activedirectory": "name, address, ca, user, password, base, filter, page",
		"ansible":         "file, group, fields",
		"leases":          "file, site",
		"libvirt":         "uri, site, windows, title, running",
	}
	for _, k := range sourceKinds() {
		if w, ok := want[k.kind]; ok && fieldNames(knownFields(k.new().config(), k.hide)) != w {
			t.Errorf("%s: %s", k.kind, fieldNames(knownFields(k.new().config(), k.hide)))
		}
		delete(want, k.kind)
	}
	if len(want) > 0 {
		t.Errorf("no kinds %v", want)
	}
}

func TestSources(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "unbrick.yaml")
	write(t, file, `
inventory: fleet.csv
fleet: /var/lib/unbrick.fleet
sources:
  - {kind: netbox, as: netbox-eu, url: "https://netbox.corp.example", token: "file:netbox.secret", fields: {redfish: bmc_url}, vms: true}
  - kind: servicenow
    url: https://corp.service-now.com
    user: reader
    password: env:SNOW
  - {kind: falcon, client_id: abc, secret: "env:FALCON", affected: true}
  - {kind: entra, tenant: corp.example, token: "env:GRAPH"}
  - {kind: leases, file: dhcpd.leases, site: SYD}
wins: {site: [netbox-eu, inventory], name: [servicenow]}
incident: {from: 2024-07-19T04:09:00Z, until: 2024-07-19T05:27:00Z}
`)
	cfg, err := loadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	all, err := openSources(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	digests := map[string]bool{}
	for _, s := range all {
		names = append(names, s.Name+" "+s.Kind)
		digests[s.Config] = true
	}
	if got := strings.Join(names, ", "); got != "inventory csv, netbox-eu netbox, servicenow servicenow, falcon falcon, entra entra, leases leases" {
		t.Error(got)
	}
	if len(digests) != len(all) {
		t.Errorf("%d digests of %d configurations", len(digests), len(all))
	}
	token := knownFields(cfg.Sources[0].opener.config(), nil)[2].at.String()
	if want := "file:" + filepath.Join(dir, "netbox.secret"); token != want {
		t.Errorf("the token is at %s, want %s", token, want)
	}
	if cfg.incident() == nil || cfg.incident().From.Hour() != 4 {
		t.Errorf("incident %v", cfg.incident())
	}
}

func TestSourcesRefused(t *testing.T) {
	for text, want := range map[string]string{
		"- {kind: netbox, url: https://n, tokn: env:N}":                   `unbrick.yaml:3: source netbox has no field "tokn"; its fields are kind, as, url, ca, token,`,
		"- {kind: entra, entra: true}":                                    `no field "entra"`,
		"- kind: csv\n    file: a.csv\n    colour: red":                   `unbrick.yaml:5: source csv has no field "colour"`,
		"- {url: https://n}":                                              "unbrick.yaml:3: a source without a kind; the kinds are csv, servicenow,",
		"- {kind: netbx}":                                                 `no kind of source is called "netbx"; the kinds are csv,`,
		"- fleet.csv":                                                     "unbrick.yaml:3: an entry of sources is written {kind: csv",
		"- {kind: netbox, token: hunter2}":                                "unbrick.yaml:3: source netbox: token: not a reference to a secret",
		"- {kind: netbox, token: {hunter2: 1}}":                           "token: not a reference to a secret",
		"- {kind: netbox, page: hunter2}":                                 "page: it takes a number",
		"- {kind: netbox, fields: hunter2}":                               "fields: it takes names and values",
		"- {kind: glpi, retired: {hunter2: 1}}":                           "retired: it takes a list",
		"- {kind: netbox, vms: hunter2}":                                  "vms: it takes true or false",
		"- {kind: netbox, url: 'https://root:hunter2@n'}":                 "url: an address without a login in it",
		"- {kind: csv, file: a}\n  - {kind: csv, file: b}":                `unbrick.yaml:4: another source is called "csv" (line 3); give one of them a name with as:`,
		"- {kind: falcon, affected: true}":                                "unbrick.yaml:3: affected: needs incident:",
		"- {kind: csv, file: a}\nwins: {colour: [csv]}":                   `wins: no field "colour"`,
		"- {kind: csv, file: a}\nwins: {site: [netbox]}":                  `wins: site: no source is called "netbox"`,
		"- {kind: csv, file: a}\nincident: {from: 2024-07-19T04:09:00Z}":  "from and until are needed",
		"- {kind: csv, file: a}\nincident: {from: yesterday, until: now}": "not a time with its zone",
	} {
		file := filepath.Join(t.TempDir(), "unbrick.yaml")
		write(t, file, "tls: pin\nsources:\n  "+text+"\n")
		_, err := loadConfig(file)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\ngave %v\nwant %s", text, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s\nrepeats what may be a secret: %v", text, err)
		}
	}
}

// What only opening shows is said with the line too.
func TestSourcesOpen(t *testing.T) {
	for text, want := range map[string]string{
		"{kind: csv}": "line 2 of the configuration: source csv: file: is missing",
		"{kind: netbox, url: http://n, token: 'env:X'}": "source netbox: cannot use NetBox: its address has to be https",
	} {
		file := filepath.Join(t.TempDir(), "unbrick.yaml")
		write(t, file, "sources:\n  - "+text+"\n")
		cfg, err := loadConfig(file)
		if err == nil {
			_, err = openSources(cfg)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\ngave %v\nwant %s", text, err, want)
		}
	}
}
