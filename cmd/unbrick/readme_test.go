package main

import (
	"encoding/pem"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"unbrick/remediate/lab/testenv/selfsigned"
)

// TestReadme loads every piece of unbrick.yaml that the README shows: each fenced block, and
// each line of a session that names a key.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	var pieces []string
	for _, m := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		pieces = append(pieces, m[1])
	}
	line := regexp.MustCompile(`(?m)^# ((?:sources|swap|credentials): .*?[]}])(?:  +fleet\.csv: .*)?$`)
	for _, m := range line.FindAllStringSubmatch(string(text), -1) {
		pieces = append(pieces, m[1])
	}
	if len(pieces) < 15 {
		t.Fatalf("the README shows only %d pieces", len(pieces))
	}
	readmeFiles(t)
	for _, p := range pieces {
		file := "unbrick.yaml"
		write(t, file, p)
		cfg, err := loadConfig(file)
		if err != nil {
			t.Errorf("%v\n%s", err, p)
			continue
		}
		if _, err := openSources(cfg); err != nil {
			t.Errorf("%v\n%s", err, p)
		}
	}
}

// readmeFiles goes to a new folder with what the README's sources need to be there.
func readmeFiles(t *testing.T) {
	t.Helper()
	t.Chdir(t.TempDir())
	t.Setenv("GOVC_USERNAME", "unbrick@vsphere.local")
	t.Setenv("GOVC_PASSWORD", "a password")
	write(t, "clouds.yaml", "clouds: {corp: {auth: {auth_url: 'https://keystone.corp.example/v3', username: u, password: p, project_name: x, user_domain_name: Default, project_domain_name: Default}}}\n")
	c, err := selfsigned.New("pve")
	if err != nil {
		t.Fatal(err)
	}
	write(t, "pve-root-ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})))
}
