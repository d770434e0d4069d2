package main

import (
	"context"
	"iter"
	"os"
	"reflect"

	"unbrick/inventory"
	"unbrick/inventory/secret"
	"unbrick/inventory/source/hyperv"
	"unbrick/inventory/source/vsphere"
	"unbrick/remediate/tlspin"
)

// A vsphereSource is sources: {kind: vsphere} of unbrick.yaml: a server, and which of its
// machines. What is left out of the login is found where govc looks.
type vsphereSource struct {
	URL   string
	Login secret.Login
	CA    string

	Below   string // /DC1/vm/Finance
	Names   []string
	Windows bool
	Running bool
	Site    string
}

// A centerSource is the machines of one server. It logs in for each reading, and out after it.
type centerSource struct {
	server vsphere.Server
	cfg    vsphere.Config
}

func openVSphere(c vsphereSource) (centerSource, error) {
	trust := tlspin.Policy{Mode: tlspin.Verify}
	if c.CA != "" {
		roots, err := tlspin.LoadRoots(c.CA)
		if err != nil {
			return centerSource{}, err
		}
		trust.Roots = roots
	}
	server, err := vsphere.FromEnv(vsphere.Server{URL: c.URL, User: c.Login.User, Password: c.Login.Password, TLS: trust.Config}, os.Getenv)
	if err == nil {
		_, err = vsphere.NewConn(server) // is it right? It reaches nobody.
	}
	return centerSource{server, vsphere.Config{Path: c.Below, Names: c.Names, Windows: c.Windows, Running: c.Running, Site: c.Site}}, err
}

// Hosts implements inventory.Source.
func (s centerSource) Hosts(ctx context.Context) iter.Seq2[inventory.Host, error] {
	return func(yield func(inventory.Host, error) bool) {
		conn, err := vsphere.NewConn(s.server)
		if err != nil {
			yield(inventory.Host{}, err)
			return
		}
		defer conn.Close()
		vsphere.New(conn, s.cfg).Hosts(ctx)(yield)
	}
}

// Check implements inventory.Checker.
func (s centerSource) Check(ctx context.Context) error {
	conn, err := vsphere.NewConn(s.server)
	if err != nil {
		return err
	}
	defer conn.Close()
	return vsphere.New(conn, s.cfg).Check(ctx)
}

// equip gives a source of hypervisors what runs its script there.
func (e *sourceEntry) equip(cfg *config) error {
	c, ok := e.opener.config().Addr().Interface().(*hyperv.Config)
	if !ok {
		return nil
	}
	at := *cfg // a source has no state to pin certificates in
	if at.WinRM.TLS == "" && at.TLS == string(tlspin.Pin) || at.WinRM.TLS == string(tlspin.Pin) {
		at.WinRM.TLS = string(tlspin.Verify)
	}
	if c.Login.User != "" {
		at.Credentials = []credential{{User: c.Login.User, Password: c.Login.Password}}
	}
	o, err := at.winrm(nil)
	c.Runner = onHypervisors(o)
	return err
}

// ask tells a source to return only what the incident has hit, where it can.
func (e *sourceEntry) ask(incident *inventory.Incident) {
	if e.affected {
		e.opener.config().FieldByName("Affected").Set(reflect.ValueOf(incident))
	}
}
