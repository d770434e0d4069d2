package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"unbrick/inventory/secret"
	"unbrick/remediate"
	"unbrick/remediate/driver/amt"
	"unbrick/remediate/driver/ipmi"
	"unbrick/remediate/driver/manual"
	"unbrick/remediate/driver/netboot"
	"unbrick/remediate/driver/redfish"
	"unbrick/remediate/driver/restart"
	"unbrick/remediate/driver/winrm"
	pxe "unbrick/remediate/netboot"
	"unbrick/remediate/power"
	"unbrick/remediate/rescue/image"
	"unbrick/remediate/tlspin"
	client "unbrick/remediate/winrm"
)

// What unbrick.yaml says of single ways in. Each has defaults.
type (
	ipmiConfig struct {
		AnyGUID bool `yaml:"any_guid"` // take a BMC whose GUID is not the host's UUID
	}
	amtConfig struct {
		URL  string `yaml:"url"`  // https://…, in front of rescue.image_listen: firmware boots from it
		Root string `yaml:"root"` // PEM file: its certificate authority, which AMT's store must have
	}
	winrmConfig struct {
		Auth    string     `yaml:"auth"`    // ntlm, kerberos, basic or certificate
		Realm   string     `yaml:"realm"`   // for kerberos
		Krb5    string     `yaml:"krb5"`    // krb5.conf
		Cert    string     `yaml:"cert"`    // for certificate: PEM file
		Key     secret.Ref `yaml:"key"`     // and its private key
		TLS     string     `yaml:"tls"`     // pin, verify or insecure; tls if empty
		Catch   duration   `yaml:"catch"`   // how long to wait for a host to answer between two crashes
		AnyName bool       `yaml:"anyname"` // take a host whatever it calls itself
	}
	netbootConfig struct {
		Enabled   bool   `yaml:"enabled"`
		Dir       string `yaml:"dir"`       // which hosts are answered
		Interface string `yaml:"interface"` // the network card to hear on; empty: all
		Address   string `yaml:"address"`   // by which hosts reach this machine; found out if left out
		Lend      string `yaml:"lend"`      // a range that DHCP does not give out, for UEFI hosts: 10.1.2.240-10.1.2.250
		HTTP      string `yaml:"http"`
	}
	falconConfig struct {
		URL      string     `yaml:"url"` // of the region's API; https://api.crowdstrike.com if empty
		CA       string     `yaml:"ca"`
		ClientID string     `yaml:"client_id"` // empty: the console is not asked
		Secret   secret.Ref `yaml:"secret"`
	}
	restartConfig struct {
		Most    int      `yaml:"most"`    // of one host in one run, as far as timeouts.repair allows
		Between duration `yaml:"between"` // from one to the next
	}
	manualConfig struct {
		Cards  string `yaml:"cards"`  // folder: pages with keys are printed there as hosts come to a person; empty: none
		Reason string `yaml:"reason"` // for the ledger, with each of these keys
	}
)

// listDrivers lists every way into a host that the program knows. Pins are what it knows the
// certificates of controllers and hosts by.
func (k *kit) listDrivers(pins tlspin.Records) (map[string]remediate.Driver, error) {
	cfg := k.cfg
	trust, err := trusted(cfg, cfg.TLS, pins)
	if err != nil {
		return nil, err
	}
	intel, err := cfg.AMT.options()
	if err != nil {
		return nil, err
	}
	intel.Login, intel.TLS, intel.Records = logins(cfg), trust, k.store
	shell, err := cfg.winrm(pins)
	if err != nil {
		return nil, err
	}
	bmc, vpro := redfish.New(redfish.Options{Login: logins(cfg), TLS: trust}), amt.New(intel)
	switches := power.Switches{
		"redfish": bmc,
		"ipmi":    ipmi.New(ipmi.Options{Login: logins(cfg), AnyGUID: cfg.IPMI.AnyGUID}),
		"amt":     vpro,
	}
	known := map[string]remediate.Driver{
		"winrm":   winrm.New(shell),
		"redfish": bmc,
		"amt":     vpro,
		"restart": restart.New(restart.Options{Switches: switches, Prober: k.prober, Records: k.store,
			Most: cfg.Restart.Most, Between: time.Duration(cfg.Restart.Between), Pace: func(ctx context.Context, t remediate.Target) error {
				return k.store.PowerOn(ctx, t.Run, t.Host.Site, cfg.Limits.PowerPerMinute)
			}}),
		remediate.Manual: manual.New(manual.Options{Desk: k.server, Card: k.cards()}),
	}
	if k.boot != nil {
		known["netboot"] = netboot.New(k.boot, switches)
	}
	virtual, err := k.listSwaps(pins)
	maps.Copy(known, virtual)
	return known, err
}

// serveNetboot starts what answers hosts that start from the network, if it is asked for.
func (k *kit) serveNetboot(ctx context.Context) error {
	n := k.cfg.Netboot
	if !n.Enabled {
		return nil
	}
	boot, err := n.start(ctx, n.Dir, k.log)
	if errors.Is(err, pxe.ErrTaken) && k.cfg.beside {
		k.noBoot = "a run that goes on has its ports (" + oneLine(err.Error()) + ")"
		return nil
	}
	if err != nil {
		return hinted(err, netbootHint)
	}
	k.boot = boot
	k.closers = append(k.closers, boot)
	return nil
}

const netbootHint = "see netboot: of unbrick.yaml in the README; on Linux its ports need root or CAP_NET_BIND_SERVICE"

// start answers the hosts that are allowed in dir.
func (n netbootConfig) start(ctx context.Context, dir string, log *slog.Logger) (*pxe.Server, error) {
	return pxe.Start(ctx, pxe.Config{Dir: dir, Interface: n.Interface, Address: n.Address, Lend: n.Lend, HTTP: n.HTTP, Log: log})
}

