package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/urfave/cli/v2"

	"unbrick/inventory/sourcetest"
	"unbrick/remediate/lab/testenv"
)

// vendors answers as NetBox with a token that may not read devices, as Snipe-IT for a token
// that it does not know, and as Graph for an application with all its rights.
func vendors(t *testing.T) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch path := r.URL.Path; {
		case path == "/api/dcim/devices/":
			w.WriteHeader(http.StatusForbidden)
		case path == "/api/v1/hardware":
			w.WriteHeader(http.StatusUnauthorized)
		case path == "/corp/oauth2/v2.0/token":
			fmt.Fprint(w, `{"access_token":"t","expires_in":3600}`)
		case path == "/v1.0/deviceManagement/managedDevices":
			fmt.Fprint(w, `{"value":[{"id":"1","deviceName":"PC1"}]}`)
		case strings.HasPrefix(path, "/api/"):
			fmt.Fprint(w, `{"count":1,"results":[]}`)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// diagnose runs doctor on a configuration and returns what it found, by check.
func diagnose(t *testing.T, dir, config string, more ...string) map[string][]diagnosis {
	t.Helper()
	write(t, filepath.Join(dir, "unbrick.yaml"), config)
	s := unbrick(t, append([]string{"doctor", "--json", "-c", filepath.Join(dir, "unbrick.yaml")}, more...)...)
	if code := s.run(t); code != exitUsage { // there is no image
		t.Fatalf("exit code %d: %s", code, s.stderr.String())
	}
	var all []diagnosis
	if err := json.Unmarshal(s.stdout.Bytes(), &all); err != nil {
		t.Fatalf("%v: %s", err, s.stdout.String())
	}
	if strings.Contains(s.stdout.String()+s.stderr.String(), sourcetest.Secret) {
		t.Error("it says the secret")
	}
	by := map[string][]diagnosis{}
	for _, d := range all {
		by[d.Check] = append(by[d.Check], d)
	}
	return by
}

func TestDoctorSources(t *testing.T) {
	url, dir := vendors(t), t.TempDir()
	token := sourcetest.Secretly(t, sourcetest.Secret)
	write(t, filepath.Join(dir, "fleet.csv"), "name\nPC1\n")
	found := diagnose(t, dir, fmt.Sprintf(`inventory: fleet.csv
sources:
  - {kind: netbox, as: dcim, url: %[1]s, token: "%[2]s"}
  - {kind: snipeit, url: %[1]s, token: "%[2]s"}
  - {kind: intune, tenant: corp, client_id: me, secret: "%[2]s", graph: %[1]s, authority: %[1]s}
  - {kind: csv, as: old, file: nowhere.csv}
  - {kind: netbox, url: %[1]s, token: "env:UNBRICK_NOT_SET"}
`, url, token))["source"]
	for i, want := range []struct{ state, found, right, hint string }{
		{"ok", "inventory: the file can be read", "", ""},
		{"missing", "dcim: cannot list dcim/devices", `"view" on dcim.device`, "grant it: Admin > Permissions"},
		{"missing", "snipeit: Snipe-IT answers with status 401", "", "token: " + token + ", line 4"},
		{"ok", "intune: the account may read", "", ""},
		{"missing", "old: cannot read inventory", "", "line 6"},
		{"missing", "env:UNBRICK_NOT_SET is empty", "", "token: env:UNBRICK_NOT_SET"},
	} {
		if i >= len(found) {
			t.Fatalf("%d lines about sources: %+v", len(found), found)
		}
		d := found[i]
		if d.State != want.state || !strings.Contains(d.Found, want.found) || !strings.Contains(d.Right, want.right) || !strings.Contains(d.Hint, want.hint) || (d.Right == "") != (want.right == "") {
			t.Errorf("got  %+v\nwant %+v", d, want)
		}
	}
}

// TestDoctorAsksOnce: a person waits for doctor. A source that is down is asked once, and the
// fleet is not read from it either.
func TestDoctorAsksOnce(t *testing.T) {
	var asked atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	t.Cleanup(s.Close)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "fleet.csv"), "name,site,ipmi\nPC1,SYD,127.0.0.1:1\n")
	found := diagnose(t, dir, fmt.Sprintf("inventory: fleet.csv\nstate: %s\nsources: [{kind: snipeit, url: %s, token: %q}]\n",
		filepath.Join(dir, "unbrick.db"), s.URL, sourcetest.Secretly(t, sourcetest.Secret)))
	if n := asked.Load(); n != 1 {
		t.Errorf("the source was asked %d times", n)
	}
	if d := found["source"]; len(d) != 2 || d[1].State != "missing" || !strings.Contains(d[1].Found, "snipeit: Snipe-IT answers with status 503") {
		t.Errorf("the source that is down: %+v", d)
	}
	if d := found["inventory"]; len(d) == 0 || d[0].State != "ok" {
		t.Errorf("the hosts of the others: %+v", d)
	}
	if d := found["SYD"]; len(d) != 1 || !strings.Contains(d[0].Found, "by ipmi, a controller for netboot and restart and no way in by itself: ") {
		t.Errorf("a controller that does not answer: %+v", d)
	}
}

