//go:build linux

package activedirectory_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"unbrick/bitlocker"
	"unbrick/bitlocker/keytest"
	"unbrick/bitlocker/source/activedirectory"
	"unbrick/inventory/secret"
)

// TestSamba runs everything that needs a domain controller against one.
func TestSamba(t *testing.T) {
	d := startDomain(t)
	t.Run("suite", func(t *testing.T) {
		keytest.Run(t, func(t *testing.T, keys []keytest.Filing) bitlocker.Source {
			ou := d.escrow(t, "Suite", keys...)
			return d.open(t, func(c *activedirectory.Config) { c.Base = ou })
		})
	})
	t.Run("logon", d.testLogon)
	t.Run("rights", d.testRights)
	t.Run("paging", d.testPaging)
	t.Run("several objects of one id", d.testSameID)
	t.Run("local passwords", d.testLAPS)
	t.Run("a connection that broke while idle", d.testIdle)
}

func (d *domain) testLogon(t *testing.T) {
	r := rand.NewPCG(3, 1)
	k := keytest.Filing{ID: keytest.NewKeyID(r), Host: "LOGON-PC", Key: keytest.NewKey(r)}
	d.escrow(t, "Logon", k)
	for name, change := range map[string]func(*activedirectory.Config){
		"simple, over TLS":   nil,
		"Kerberos, password": func(c *activedirectory.Config) { c.Kerberos = &activedirectory.Kerberos{} },
		"Kerberos, keytab": func(c *activedirectory.Config) {
			c.Login.Password = ""
			c.Kerberos = &activedirectory.Kerberos{Keytab: filepath.Join(d.Dir, "reader.keytab")}
		},
		"Kerberos, named KDC": func(c *activedirectory.Config) { c.Kerberos = &activedirectory.Kerberos{KDC: []string{d.IP + ":88"}} },
	} {
		t.Run(name, func(t *testing.T) {
			dir := d.open(t, change)
			if err := dir.Probe(t.Context()); err != nil {
				t.Fatal(err)
			}
			key, err := dir.Lookup(t.Context(), bitlocker.Query{ID: k.ID, Host: k.Host})
			if err != nil || !key.Equal(k.Key) {
				t.Errorf("not the key: %v", err)
			}
		})
	}
	for name, test := range map[string]struct {
		change func(*activedirectory.Config)
		want   string
	}{
		"wrong password": {func(c *activedirectory.Config) { c.Login = d.login(t, reader, "Wrong!Passw0rd") },
			"the directory refuses reader@unbrick.test: the password is wrong"},
		"wrong password, Kerberos": {func(c *activedirectory.Config) {
			c.Login = d.login(t, reader, "Wrong!Passw0rd")
			c.Kerberos = &activedirectory.Kerberos{}
		}, "the directory refuses reader@unbrick.test: the password or keytab is wrong"},
		"no such account": {func(c *activedirectory.Config) {
			c.Login = d.login(t, "stranger", userPw)
			c.Kerberos = &activedirectory.Kerberos{}
		}, "the directory refuses stranger@unbrick.test: there is no such account"},
		"another certificate": {func(c *activedirectory.Config) { c.Name = "dc2." + realm }, "cannot reach the directory: tls: failed to verify certificate"},
		"unknown authority":   {func(c *activedirectory.Config) { c.CA = "" }, "cannot reach the directory: tls: failed to verify certificate"},
		"nobody listens":      {func(c *activedirectory.Config) { c.Address = d.IP + ":9" }, "cannot reach the directory: dial tcp"},
		"no such subtree":     {func(c *activedirectory.Config) { c.Base = "OU=Nowhere," + domainDN }, "the directory has no OU=Nowhere,DC=unbrick,DC=test that this account may see"},
		"no password":         {func(c *activedirectory.Config) { c.Login.Password = "file:/nonexistent" }, "cannot read secret"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := d.open(t, test.change)
			for range 2 {
				_, err := dir.Lookup(t.Context(), bitlocker.Query{ID: k.ID})
				if err == nil || !strings.HasPrefix(err.Error(), test.want) || errors.Is(err, bitlocker.ErrNoKey) {
					t.Errorf("error %v\n want %s", err, test.want)
				}
				var refused *activedirectory.LogonError
				if errors.As(err, &refused) && refused.Wrong {
					test.want += " (not tried again, so that the account is not locked out)"
				}
			}
		})
	}
}