// netbootFiles returns what hosts load from the network, of an image that has it.
func netbootFiles(folder string) fs.FS {
	dir := filepath.Join(folder, image.NetbootName)
	if _, err := os.Stat(filepath.Join(dir, "site.img")); err != nil {
		return nil
	}
	return os.DirFS(dir)
}

// logins finds the credential of a target, and reads the password when it is used.
func logins(cfg *config) func(context.Context, remediate.Target) (string, secret.Value, error) {
	return func(ctx context.Context, t remediate.Target) (string, secret.Value, error) {
		login, err := cfg.login(t.Host, t.Route)
		if err != nil {
			return "", secret.Value{}, err
		}
		password, err := login.Password.Resolve(ctx)
		return login.User, password, err
	}
}

// trusted says which certificates to trust.
func trusted(cfg *config, mode string, pins tlspin.Records) (tlspin.Policy, error) {
	m, err := tlspin.ParseMode(mode)
	if err != nil {
		return tlspin.Policy{}, hinted(err, "tls: in unbrick.yaml is pin, verify or insecure")
	}
	policy := tlspin.Policy{Mode: m, Records: pins, Forget: "unbrick doctor --forget-pin ADDRESS"}
	if cfg.TLSCA != "" {
		if policy.Roots, err = tlspin.LoadRoots(cfg.TLSCA); err != nil {
			return policy, hinted(err, "tls_ca: in unbrick.yaml names a PEM file")
		}
	}
	return policy, nil
}

// options returns what the configuration says of One-Click Recovery. Without an address the
// way fails its check, and says so; AMT switches hosts for other ways all the same.
func (a amtConfig) options() (amt.Options, error) {
	var o amt.Options
	if a.URL == "" {
		return o, nil
	}
	base, err := url.Parse(a.URL)
	if err != nil || base.Scheme != "https" || base.Host == "" || base.RawQuery != "" {
		return o, usage("amt: {url: https://rescue.corp.example}", "amt.url in unbrick.yaml is not an https address")
	}
	o.BootURL = func(img remediate.Image) (string, error) {
		u, err := url.Parse(img.URL)
		if err != nil {
			return "", err
		}
		u.Scheme, u.Host = base.Scheme, base.Host
		u.Path = strings.TrimSuffix(base.Path, "/") + strings.TrimSuffix(u.Path, "rescue.iso") + "netboot/shimx64.efi"
		return u.String(), nil
	}
	if a.Root == "" {
		return o, nil
	}
	text, err := os.ReadFile(a.Root)
	if err != nil {
		return o, usage("amt.root names a PEM file", "cannot read the authority of amt.url: %v", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return o, usage("amt.root names a PEM file", "%s has no certificate in PEM", a.Root)
	}
	o.Root, err = x509.ParseCertificate(block.Bytes)
	return o, err
}

// winrm returns how to reach hosts by WinRM.
func (c *config) winrm(pins tlspin.Records) (winrm.Options, error) {
	w := c.WinRM
	mode := w.TLS
	if mode == "" {
		mode = c.TLS
	}
	trust, err := trusted(c, mode, pins)
	if err != nil {
		return winrm.Options{}, err
	}
	login, err := c.shellLogin()
	return winrm.Options{Login: login, TLS: trust, AnyName: w.AnyName, Times: winrm.Times{Catch: time.Duration(w.Catch)}}, err
}

// shellLogin returns how to log in to a Windows host.
func (c *config) shellLogin() (func(context.Context, remediate.Target) (client.Auth, error), error) {
	w, find := c.WinRM, logins(c)
	with := func(make func(user string, password secret.Value) (client.Auth, error)) func(context.Context, remediate.Target) (client.Auth, error) {
		return func(ctx context.Context, t remediate.Target) (client.Auth, error) {
			user, password, err := find(ctx, t)
			if err != nil {
				return nil, err
			}
			return make(user, password)
		}
	}
	switch w.Auth {
	case "", "ntlm":
		return with(func(user string, password secret.Value) (client.Auth, error) {
			return client.NTLM{User: user, Password: password}, nil
		}), nil
	case "basic":
		return with(func(user string, password secret.Value) (client.Auth, error) {
			return client.Basic{User: user, Password: password}, nil
		}), nil
	case "kerberos":
		return with(w.tickets()), nil
	case "certificate":
		return w.certificate, nil
	}
	return nil, usage("ntlm, kerberos, basic or certificate", "winrm.auth in unbrick.yaml cannot be %q", w.Auth)
}

// tickets returns how an account logs in by Kerberos: once, for all hosts.
func (w winrmConfig) tickets() func(user string, password secret.Value) (client.Auth, error) {
	var mu sync.Mutex
	known := map[string]*client.Kerberos{}
	return func(user string, password secret.Value) (client.Auth, error) {
		mu.Lock()
		defer mu.Unlock()
		if k := known[user]; k != nil {
			return k, nil
		}
		k, err := client.NewKerberos(w.Krb5, user, w.Realm, password)
		if err == nil {
			known[user] = k
		}
		return k, err
	}
}

func (w winrmConfig) certificate(ctx context.Context, _ remediate.Target) (client.Auth, error) {
	cert, err := os.ReadFile(w.Cert)
	if err != nil {
		return nil, fmt.Errorf("cannot read the client certificate: %w", err)
	}
	key, err := w.Key.Resolve(ctx)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, []byte(key.Reveal()))
	if err != nil { // its words could be those of the key
		return nil, errors.New("winrm.cert and winrm.key in unbrick.yaml are not a certificate and its key in PEM")
	}
	return client.Certificate{Certificate: pair}, nil
}
