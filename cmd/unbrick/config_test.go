package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/remediate"
)

func TestConfig(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "unbrick.yaml")
	write(t, file, `
inventory: fleet.csv
keys: [a.csv, /b.csv]
playbook: ./mine.yaml
credentials:
  - {driver: redfish, site: SYD, user: syd, password: "file:syd.secret"}
  - {address: "https://10.2.*", user: net, password: "env:NET"}
  - {user: rest, password: "exec:pass bmc"}
timeouts: {repair: 90s}
`)
	cfg, err := loadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	for got, want := range map[string]string{
		cfg.Inventory:                       filepath.Join(dir, "fleet.csv"),
		cfg.Keys[0]:                         filepath.Join(dir, "a.csv"),
		cfg.Keys[1]:                         "/b.csv",
		cfg.Playbook:                        filepath.Join(dir, "mine.yaml"),
		cfg.State:                           filepath.Join(dir, "unbrick.db"),
		string(cfg.Credentials[0].Password): "file:" + filepath.Join(dir, "syd.secret"),
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if got := time.Duration(cfg.Timeouts.Repair); got != 90*time.Second {
		t.Errorf("repair takes %s", got)
	}
	if got := time.Duration(cfg.Timeouts.Leave); got != 10*time.Minute {
		t.Errorf("what is not written changed: leave takes %s", got)
	}
	for _, tt := range []struct{ site, address, user string }{
		{"SYD", "https://10.2.0.1", "syd"},
		{"AKL", "https://10.2.0.1:8443/redfish/v1", "net"},
		{"AKL", "https://10.3.0.1", "rest"},
	} {
		login, err := cfg.login(inventory.Host{Name: "h", Site: tt.site}, inventory.Route{Driver: "redfish", Address: tt.address})
		if err != nil || login.User != tt.user {
			t.Errorf("%s at %s: %q, %v; want %s", tt.address, tt.site, login.User, err, tt.user)
		}
	}
}

// A ladder has its order and limits from the file; without one it is the usual.
func TestConfigLadder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "unbrick.yaml")
	write(t, file, `
ladder:
  - {way: redfish, hosts: 40, budget: 20m, tries: 3}
  - {way: manual, budget: 4h}
wait: 0
limits: {per_subnet: 0, images_per_site: 2}
`)
	cfg, err := loadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	want := remediate.Ladder{
		{Way: "redfish", Hosts: 40, Budget: 20 * time.Minute, Tries: 3, Derive: true},
		{Way: "manual", Budget: 4 * time.Hour, Derive: true},
	}
	if got := cfg.ladder(); !slices.Equal(got, want) {
		t.Errorf("ladder %v, want %v", got, want)
	}
	if l := cfg.Limits; cfg.Wait != 0 || l.PerSubnet != 0 || l.ImagesPerSite != 2 || l.PerTechnician != 8 || l.PerSite != 10 {
		t.Errorf("wait %v, limits %+v", cfg.Wait, l)
	}
	if got := defaults().ladder(); !slices.Equal(got, remediate.DefaultLadder()) {
		t.Errorf("without one the ladder is %v", got)
	}
}

func TestConfigRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"limits: {host: 3}":              "host",
		"limits: {hosts: 0}":             "1 or more",
		"tls: maybe":                     "maybe",
		"soak: 5":                        "5",
		"soak: 5\nlimits: {hosts: many}": "many",
		"inventory: a\ninventory: b":     "inventory",
		"ladder: [{way: redfsh}]":        "no way in is called \"redfsh\"; they are winrm, redfish,",
		"ladder: [{way: redfish}, {way: winrm}, {way: redfish}]": "ladder[2]: redfish is on the ladder twice",
		"ladder: [{way: redfish, tries: -1}]":                    "ladder[0]: hosts and tries of redfish",
		"ladder: [{way: restart, stop: {failed: 50}}]":           "a share between 0 and 1",
		"ladder: [{way: restart, stop: {after: 50}}]":            "say failed: 0.5",
		"ladder: [{way: manual, stop: {failures: 5}}]":           "nothing stops persons",
		"limits: {per_subnet: -1}":                               "0 for none",
		"swap: {was_off: keep}":                                  "swap.was_off is start or leave, and not \"keep\"",
		"wait: soon":                                             "soon",
		"credentials: [{user: root, password: hunter2}]":         "file:PATH",
		"credentials: [{site: '[', password: 'env:SECRET'}]":     "not a pattern",
	} {
		file := filepath.Join(t.TempDir(), "unbrick.yaml")
		write(t, file, text)
		_, err := loadConfig(file)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "unbrick.yaml") {
			t.Errorf("%s\ngave %v; want a word of %q and the file", text, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s\nrepeats the password: %v", text, err)
		}
	}
}

