package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"unbrick/remediate/lab"
	"unbrick/remediate/rescue/image"
)

// TestTrouble has something wrong with what a run needs. Each is said, with what to do,
// before any host is asked anything.
func TestTrouble(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(t *testing.T, dir string)
		args  []string
		want  []string
	}{
		{"port in use", occupy, nil, []string{"cannot listen", "rescue.listen"}},
		{"state is not one of ours", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "unbrick.db"), "a letter to my aunt")
		}, nil, []string{"unbrick.db", "--state"}},
		{"state in a folder that is not there", nil, []string{"--state", "/nowhere/at/all.db"}, []string{"/nowhere/at", "--state"}},
		{"image is not ours", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "stub", image.ISOName), strings.Repeat("not an image ", 10000))
		}, nil, []string{image.ISOName, "unbrick image build"}},
		{"no key file", func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "keys.csv")); err != nil {
				t.Fatal(err)
			}
		}, nil, []string{"keys.csv", "key_id"}},
		{"ledger was changed", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "unbrick.ledger"), "{}\n{}\n")
		}, nil, []string{"unbrick.ledger"}},
		{"playbook by another name", nil, []string{"--playbook", "crowdstrike"}, []string{"crowdstrike", "unbrick playbook list"}},
		{"address of a BMC is none", func(t *testing.T, dir string) {
			name := filepath.Join(dir, "fleet.csv")
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			write(t, name, strings.Replace(string(b), "https://127.0.0.1:", "https://root:calvin@127.0.0.1:", 1))
		}, nil, []string{`fleet.csv:2: column "redfish"`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := startTestLab(t, lab.Options{Hosts: 2, Plain: true})
			if tt.spoil != nil {
				tt.spoil(t, l.Dir)
			}
			s := unbrick(t, runOn(l, tt.args...)...)
			if code := s.run(t); code != exitUsage {
				t.Errorf("exit code %d, want %d", code, exitUsage)
			}
			for _, want := range tt.want {
				if !strings.Contains(s.stderr.String(), want) {
					t.Errorf("standard error lacks %q:\n%s", want, s.stderr.String())
				}
			}
			if strings.Contains(s.stderr.String(), "calvin") {
				t.Error("it repeats a password")
			}
			if done := bmcActions(l); len(done) > 0 {
				t.Errorf("hosts were touched: %+v", done)
			}
		})
	}
}

// occupy listens where the lab's configuration wants to.
func occupy(t *testing.T, dir string) {
	t.Helper()
	cfg, err := loadConfig(filepath.Join(dir, "unbrick.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", cfg.Rescue.Listen)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
}

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
