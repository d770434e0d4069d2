//go:build linux

package activedirectory_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/inventory/secret"
	"unbrick/inventory/source/activedirectory"
	"unbrick/inventory/sourcetest"
	"unbrick/remediate/lab/testenv/samba"
)

func (d *domain) open(t *testing.T, change func(*activedirectory.Config)) *activedirectory.Source {
	t.Helper()
	cfg := activedirectory.Config{Name: d.Name, Address: d.IP, CA: filepath.Join(d.Dir, "ca.pem"),
		Login: secret.Login{User: "reader@" + realm, Password: secret.Ref(sourcetest.Secretly(t, userPw))}}
	if change != nil {
		change(&cfg)
	}
	s, err := activedirectory.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// fill adds computers to an organisational unit.
func (d *domain) fill(t *testing.T, ou string, computers map[string]map[string]string) string {
	t.Helper()
	dn := "OU=" + ou + "," + d.DN
	d.Add(t, dn, "organizationalUnit", nil)
	for _, name := range sortedKeys(computers) {
		attributes := map[string]string{"sAMAccountName": strings.ReplaceAll(name, " ", "") + "$", "userAccountControl": "4096"} // a workstation
		for k, v := range computers[name] {
			attributes[k] = v
		}
		d.Add(t, "CN="+name+","+dn, "computer", attributes)
	}
	return dn
}

func sortedKeys(m map[string]map[string]string) (keys []string) {
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// fileTime is a time as Active Directory writes it.
func fileTime(at time.Time) string { return fmt.Sprint((at.Unix() + 11644473600) * 10_000_000) }

// TestSamba runs everything against one domain controller, since starting one takes seconds.
func TestSamba(t *testing.T) {
	d := startDomain(t)
	seen := time.Date(2024, 7, 15, 8, 0, 0, 0, time.UTC)
	few := d.fill(t, "Few", map[string]map[string]string{"PC0": nil, "PC1": nil, "PC2": nil})
	bad := d.fill(t, "Bad", map[string]map[string]string{"PCB0": nil, "PCB1": nil, "PCB1 two words": nil, "PCB2": nil})
	fields := d.fill(t, "Fields", map[string]map[string]string{
		"A-SEEN":     {"lastLogonTimestamp": fileTime(seen), "dNSHostName": "a-seen.fleet.test", "operatingSystem": "Windows 11", "location": "Sydney", "serialNumber": "5CG1", "netbootGUID": "\x44\x45\x4c\x4c\x44\x00\x10\x35\x80\x52\xb4\xc0\x4f\x4d\x31\x32"},
		"B-NEVER":    nil,
		"C-DISABLED": {"userAccountControl": "4098", "lastLogonTimestamp": fileTime(seen)},
		"D-CLUSTER":  {"servicePrincipalName": "MSClusterVirtualServer/D-CLUSTER"},
	})
	many := map[string]map[string]string{}
	for i := range 60 {
		many[fmt.Sprintf("M%03d", i)] = nil
	}
	manyDN := d.fill(t, "Many", many)

	in := func(ou string, change func(*activedirectory.Config)) *activedirectory.Source {
		return d.open(t, func(c *activedirectory.Config) {
			c.Base = ou
			if change != nil {
				change(c)
			}
		})
	}
	load := func(src inventory.Source) (*inventory.Fleet, error) {
		return inventory.Load(t.Context(), inventory.Options{SkipBad: true}, src)
	}
	t.Run("source", func(t *testing.T) {
		names := []string{"PC0", "PC1", "PC2"}
		sourcetest.Run(t, sourcetest.Case{Names: names,
			Good:   func(t *testing.T) inventory.Source { return ordered{in(few, nil)} },
			Broken: func(t *testing.T) inventory.Source { return in("OU=None,"+d.DN, nil) },
		})
		f, err := load(in(bad, nil))
		if err != nil || f.Usable != 3 || f.Problems.Rows != 1 {
			t.Errorf("a name that is none: %+v, %v", f, err)
		}
	})
	t.Run("paging", func(t *testing.T) {
		f, err := load(in(manyDN, func(c *activedirectory.Config) { c.Page = 25 }))
		if err != nil || f.Usable != 60 {
			t.Errorf("%+v, %v", f.Summary, err)
		}
	})
	t.Run("fields", func(t *testing.T) {
		f, err := load(ordered{in(fields, nil)})
		if err != nil || len(f.Hosts) != 3 {
			t.Fatalf("%+v, %v", f, err)
		}
		h := f.Hosts[0]
		if !h.Seen().Equal(seen) || h.Address != "a-seen.fleet.test" || h.Site != "Sydney" || h.Serial != "5CG1" || h.State != "" ||
			h.UUID != "4c4c4544-0044-3510-8052-b4c04f4d3132" || h.Labels["ou"] != fields || h.Labels["os"] != "Windows 11" {
			t.Errorf("%+v", h)
		}
		if f.Hosts[1].State != inventory.NeverOnline || f.Hosts[2].State != inventory.Retired || !strings.Contains(f.Warnings.Lines()[0], "failover cluster") {
			t.Errorf("%+v, %q", f.Hosts[1:], f.Warnings.Lines())
		}
	})
	t.Run("domain controllers", func(t *testing.T) {
		f, err := load(d.open(t, func(c *activedirectory.Config) { c.Filter = "(primaryGroupID=516)" }))
		if err != nil || len(f.Hosts) != 1 || f.Hosts[0].Name != "DC1" || f.Hosts[0].Tier != inventory.Dependency {
			t.Errorf("%+v, %v", f, err)
		}
	})
	t.Run("rights", func(t *testing.T) {
		hidden := d.fill(t, "Hidden", map[string]map[string]string{"PCH0": nil})
		// Nobody but the administrators may list what is in the unit.
		d.Tool(t, "dsacl", "set", "-H", filepath.Join(d.Dir, "ad", "private", "sam.ldb"), "-s", filepath.Join(d.Dir, "ad", "etc", "smb.conf"),
			"--objectdn="+hidden, "--action=deny", "--trusteedn=CN=reader,CN=Users,"+d.DN, "--sddl=(D;CI;LCRP;;;AU)")
		sourcetest.CheckRights(t, sourcetest.Rights{Good: in(few, nil),
			Refused: in(few, func(c *activedirectory.Config) {
				c.Login.Password = secret.Ref(sourcetest.Secretly(t, sourcetest.Wrong))
			}),
			Lacking: in(hidden, nil), Right: "List Contents",
		})
		if err := inventory.Check(t.Context(), in("", nil)); err != nil {
			t.Errorf("of the whole domain: %v", err)
		}
		var excess *inventory.ExcessError
		err := inventory.Check(t.Context(), in(few, func(c *activedirectory.Config) {
			c.Login = secret.Login{User: "Administrator@" + realm, Password: secret.Ref(sourcetest.Secretly(t, samba.Password))}
		}))
		if !errors.As(err, &excess) || !strings.Contains(excess.Has, "Admin") {
			t.Errorf("of an administrator: %v", err)
		}
	})
	t.Run("refusals", func(t *testing.T) {
		for want, change := range map[string]func(*activedirectory.Config){
			"the password is wrong": func(c *activedirectory.Config) {
				c.Login.Password = secret.Ref(sourcetest.Secretly(t, "canary-8"))
			},
			"certificate":           func(c *activedirectory.Config) { c.CA = "" },
			"cannot reach it":       func(c *activedirectory.Config) { c.Name += ":1" },
			"shows this account no": func(c *activedirectory.Config) { c.Filter = "(cn=NOBODY)" },
		} {
			if _, err := load(in(few, change)); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "canary") {
				t.Errorf("%v, want %q", err, want)
			}
		}
	})
}

func TestConfig(t *testing.T) {
	login := secret.Login{User: "u", Password: "env:X"}
	for _, cfg := range []activedirectory.Config{{}, {Name: "dc"}, {Name: "dc", Login: login, Filter: "(x"}, {Name: "dc", Login: login, CA: "/nowhere"}, {Name: "dc", Login: login, Page: -1}} {
		if _, err := activedirectory.New(cfg); err == nil {
			t.Errorf("%+v is accepted", cfg)
		}
	}
}

// ordered yields the hosts by name: a directory has no order of its own.
type ordered struct{ inventory.Source }

func (o ordered) Hosts(ctx context.Context) iter.Seq2[inventory.Host, error] {
	return func(yield func(inventory.Host, error) bool) {
		var hosts []inventory.Host
		for h, err := range o.Source.Hosts(ctx) {
			if err == nil {
				hosts = append(hosts, h)
			} else if !yield(h, err) {
				return
			}
		}
		slices.SortFunc(hosts, func(a, b inventory.Host) int { return strings.Compare(a.Name, b.Name) })
		for _, h := range hosts {
			if !yield(h, nil) {
				return
			}
		}
	}
}