func (d *domain) testRights(t *testing.T) {
	r := rand.NewPCG(3, 2)
	k := keytest.Filing{ID: keytest.NewKeyID(r), Host: "RIGHTS-PC", Key: keytest.NewKey(r)}
	ou := d.escrow(t, "Rights", k)
	as := func(user string) *activedirectory.Directory {
		return d.open(t, func(c *activedirectory.Config) { c.Base, c.Login = ou, d.login(t, user, userPw) })
	}
	q := bitlocker.Query{ID: k.ID, Host: k.Host}

	t.Run("without CONTROL_ACCESS", func(t *testing.T) {
		dir := as(lister)
		_, err := dir.Lookup(t.Context(), q)
		var hidden *activedirectory.HiddenError
		if !errors.As(err, &hidden) || hidden.Host != k.Host || hidden.ReadOnly || !strings.Contains(err.Error(), "CONTROL_ACCESS") || errors.Is(err, bitlocker.ErrNoKey) {
			t.Errorf("error %v, want that it is there and hidden", err)
		}
		var blind *activedirectory.BlindError
		if err := dir.Probe(t.Context()); !errors.As(err, &blind) || !blind.Objects {
			t.Errorf("probe: %v, want that it lists and shows none", err)
		}
		if entries, err := dir.Index(t.Context(), "rights-pc"); err != nil || len(entries) != 1 || entries[0].ID != k.ID || entries[0].Created.IsZero() {
			t.Errorf("index %v, %v; it needs no CONTROL_ACCESS", entries, err)
		}
	})
	t.Run("without any rights", func(t *testing.T) {
		dir := d.open(t, func(c *activedirectory.Config) { c.Login = d.login(t, nobody, userPw) })
		check := func(what string, err error) {
			var blind *activedirectory.BlindError
			if !errors.As(err, &blind) || blind.Objects || !strings.Contains(err.Error(), "rights are missing") || errors.Is(err, bitlocker.ErrNoKey) {
				t.Errorf("%s: error %v, want that rights may be missing", what, err)
			}
		}
		_, err := dir.Lookup(t.Context(), q)
		check("lookup", err)
		_, err = dir.Index(t.Context(), "")
		check("index", err)
		_, err = dir.Index(t.Context(), k.Host)
		check("index of a host", err)
		check("probe", dir.Probe(t.Context()))
	})
	t.Run("unknown id", func(t *testing.T) {
		_, err := as(reader).Lookup(t.Context(), bitlocker.Query{ID: keytest.NewKeyID(r)})
		if !errors.Is(err, bitlocker.ErrNoKey) || !strings.Contains(err.Error(), "reader@unbrick.test") {
			t.Errorf("error %v, want ErrNoKey that names the account", err)
		}
	})
}

func (d *domain) testPaging(t *testing.T) {
	r := rand.NewPCG(3, 3)
	var keys []keytest.Filing
	for i := range 23 {
		keys = append(keys, keytest.Filing{ID: keytest.NewKeyID(r), Host: fmt.Sprintf("PAGE-PC%d", i/2), Key: keytest.NewKey(r)})
	}
	ou := d.escrow(t, "Paging", keys...)
	for _, size := range []int{1, 5, 23, 1000} {
		dir := d.open(t, func(c *activedirectory.Config) { c.Base, c.PageSize = ou, size })
		entries, err := dir.Index(t.Context(), "")
		seen := map[bitlocker.KeyID]string{}
		for _, e := range entries {
			seen[e.ID] = e.Host
		}
		if err != nil || len(entries) != len(keys) {
			t.Errorf("pages of %d: %d entries, %v", size, len(entries), err)
		}
		for _, k := range keys {
			if seen[k.ID] != k.Host {
				t.Errorf("pages of %d: %s is of host %q, want %s", size, k.ID, seen[k.ID], k.Host)
			}
		}
	}
}

func (d *domain) testSameID(t *testing.T) {
	r := rand.NewPCG(3, 4)
	id, good := keytest.NewKeyID(r), keytest.NewKey(r)
	ou := d.escrow(t, "Clones", keytest.Filing{ID: id, Host: "CLONE-1", Key: good}, keytest.Filing{ID: id, Host: "CLONE-2", Key: keytest.NewKey(r)})
	dir := d.open(t, func(c *activedirectory.Config) { c.Base = ou })
	if key, err := dir.Lookup(t.Context(), bitlocker.Query{ID: id, Host: "clone-1"}); err != nil || !key.Equal(good) {
		t.Errorf("not the key of CLONE-1: %v", err)
	}
	if key, err := dir.Lookup(t.Context(), bitlocker.Query{ID: id}); !errors.Is(err, bitlocker.ErrNoKey) || !key.IsZero() {
		t.Errorf("error %v, want that the two do not agree", err)
	}
	var wrong *bitlocker.WrongHostError
	if _, err := dir.Lookup(t.Context(), bitlocker.Query{ID: id, Host: "clone-3"}); !errors.As(err, &wrong) || len(wrong.Filed) != 2 {
		t.Errorf("error %v, want both hosts named", err)
	}
}

// testIdle cuts the connection, as directories do after some minutes of silence.
func (d *domain) testIdle(t *testing.T) {
	proxy := newProxy(t, d.IP+":636")
	dir := d.open(t, func(c *activedirectory.Config) { c.Address = proxy.address() })
	if err := dir.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	proxy.cut()
	if err := dir.Probe(t.Context()); err != nil {
		t.Errorf("after the connection broke: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	proxy.freeze(cancel) // the answer never comes
	if err := dir.Probe(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
}

func TestNew(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	login := secret.Login{User: "reader@corp.example", Password: "env:X"}
	for name, test := range map[string]struct {
		cfg  activedirectory.Config
		want string
	}{
		"no name":         {activedirectory.Config{Login: login}, "name the domain controller"},
		"address as name": {activedirectory.Config{Name: "10.1.2.3", Login: login}, "an IP address goes into the address"},
		"short user":      {activedirectory.Config{Name: "dc1", Login: secret.Login{User: `CORP\reader`}}, "write the user as reader@corp.example"},
		"no CA":           {activedirectory.Config{Name: "dc1", Login: login, CA: empty + "x"}, "no such file"},
		"empty CA":        {activedirectory.Config{Name: "dc1", Login: login, CA: empty}, "has no certificate in PEM"},
		"page":            {activedirectory.Config{Name: "dc1", Login: login, PageSize: -1}, "a page of -1"},
	} {
		if _, err := activedirectory.New(test.cfg); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want %q", name, err, test.want)
		}
	}
}

// TestReadOnly is of words alone: no read-only domain controller runs in these tests.
func TestReadOnly(t *testing.T) {
	for _, err := range []error{&activedirectory.HiddenError{Host: "PC1", ReadOnly: true}, &activedirectory.BlindError{Objects: true, ReadOnly: true}} {
		if !strings.Contains(err.Error(), "name a writable one") || strings.Contains(err.Error(), "CONTROL_ACCESS") {
			t.Errorf("%v: rights cannot help there", err)
		}
	}
}
