package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"unbrick/bitlocker"
	"unbrick/bitlocker/source/activedirectory"
	"unbrick/bitlocker/source/bundle"
	"unbrick/bitlocker/source/configmgr"
	"unbrick/bitlocker/source/entra"
	"unbrick/bitlocker/source/keyfile"
	"unbrick/bitlocker/source/vault"
	"unbrick/inventory/secret"
)

// An escrow is one entry of escrows: in unbrick.yaml. Exactly one of its fields is there.
type escrow struct {
	ActiveDirectory *directoryEscrow `yaml:"activedirectory"`
	Entra           *entraEscrow     `yaml:"entra"`
	ConfigMgr       *configmgrEscrow `yaml:"configmgr"`
	Vault           *vaultEscrow     `yaml:"vault"`
	Bundle          *bundleEscrow    `yaml:"bundle"`
}

type directoryEscrow struct {
	Name     string     `yaml:"name"`    // of a writable domain controller, as in its certificate
	Address  string     `yaml:"address"` // where Name cannot be resolved
	Base     string     `yaml:"base"`    // subtree; empty: the domain
	CA       string     `yaml:"ca"`
	User     string     `yaml:"user"`
	Password secret.Ref `yaml:"password"`
	Kerberos bool       `yaml:"kerberos"` // log on by Kerberos
	Keytab   string     `yaml:"keytab"`
}

type entraEscrow struct {
	Tenant   string     `yaml:"tenant"`
	ClientID string     `yaml:"client_id"`
	Secret   secret.Ref `yaml:"secret"`
	Token    secret.Ref `yaml:"token"`
}

type configmgrEscrow struct {
	Server   string     `yaml:"server"`
	Database string     `yaml:"database"`
	CA       string     `yaml:"ca"`
	User     string     `yaml:"user"`
	Password secret.Ref `yaml:"password"`
	Plain    bool       `yaml:"plain"` // the site has no BitLocker management certificate
}

type vaultEscrow struct {
	URL       string     `yaml:"url"`
	Namespace string     `yaml:"namespace"`
	CA        string     `yaml:"ca"`
	Mount     string     `yaml:"mount"`
	Prefix    string     `yaml:"prefix"`
	Field     string     `yaml:"field"`
	Token     secret.Ref `yaml:"token"`
	RoleID    string     `yaml:"role_id"`
	SecretID  secret.Ref `yaml:"secret_id"`
}

// A bundleEscrow needs two persons: first and second are the references to their identities.
type bundleEscrow struct {
	File    string     `yaml:"file"`
	Signer  string     `yaml:"signer"` // file with the public key of who made it
	First   secret.Ref `yaml:"first"`
	Second  secret.Ref `yaml:"second"`
	Expired bool       `yaml:"expired"` // open it even if it has expired
}

// anchor makes the paths of the entry relative to dir.
func (e escrow) anchor(dir string) {
	var paths []*string
	var refs []*secret.Ref
	if a := e.ActiveDirectory; a != nil {
		paths, refs = append(paths, &a.CA, &a.Keytab), append(refs, &a.Password)
	}
	if a := e.Entra; a != nil {
		refs = append(refs, &a.Secret, &a.Token)
	}
	if a := e.ConfigMgr; a != nil {
		paths, refs = append(paths, &a.CA), append(refs, &a.Password)
	}
	if a := e.Vault; a != nil {
		paths, refs = append(paths, &a.CA), append(refs, &a.Token, &a.SecretID)
	}
	if a := e.Bundle; a != nil {
		paths, refs = append(paths, &a.File, &a.Signer), append(refs, &a.First, &a.Second)
	}
	for _, p := range paths {
		*p = anchored(dir, *p)
	}
	for _, r := range refs {
		anchorRef(dir, r)
	}
}

