package main

import (
	"bytes"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// answerTo is an answer to each question that has no default.
func answerTo(key string) string {
	return map[string]string{
		"url": "https://cmdb.corp.example/api", "dc": "dc1.corp.example", "tenant": "corp.example", "account": `CORP\reader: "x"`,
		"keys-dc": "dc2.corp.example", "keys-tenant": "corp.example", "keys-client": "1234-5678", "keys-vault": "https://vault.corp.example:8200",
		"keys-server": "sql1.corp.example", "keys-user": "sql reader",
	}[key]
}

// TestInitCombinations: whatever is answered, the file loads, opens its sources, has a login for
// each way in, holds no secret, and says of each secret where it has to be put.
func TestInitCombinations(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	write(t, "fleet.csv", "name,site\nPC1,Sydney\nPC2,\"Auckland, east\"\n")
	ways := []string{"redfish", "winrm,netboot,ipmi", strings.Join(initWays(), ","), "libvirt"}
	keys := []string{"none", "file", "activedirectory,entra,vault,configmgr,file"}
	n := 0
	for _, kind := range initKinds() {
		for _, way := range ways {
			for _, key := range keys {
				for _, rest := range []answers{
					{"secrets": "file", "country": "AU", "timezone": "Australia/Sydney", "address": "10.0.0.5"}, {"secrets": "env", "address": "fd00::1"},
				} {
					n++
					maps.Copy(rest, answers{"source": kind, "ways": way, "keys": key})
					combination(t, rest)
				}
			}
		}
	}
	if n < 11*4*3*2 {
		t.Errorf("only %d combinations", n)
	}
}

func combination(t *testing.T, a answers) {
	t.Helper()
	args := []string{"unbrick", "init", "--yes", "--force"}
	for _, q := range questions() {
		if q.when != nil && !q.when(a) {
			continue
		}
		v := a[q.key]
		if v == "" && q.otherwise != nil {
			v = q.otherwise(a)
		}
		if v == "" {
			v = answerTo(q.key)
		}
		a[q.key] = v
		args = append(args, "--"+q.key, v)
	}
	var stdout, stderr bytes.Buffer
	if code := execute(args, &stdout, &stderr); code != 0 {
		t.Fatalf("%q: exit code %d\n%s", args, code, stderr.String())
	}
	defer os.RemoveAll(secretsFolder)
	defer os.Remove(sitesFile)
	cfg, err := loadConfig("unbrick.yaml")
	if err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	if _, err := openSources(cfg); err != nil && complete(a["source"]) {
		t.Fatalf("%q: %v", args, err)
	}
	if err := cfg.readPlaces(time.Now()); err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	for _, way := range strings.Split(a["ways"], ",") {
		if logsIn(way) && !slices.ContainsFunc(cfg.Credentials, func(c credential) bool { return c.Driver == way }) {
			t.Errorf("%q: no login for %s", args, way)
		}
		if way != "ipmi" && !slices.ContainsFunc(cfg.Ladder, func(r rung) bool { return r.Way == way }) {
			t.Errorf("%q: %s is not on the ladder", args, way)
		}
	}
	if a["source"] == "servicenow" {
		if user := cfg.Sources[0].opener.config().FieldByName("Login").FieldByName("User").String(); user != a["account"] {
			t.Errorf("user %q, want %q", user, a["account"])
		}
	}
	if cfg.hasKeys() != (a["keys"] != "none") {
		t.Errorf("%q: keys", args)
	}
	b, _ := os.ReadFile("unbrick.yaml")
	for line := range strings.SplitSeq(string(b), "\n") {
		key, ref, ok := strings.Cut(strings.TrimLeft(line, " -"), ": ")
		if ok && slices.Contains([]string{"password", "token", "secret"}, key) {
			ref = strings.Trim(ref, `"`)
			if !strings.HasPrefix(ref, a["secrets"]+":") || !strings.Contains(stderr.String(), "  "+ref+" ") {
				t.Errorf("%q: %q is not said to be put in place", args, line)
			}
		}
	}
	if _, err := os.Stat(secretsFolder); (err == nil) != strings.Contains(string(b), ` "file:secrets/`+firstSecret(string(b))) {
		t.Errorf("%q: the folder for secrets: %v", args, err)
	}
}

// firstSecret is the name of the first secret in a file, outside of comments.
func firstSecret(text string) string {
	for line := range strings.SplitSeq(text, "\n") {
		if _, name, ok := strings.Cut(line, `"file:secrets/`); ok && !strings.HasPrefix(strings.TrimSpace(line), "#") {
			return name
		}
	}
	return "none of them"
}

func TestInitFile(t *testing.T) {
	t.Chdir(t.TempDir())
	var out, stderr bytes.Buffer
	if code := execute([]string{"unbrick", "init", "--yes"}, &out, &stderr); code != 0 {
		t.Fatal(stderr.String())
	}
	info, err := os.Stat("unbrick.yaml")
	if err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != fs.FileMode(0o600) {
		t.Fatalf("%v, %v", info.Mode(), err)
	}
	write(t, "unbrick.yaml", "# mine\n")
	if code := execute([]string{"unbrick", "init", "--yes"}, &out, &stderr); code != exitUsage || !strings.Contains(stderr.String(), "is there already") {
		t.Errorf("exit code %d: %s", code, stderr.String())
	}
	if b, _ := os.ReadFile("unbrick.yaml"); string(b) != "# mine\n" {
		t.Error("it was overwritten")
	}
	// What is wrong leaves the file that is there as it is, also with --force.
	for _, args := range [][]string{
		{"--source", "netbox"}, {"--source", "excel"}, {"--source", "netbox", "--url", "http://netbox"}, {"--source", "netbox", "--url", "https://me:hunter2@netbox"},
		{"--ways", "carrier pigeon"}, {"--keys", "none,file"}, {"--country", "UK"}, {"--timezone", "Sydney"}, {"--address", "https://x"}, {"--tenant", "x"}, {"--file", "a\nb"},
	} {
		stderr.Reset()
		if code := execute(append([]string{"unbrick", "init", "--yes", "--force"}, args...), &out, &stderr); code != exitUsage || strings.Contains(stderr.String(), "hunter2") {
			t.Errorf("%q: exit code %d: %s", args, code, stderr.String())
		}
	}
	if b, _ := os.ReadFile("unbrick.yaml"); string(b) != "# mine\n" {
		t.Error("it was overwritten by what is wrong")
	}
	if code := execute([]string{"unbrick", "init", "--yes", "--out", filepath.Join("nowhere", "x.yaml")}, &out, &stderr); code != exitUsage {
		t.Errorf("into a folder that is not there: exit code %d", code)
	}
	if left, _ := filepath.Glob(".unbrick-init-*"); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}