func TestDoctorSecretFiles(t *testing.T) {
	if runtime.GOOS == "windows" {
		testenv.Missing(t, "file modes")
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "fleet.csv"), "name\nPC1\n")
	mode := func(name string, mode os.FileMode) {
		write(t, filepath.Join(dir, name), sourcetest.Secret)
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	mode("bmc", 0o600)
	mode("graph", 0o640)
	const config = `inventory: fleet.csv
keys: [keys.csv]
credentials: [{driver: redfish, user: u, password: "file:bmc"}]
escrows: [{vault: {url: "https://v", token: "file:vault"}}, {entra: {tenant: t, client_id: c, secret: "file:graph"}}]
sources: [{kind: csv, file: fleet.csv}, {kind: netbox, url: "http://127.0.0.1:1", token: "file:netbox"}]
`
	for name, bad := range map[string]os.FileMode{"keys.csv": 0o644, "vault": 0o620, "netbox": 0o604} {
		mode(name, bad)
	}
	write(t, filepath.Join(dir, "unbrick.yaml"), config)
	look := func() []diagnosis {
		cfg, err := loadConfig(filepath.Join(dir, "unbrick.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		p := &patient{c: cli.NewContext(cli.NewApp(), flag.NewFlagSet("", flag.ContinueOnError), nil), cfg: cfg}
		p.secretFiles()
		return p.out
	}
	found := look()
	for _, want := range []string{"keys[0]: everybody on this machine can read", "escrows[0].vault.token: others than its owner can change", "sources[1].token: everybody"} {
		if !slices.ContainsFunc(found, func(d diagnosis) bool {
			return d.State == "warning" && strings.HasPrefix(d.Found, want) && strings.HasPrefix(d.Hint, "chmod 600 ")
		}) {
			t.Errorf("%q is not said: %+v", want, found)
		}
	}
	if len(found) != 3 {
		t.Errorf("want 3 warnings: %+v", found)
	}
	for _, name := range []string{"keys.csv", "vault", "netbox"} {
		mode(name, 0o600)
	}
	if found := look(); len(found) != 1 || found[0].State != "ok" || !strings.HasPrefix(found[0].Found, "5 files") {
		t.Errorf("all is in order: %+v", found)
	}
}

// TestEachSecret: a place for a secret that is added to the configuration is looked at, too.
func TestEachSecret(t *testing.T) {
	cfg := defaults()
	cfg.WinRM.Key, cfg.Falcon.Secret = "file:a", "env:b"
	cfg.Escrows = []escrow{{ActiveDirectory: &directoryEscrow{Password: "file:c", Keytab: "d"}}, {Bundle: &bundleEscrow{First: "file:e", Second: "exec:f"}}}
	var got []string
	eachSecret(reflect.ValueOf(cfg).Elem(), "", func(s placedSecret) { got = append(got, s.place+" "+string(s.ref)) })
	slices.Sort(got)
	want := []string{".escrows[0].activedirectory.keytab file:d", ".escrows[0].activedirectory.password file:c", ".escrows[1].bundle.first file:e",
		".escrows[1].bundle.second exec:f", ".falcon.secret env:b", ".winrm.key file:a"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}