// open returns the escrow's source. It does not reach the escrow, except for a bundle, which
// is a file.
func (e escrow) open(ctx context.Context) (bitlocker.Source, error) {
	var sources []func() (bitlocker.Source, error)
	if a := e.ActiveDirectory; a != nil {
		sources = append(sources, a.open)
	}
	if a := e.Entra; a != nil {
		sources = append(sources, func() (bitlocker.Source, error) {
			return entra.New(entra.Config{Tenant: a.Tenant, ClientID: a.ClientID, Secret: a.Secret, Token: a.Token})
		})
	}
	if a := e.ConfigMgr; a != nil {
		sources = append(sources, func() (bitlocker.Source, error) {
			return configmgr.New(configmgr.Config{Server: a.Server, Database: a.Database, CA: a.CA,
				Login: secret.Login{User: a.User, Password: a.Password}, Plain: a.Plain})
		})
	}
	if a := e.Vault; a != nil {
		sources = append(sources, a.open)
	}
	if a := e.Bundle; a != nil {
		sources = append(sources, func() (bitlocker.Source, error) { return a.open(ctx) })
	}
	if len(sources) != 1 {
		return nil, fmt.Errorf("an entry of escrows names one of activedirectory, entra, configmgr, vault, bundle; this one names %d", len(sources))
	}
	return sources[0]()
}

func (a *directoryEscrow) open() (bitlocker.Source, error) {
	cfg := activedirectory.Config{Name: a.Name, Address: a.Address, Base: a.Base, CA: a.CA,
		Login: secret.Login{User: a.User, Password: a.Password}}
	if a.Kerberos || a.Keytab != "" {
		cfg.Kerberos = &activedirectory.Kerberos{Keytab: a.Keytab}
	}
	return activedirectory.New(cfg)
}

func (a *vaultEscrow) open() (bitlocker.Source, error) {
	cfg := vault.Config{URL: a.URL, Namespace: a.Namespace, CA: a.CA, Mount: a.Mount, Prefix: a.Prefix, Field: a.Field, Token: a.Token}
	if a.RoleID != "" {
		cfg.AppRole = &vault.AppRole{RoleID: a.RoleID, SecretID: a.SecretID}
	}
	return vault.New(cfg)
}

func (a *bundleEscrow) open(ctx context.Context) (bitlocker.Source, error) {
	text, err := os.ReadFile(a.Signer)
	if err != nil {
		return nil, fmt.Errorf("cannot read who signs bundles: %w", err)
	}
	o := bundle.Opening{Expired: a.Expired, Now: time.Now()}
	if o.Signer, err = bundle.ParseVerifyKey(text); err != nil {
		return nil, err
	}
	if o.First, err = bundle.Identities(ctx, a.First); err != nil {
		return nil, err
	}
	if o.Second, err = bundle.Identities(ctx, a.Second); err != nil {
		return nil, err
	}
	return bundle.Open(a.File, o)
}

// openKeys opens the escrows of the configuration, key files first, and says what is wrong
// with the files.
func openKeys(c *cli.Context, cfg *config) ([]bitlocker.Source, error) {
	var sources []bitlocker.Source
	for _, name := range cfg.Keys {
		f, err := keyfile.Open(name)
		if err != nil {
			return nil, hinted(err, "a key file has the columns host, key_id, recovery_key, or those of the falcon-windows-host-recovery export")
		}
		sayProblems(c, name, f.Problems())
		sources = append(sources, f)
	}
	for i, e := range cfg.Escrows {
		s, err := e.open(c.Context)
		if err != nil {
			return nil, hinted(fmt.Errorf("escrows[%d]: %w", i, err), "the README describes escrows: of unbrick.yaml")
		}
		sources = append(sources, s)
	}
	return sources, nil
}

// shownProblems is how many problems of a key file are printed.
const shownProblems = 20

func sayProblems(c *cli.Context, name string, problems []keyfile.Problem) {
	for i, p := range problems {
		if i == shownProblems {
			say(c, "… and %d more in %s; unbrick keys check --json has all", len(problems)-i, name)
			return
		}
		say(c, "keys: %s", p)
	}
}
