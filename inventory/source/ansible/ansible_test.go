package ansible_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"unbrick/inventory"
	"unbrick/inventory/source/ansible"
	"unbrick/inventory/sourcetest"
)

func file(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSource(t *testing.T) {
	for name, c := range map[string]struct{ file, text, bad string }{
		"ini":  {"hosts", "[pcs]\npc[0:1]\npc2\n", "[pcs]\npc[0:1]\npc[9\npc2\n"},
		"yaml": {"hosts.yml", "all:\n  children:\n    pcs:\n      hosts:\n        pc[0:1]:\n        pc2: {}\n", "pcs:\n  hosts:\n    pc[0:1]:\n    pc[9:\n    pc2: {}\n"},
	} {
		t.Run(name, func(t *testing.T) {
			good, bad := file(t, c.file, c.text), file(t, c.file, c.bad)
			sourcetest.Run(t, sourcetest.Case{
				Names:  []string{"pc0", "pc1", "pc2"},
				Good:   func(*testing.T) inventory.Source { return ansible.Source{Path: good} },
				Bad:    func(*testing.T) inventory.Source { return ansible.Source{Path: bad} },
				Broken: func(*testing.T) inventory.Source { return ansible.Source{Path: good, Group: "none"} },
			})
		})
	}
}

func load(t *testing.T, src ansible.Source) map[string]inventory.Host {
	t.Helper()
	f, err := inventory.Load(t.Context(), inventory.Options{SkipBad: true}, src)
	if err != nil {
		t.Fatal(err)
	}
	hosts := map[string]inventory.Host{}
	for _, h := range f.Hosts {
		hosts[h.Name] = h
	}
	return hosts
}

const ini = `# the fleet
lone ansible_host=10.0.0.9 unbrick_redfish=bmc9 ; not a comment here is an error

[syd]
pc[01:03].corp.example unbrick_tier=critical  # three of them
10.0.0.7:5986
[mel]
srv-[a:c] note='a b' unbrick_address="10.1.0.1"

[au:children]
syd
mel
[au:vars]
unbrick_country=AU
dc = "au 1"
ansible_connection=winrm
ansible_password=canary-3
[syd:vars]
unbrick_timezone=Australia/Sydney
dc=syd-1
[all:vars]
unbrick_country=US
unbrick_opens=08:00
[au:children]
au
`

const yml = `
all:
  vars: {unbrick_country: US, unbrick_opens: "08:00"}
  hosts:
    lone: {ansible_host: 10.0.0.9, unbrick_redfish: bmc9}
  children:
    au:
      vars: {unbrick_country: AU, dc: au 1, ansible_connection: winrm, ansible_password: !vault canary-3}
      children:
        syd:
          vars: {unbrick_timezone: Australia/Sydney, dc: syd-1}
          hosts:
            pc[01:03].corp.example: {unbrick_tier: critical}
            10.0.0.7: {ansible_port: 5986}
        mel:
          hosts:
            srv-[a:c]: {note: a b, unbrick_address: 10.1.0.1, list: [1, 2]}
`

// TestForms: both forms of one inventory give the same hosts.
func TestForms(t *testing.T) {
	for name, text := range map[string]string{"hosts": strings.Replace(ini, " ; not a comment here is an error", "", 1), "hosts.yaml": yml} {
		hosts := load(t, ansible.Source{Path: file(t, name, text), Fields: map[string]string{"site": "dc"}})
		if len(hosts) != 8 {
			t.Errorf("%s: %d hosts", name, len(hosts))
		}
		pc, srv, lone := hosts["pc02.corp.example"], hosts["srv-b"], hosts["lone"]
		if pc.Country != "AU" || pc.TimeZone != "Australia/Sydney" || pc.Opens != "08:00" || pc.Tier != inventory.Critical || pc.Site != "syd-1" || pc.Labels["groups"] != "au syd" ||
			fmt.Sprint(pc.Routes) != "[{winrm pc02.corp.example}]" {
			t.Errorf("%s: %+v", name, pc)
		}
		if srv.Site != "au 1" || srv.Address != "10.1.0.1" || srv.Labels["groups"] != "au mel" {
			t.Errorf("%s: %+v", name, srv)
		}
		if lone.Country != "US" || fmt.Sprint(lone.Routes) != "[{redfish bmc9}]" || lone.Address != "10.0.0.9" {
			t.Errorf("%s: %+v", name, lone)
		}
		if r := hosts["10.0.0.7"].Routes; fmt.Sprint(r) != "[{winrm 10.0.0.7:5986}]" {
			t.Errorf("%s: %v", name, r)
		}
		if strings.Contains(fmt.Sprintf("%+v", hosts), "canary") {
			t.Errorf("%s: a password was read", name)
		}
		if only := load(t, ansible.Source{Path: file(t, name, text), Group: "mel"}); len(only) != 3 {
			t.Errorf("%s: group mel has %d", name, len(only))
		}
	}
}

func TestBadLines(t *testing.T) {
	path := file(t, "hosts", "pc1 ; x=1\npc2 x='a\n[group:of]\nlost\n[ok:vars]\nx\n[ok]\npc[3:1]\npc[01:5]\npc[0:9999999]\npc[1:9:0]\ngood\n")
	f, err := inventory.Load(t.Context(), inventory.Options{SkipBad: true}, ansible.Source{Path: path})
	if err != nil || f.Usable != 1 || f.Problems.Total != 9 {
		t.Errorf("%v\n%s", err, strings.Join(f.Problems.Lines(), "\n"))
	}
	for _, text := range []string{"a: [1]", "a: {hosts: [x]}", "- a", "a: b: c", "all:\n  hosts: canary-1"} {
		_, err := inventory.Load(t.Context(), inventory.Options{}, ansible.Source{Path: file(t, "hosts.yml", text)})
		if err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// FuzzAnsible: whatever the file holds, reading it ends without a panic and every host has a name.
func FuzzAnsible(f *testing.F) {
	f.Add(ini, false)
	f.Add(yml, true)
	f.Add("[a:children]\nb\n[b:children]\na\nx[1:3][a:c]", false)
	f.Fuzz(func(t *testing.T, text string, yaml bool) {
		name := "hosts"
		if yaml {
			name = "hosts.yml"
		}
		n := 0
		for h, err := range (ansible.Source{Path: file(t, name, text)}).Hosts(t.Context()) {
			if err == nil && h.Name == "" {
				t.Errorf("%+v", h)
			}
			if n++; n > 1000 {
				break
			}
		}
	})
}
