package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"unbrick/bitlocker"
	"unbrick/bitlocker/card"
	"unbrick/bitlocker/source/keyfile"
	"unbrick/inventory"
	"unbrick/remediate"
)

// A printer prints cards of one host as a run does.
type printer struct {
	*desk
	t      *testing.T
	dir    string
	ledger string
	page   card.Card // as another process had it
}

func newPrinter(t *testing.T) *printer {
	t.Helper()
	const id, digits = "4290B6C0-B17A-497A-8552-272CC30E80D4", "496298-461032-321464-595518-463221-173943-033616-139579"
	keys, err := keyfile.Read("keys.csv", strings.NewReader("host,key_id,recovery_key\nPC1,"+id+","+digits+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	p := &printer{t: t, dir: filepath.Join(t.TempDir(), "cards"), ledger: filepath.Join(t.TempDir(), "ledger")}
	ledger, err := bitlocker.OpenLedger(p.ledger)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ledger.Close() })
	cfg := defaults()
	p.desk = &desk{cfg: cfg, ledger: ledger, person: person{account: "alice"}, reason: "INC1", guard: newGuard(cfg, ledger, func(string) string { return "" })}
	p.broker = &bitlocker.Broker{Sources: []bitlocker.Source{keys}, Ledger: p.guard}
	p.page = card.Card{Host: "PC1", Actor: "alice", Reason: "INC1", Made: time.Now()}
	if p.page.ID, err = bitlocker.ParseKeyID(id); err != nil {
		t.Fatal(err)
	}
	if p.page.Key, err = bitlocker.ParseKey(digits); err != nil {
		t.Fatal(err)
	}
	return p
}

// print prints the card, or finds that it was printed.
func (p *printer) print() string {
	p.t.Helper()
	where, err := p.printFor(p.t.Context(), remediate.Target{Run: "r1", Attempt: 1, Host: inventory.Host{Name: "PC1"}}, p.dir)
	if err != nil {
		p.t.Fatal(err)
	}
	return where
}

// releases counts how often a key went out.
func (p *printer) releases() (n int) {
	p.t.Helper()
	f, err := os.Open(p.ledger)
	if err != nil {
		p.t.Fatal(err)
	}
	defer f.Close()
	if _, _, err := bitlocker.ReadLedger(f, func(e bitlocker.Event, _ string) error {
		if e.Release != nil {
			n++
		}
		return nil
	}); err != nil {
		p.t.Fatal(err)
	}
	return n
}

// TestCardCutOff ends the process that prints a card between every two steps. The next one
// prints it with one release, and no other is made after that.
func TestCardCutOff(t *testing.T) {
	const steps = 4
	for done := range steps + 1 {
		p := newPrinter(t)
		name := filepath.Join(p.dir, "PC1-4290B6C0")
		if err := os.MkdirAll(p.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		f, err := openCard(name)
		if err != nil {
			t.Fatal(err)
		}
		all := f.steps(p.page)
		if len(all) != steps {
			t.Fatalf("%d steps", len(all))
		}
		for _, step := range all[:done] {
			if err := step(); err != nil {
				t.Fatal(err)
			}
		}
		f.png.Close()
		f.html.Close()
		if done == 1 {
			if err := os.WriteFile(name+".png", []byte("half of an older version's"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want := 1
		if done == steps {
			want = 0 // the page is there
		}
		for range 3 {
			if where := p.print(); where != name+".html" {
				t.Errorf("cut off after %d steps: %s", done, where)
			}
		}
		if n := p.releases(); n != want {
			t.Errorf("cut off after %d steps: %d releases, want %d", done, n, want)
		}
		html, err := os.ReadFile(name + ".html")
		if err != nil || !strings.HasSuffix(strings.TrimSpace(string(html)), "</html>") {
			t.Errorf("cut off after %d steps: the page has %d bytes, %v", done, len(html), err)
		}
		png, err := os.ReadFile(name + ".png")
		if err != nil || !strings.HasSuffix(string(png), "IEND\xaeB`\x82") {
			t.Errorf("cut off after %d steps: the picture has %d bytes, %v", done, len(png), err)
		}
		if rest, _ := filepath.Glob(filepath.Join(p.dir, "*"+partEnding)); len(rest) > 0 {
			t.Errorf("cut off after %d steps: %q is left", done, rest)
		}
	}
}

// TestCardWithoutAPlace: where a page cannot be written no key goes out, and the host gets to a
// person all the same.
func TestCardWithoutAPlace(t *testing.T) {
	p := newPrinter(t)
	if err := os.MkdirAll(filepath.Join(p.dir, "PC1-4290B6C0.html"+partEnding), 0o700); err != nil {
		t.Fatal(err)
	}
	if where := p.print(); !strings.HasPrefix(where, "none was printed; unbrick keys card PC1 --out ") {
		t.Error(where)
	}
	if n := p.releases(); n != 0 {
		t.Errorf("%d releases", n)
	}
	if rest, _ := filepath.Glob(filepath.Join(p.dir, "*.png*")); len(rest) > 0 {
		t.Errorf("%q is left", rest)
	}
}
