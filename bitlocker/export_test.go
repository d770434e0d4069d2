package bitlocker_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"unbrick/bitlocker"
	"unbrick/bitlocker/keytest"
)

// everyKind writes a ledger with a record of each kind and returns its path.
func everyKind(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ledger")
	l := open(t, path)
	record(t, l, "PC1")
	asked := bitlocker.Request{Actor: "alice", Purpose: "card", Reason: `a=b|c\d`, Keys: []bitlocker.Query{{ID: filing("PC1").ID, Host: "PC1"}}, Nonce: "n"}
	shown := release("PC1")
	shown.Actor, shown.Person, shown.Reason, shown.Request = "alice", true, asked.Reason, asked.Hash()
	for _, e := range []bitlocker.Event{{Asked: &asked}, {Approved: &bitlocker.Approval{Request: asked.Hash(), Actor: "bob"}}, {Release: &shown}} {
		if err := l.RecordIf(t.Context(), e, func([]bitlocker.Event) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	split := release("PC1")
	split.Withheld, split.Disagree = true, [][]string{{"a"}, {"b"}}
	if err := l.Record(t.Context(), split); err != nil {
		t.Fatal(err)
	}
	id := filing("PC1").ID
	if err := l.RecordRotation(t.Context(), bitlocker.Rotation{Query: release("PC1").Query, Step: bitlocker.RotationAsked, By: "Entra ID", Known: []bitlocker.KeyID{id}, New: id}); err != nil {
		t.Fatal(err)
	}
	if err := l.Record(t.Context(), bitlocker.Release{Query: bitlocker.Query{Host: "PC1"}, Account: "Administrator", Source: "Entra ID"}); err != nil {
		t.Fatal(err)
	}
	l.Close()
	b, _ := os.ReadFile(path)
	write(t, path, b, []byte(`{"seq":6,"key_id":"`+filing("PC1").ID.String()))
	open(t, path).Close()
	return path
}

func export(t *testing.T, path string, x bitlocker.Exporter) []string {
	t.Helper()
	var b bytes.Buffer
	x.W = &b
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, _, err := bitlocker.ReadLedger(f, x.Write); err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
}

func TestExport(t *testing.T) {
	path := everyKind(t)
	id := filing("PC1").ID.String()
	kinds := []string{"release", "asked", "approved", "release", "withheld", "rotation", "release", "cut"}
	for _, salt := range []string{"", "incident 7"} {
		for _, format := range []string{"json", "cef", "syslog"} {
			out := export(t, path, bitlocker.Exporter{Format: format, Salt: []byte(salt)})
			if len(out) != len(kinds) {
				t.Fatalf("%s: %d lines, want %d", format, len(out), len(kinds))
			}
			text := strings.Join(out, "\n")
			if strings.Contains(text, id) != (salt == "") {
				t.Errorf("%s with salt %q: the id is in it: %v", format, salt, salt != "")
			}
			if keytest.Leaks(filing("PC1").Key, text) {
				t.Errorf("%s shows the key", format)
			}
			for i, line := range out {
				if !strings.Contains(line, kinds[i]) {
					t.Errorf("%s: line %d is %s, want a %s", format, i+1, line, kinds[i])
				}
			}
		}
	}
}

// The same id has one pseudonym under one salt, and another under another.
func TestExportPseudonyms(t *testing.T) {
	path := everyKind(t)
	seen := map[string]bool{}
	for _, salt := range []string{"one", "two"} {
		of := map[string]bool{}
		for _, line := range export(t, path, bitlocker.Exporter{Format: "json", Salt: []byte(salt)}) {
			var m struct {
				ID    string `json:"key_id"`
				Asked struct {
					Keys []struct {
						ID string `json:"key_id"`
					}
				}
			}
			if err := json.Unmarshal([]byte(line), &m); err != nil {
				t.Fatal(err)
			}
			for _, k := range m.Asked.Keys {
				of[k.ID] = true
			}
			if m.ID != "" {
				of[m.ID] = true
			}
		}
		if len(of) != 1 {
			t.Errorf("%d pseudonyms of one id", len(of))
		}
		for p := range of {
			seen[p] = true
		}
	}
	if len(seen) != 2 {
		t.Error("the salt makes no difference")
	}
}

func TestExportForms(t *testing.T) {
	path := everyKind(t)
	cef := export(t, path, bitlocker.Exporter{Format: "cef"})[3]
	for _, must := range []string{
		`CEF:0|unbrick|unbrick|1|release|recovery key shown to a person|6|rt=`, " externalId=4 ", " suser=alice ", " dhost=PC1 ", ` reason=a\=b|c\\d `,
		"cs1Label=keyId cs1=" + filing("PC1").ID.String() + " ", "cs6Label=escrow cs6=keyfile keys.csv",
	} {
		if !strings.Contains(cef, must) {
			t.Errorf("%s\n lacks %s", cef, must)
		}
	}
	cef = export(t, path, bitlocker.Exporter{Format: "cef"})[6]
	if !strings.Contains(cef, "|password of a local account given out|6|") || !strings.Contains(cef, " duser=Administrator ") || strings.Contains(cef, "cs1") {
		t.Errorf("%s: not a password", cef)
	}
	header := regexp.MustCompile(`^<109>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z - unbrick - approved - CEF:0\|`)
	if line := export(t, path, bitlocker.Exporter{Format: "syslog"})[2]; !header.MatchString(line) {
		t.Errorf("%s", line)
	}
	if err := (bitlocker.Exporter{Format: "xml"}).Check(); err == nil {
		t.Error("xml is taken")
	}
}
