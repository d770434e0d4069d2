package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"unbrick/remediate/engine"
)

// onCommandLine is a command line of these options.
func onCommandLine(t *testing.T, said *bytes.Buffer, options map[string]string) *cli.Context {
	t.Helper()
	set := flag.NewFlagSet("run", flag.ContinueOnError)
	for name, v := range options {
		set.String(name, v, "")
	}
	c := cli.NewContext(&cli.App{Writer: said, ErrWriter: said}, set, nil)
	c.Context = t.Context()
	return c
}

// A run of sources goes on with what they say later, whichever command hears of it, and one of a
// single host takes in nobody.
func TestRunTakesIn(t *testing.T) {
	dir := t.TempDir()
	yaml := filepath.Join(dir, "unbrick.yaml")
	write(t, yaml, "sources:\n  - {kind: csv, as: a, file: a.csv}\n  - {kind: csv, as: b, file: b.csv}\n")
	hosts := func(rows ...string) {
		write(t, filepath.Join(dir, "a.csv"), "name,site,redfish,state\n"+strings.Join(rows, "\n")+"\n")
	}
	write(t, filepath.Join(dir, "b.csv"), "name,owner\npc-1,kim\n")
	hosts("pc-1,SYD,10.0.0.1,", "pc-2,SYD,10.0.0.2,", "pc-3,AKL,10.0.0.3,", "old,SYD,10.0.0.9,retired")
	cfg, err := loadConfig(yaml)
	if err != nil {
		t.Fatal(err)
	}
	k := &kit{cfg: cfg}
	if k.playbook, err = openPlaybook(cfg.Playbook); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	c := onCommandLine(t, &said, map[string]string{"only": "site == 'SYD'"})
	if k.store, err = openStore(c, cfg); err != nil {
		t.Fatal(err)
	}
	defer k.store.Close()
	begin := func() engine.Run {
		t.Helper()
		said.Reset()
		fleet, err := loadFleetToRun(c, cfg)
		if err != nil {
			t.Fatal(err)
		}
		r, err := k.begin(t.Context(), c, fleet, "")
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	in := func(want ...string) {
		t.Helper()
		var got []string
		for r, err := range k.store.Results(t.Context(), "", "") {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, r.Host+" "+string(r.Verdict))
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("the run has %q, want %q", got, want)
		}
	}
	first := begin()
	in("pc-1 ", "pc-2 ")
	if _, err := os.Stat(cfg.fleetFile()); err != nil {
		t.Errorf("a run has not saved its fleet: %v", err)
	}

	// The same command: what is new is in the run, what is gone stays.
	hosts("pc-1,SYD,10.0.0.7,", "pc-4,SYD,10.0.0.4,", "pc-5,AKL,10.0.0.5,")
	if r := begin(); r.ID != first.ID || !strings.Contains(said.String(), "1 hosts are new in run "+r.ID+": pc-4") ||
		!strings.Contains(said.String(), "1 hosts are gone from the inventory: they stay in the run: pc-2") || !strings.Contains(said.String(), "1 hosts have changed") {
		t.Errorf("run %s of %s: %s", r.ID, first.ID, &said)
	}
	in("pc-1 ", "pc-2 ", "pc-4 ")
	if r := begin(); r.ID != first.ID || strings.Contains(said.String(), "new in run") {
		t.Errorf("the same fleet again: %s", &said)
	}

	// While it goes on: one is retired meanwhile, another is new.
	hosts("pc-1,SYD,10.0.0.7,retired", "pc-6,SYD,10.0.0.6,")
	if lines := k.refreshOnce(t.Context(), c, first.ID); !slices.Contains(lines, "1 hosts are new in run "+first.ID+": pc-6") || !slices.Contains(lines, "1 hosts are no longer in use: they are skipped: pc-1") {
		t.Errorf("%q", lines)
	}
	in("pc-1 skipped", "pc-2 ", "pc-4 ", "pc-6 ")
	hosts("pc-1,SYD,not an address,")
	if lines := k.refreshOnce(t.Context(), c, first.ID); len(lines) == 0 || !strings.Contains(lines[len(lines)-1], "the run goes on as it is") {
		t.Errorf("%q", lines)
	}

	// By another command.
	hosts("pc-7,SYD,10.0.0.8,")
	var out, errs bytes.Buffer
	if code := execute([]string{"unbrick", "inventory", "import", "-c", yaml, "--run", "latest"}, &out, &errs); code != 0 || !strings.Contains(out.String(), "1 hosts are new in run") {
		t.Errorf("exit %d: %s%s", code, &out, &errs)
	}
	in("pc-1 skipped", "pc-2 ", "pc-4 ", "pc-6 ", "pc-7 ")

	// One is at another site now: it is not gone.
	hosts("pc-7,AKL,10.0.0.8,", "pc-8,SYD,10.0.0.5,")
	const unpicked = "2 hosts no longer fit --only: they stay in the run: pc-1, pc-7" // b.csv has the one still
	if begin(); !strings.Contains(said.String(), unpicked) || strings.Contains(said.String(), "from the inventory: they stay in the run: pc-1") {
		t.Errorf("a host that moved: %s", &said)
	}
	if lines := k.refreshOnce(t.Context(), c, first.ID); !slices.Contains(lines, unpicked) {
		t.Errorf("%q", lines)
	}

	// Another selection is another run, and a run of one host takes in nobody.
	other := onCommandLine(t, &said, map[string]string{"only": "site == 'AKL'"})
	hosts("pc-5,AKL,10.0.0.5,")
	fleet, err := loadFleetToRun(other, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.begin(t.Context(), other, fleet, ""); err == nil || !strings.Contains(err.Error(), "another fleet") {
		t.Errorf("another selection: %v", err)
	}
	cfg.State = filepath.Join(dir, "one.db")
	one, err := openStore(c, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	if _, err := (&kit{cfg: cfg, store: one, playbook: k.playbook}).begin(t.Context(), c, fleet, "fix-1"); err != nil {
		t.Fatal(err)
	}
	if _, err := refreshStore(t.Context(), cfg, one, fleet, ""); err == nil || !strings.Contains(err.Error(), "it is of one host") {
		t.Errorf("a run of one host: %v", err)
	}
}