func TestDefaultConfigNeedsNoFile(t *testing.T) {
	t.Chdir(t.TempDir())
	if _, err := loadConfig(""); err != nil {
		t.Error(err)
	}
	if _, err := loadConfig("unbrick.yaml"); err == nil {
		t.Error("a file that was named and is not there is no error")
	}
	if err := os.WriteFile("unbrick.yaml", []byte("tls: verify\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if cfg, err := loadConfig(""); err != nil || cfg.TLS != "verify" {
		t.Errorf("unbrick.yaml in the folder was not read: %v", err)
	}
}

// TestConfigOfComments: what is not written keeps its default, also where nothing is.
func TestConfigOfComments(t *testing.T) {
	file := filepath.Join(t.TempDir(), "unbrick.yaml")
	for _, text := range []string{"", "\n", "# limits: {hosts: 3}\n", "---\n# nothing yet\n"} {
		write(t, file, text)
		cfg, err := loadConfig(file)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		} else if cfg.Limits != defaults().Limits {
			t.Errorf("%q: limits %+v", text, cfg.Limits)
		}
	}
}

func TestListenAt(t *testing.T) {
	for _, tt := range []struct{ address, listen, told, wantListen, wantTold string }{
		{"", ":8443", "https://10.0.0.5:8443", ":8443", "https://10.0.0.5:8443"},
		{":8444", ":8443", "", ":8444", ""},
		{":8444", ":8443", "https://10.0.0.5:8443", ":8444", "https://10.0.0.5:8444"},
		{"127.0.0.1:9", ":8443", "https://[fd00::1]", "127.0.0.1:9", "https://[fd00::1]:9"},
	} {
		listen, told := tt.listen, tt.told
		listenAt(tt.address, &listen, &told)
		if listen != tt.wantListen || told != tt.wantTold {
			t.Errorf("%+v: got %s and %s", tt, listen, told)
		}
	}
}

func TestRedactedState(t *testing.T) {
	for state, want := range map[string]string{
		"unbrick.db":                             "unbrick.db",
		"postgres://db/unbrick":                  "postgres://db/unbrick",
		"postgres://u@db/unbrick":                "postgres://u@db/unbrick",
		"postgres://u:secret@db/unbrick?x=1":     "postgres://u@db/unbrick",
		"postgres://u:se:cr@et@db/unbrick":       "postgres://u@db/unbrick",
		"postgres://db/unbrick?password=secret":  "postgres://db/unbrick",
		"postgres://u@db/unbrick?a=b&password=s": "postgres://u@db/unbrick",
	} {
		if got := redactedState(state); got != want {
			t.Errorf("%s: got %s, want %s", state, got, want)
		}
	}
}

func TestEscrows(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "unbrick.yaml")
	write(t, filepath.Join(dir, "ad.secret"), "x")
	write(t, file, `
escrows:
  - activedirectory: {name: dc1.corp.example, user: reader@corp.example, password: "file:ad.secret"}
  - entra: {tenant: corp.example, token: "env:GRAPH_TOKEN"}
  - vault: {url: "https://vault.corp.example:8200", token: "env:VAULT_TOKEN"}
  - configmgr: {server: cm1.corp.example, database: CM_ABC, user: reader, password: "env:CM"}
`)
	cfg, err := loadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(cfg.Escrows[0].ActiveDirectory.Password); got != "file:"+filepath.Join(dir, "ad.secret") {
		t.Errorf("the password is at %s", got)
	}
	for i, e := range cfg.Escrows {
		if _, err := e.open(t.Context()); err != nil {
			t.Errorf("escrows[%d]: %v", i, err)
		}
	}
	if _, err := (escrow{Entra: &entraEscrow{}, Vault: &vaultEscrow{}}).open(t.Context()); err == nil {
		t.Error("two escrows in one entry were taken")
	}
	if _, err := (escrow{}).open(t.Context()); err == nil {
		t.Error("an empty entry was taken")
	}
}
