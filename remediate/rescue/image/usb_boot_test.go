package image_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/playbooks"
	"unbrick/remediate"
	"unbrick/remediate/rescue"
	"unbrick/remediate/rescue/agent/linux/ntfstest"
	"unbrick/remediate/rescue/image"
	"unbrick/remediate/rescue/wire"
)

// makeStick makes the image of a new stick and returns its name.
func makeStick(t *testing.T, dir string, s *rescue.Server, offline bool) (name string, cfg wire.Config) {
	t.Helper()
	pb, err := playbooks.Open("crowdstrike-291")
	if err != nil {
		t.Fatal(err)
	}
	cfg, err = s.Sticks().Issue(t.Context(), rescue.StickOrder{
		URL: s.AgentURL(), By: "Alice Jones", Sites: []string{"SYD"}, Until: time.Now().Add(time.Hour), Playbook: pb, Offline: offline,
	})
	if err != nil {
		t.Fatal(err)
	}
	img, err := image.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	name = filepath.Join(t.TempDir(), "stick.img")
	if err := image.USB(name, img, cfg); err != nil {
		t.Fatal(err)
	}
	return name, cfg
}

// startStick starts a machine from a stick.
func startStick(t *testing.T, stick, disk string) *machine {
	return startQEMU(t, disk, "-drive", "if=none,id=boot,format=raw,file="+stick)
}

// checkStick boots a stick that knows nothing of the host, with Secure Boot on. The server
// finds the host that waits for a person, and the ordinary repair follows.
func checkStick(t *testing.T, dir string) {
	s := startServer(t, dir)
	stick, cfg := makeStick(t, dir, s, false)
	target := remediate.Target{Run: "r1", Attempt: 1, Route: inventory.Route{Driver: "manual"},
		Host: inventory.Host{Name: "pc1", UUID: hostUUID, Serial: "SN0001", Site: "SYD"}}
	if err := s.Await(t.Context(), target, "a person"); err != nil {
		t.Fatal(err)
	}
	disk := ntfstest.Disk(t, ntfstest.Crashed(t, 2, windowsFiles()...))
	m := startStick(t, stick, disk)
	m.until(t, "Secure Boot true")
	m.until(t, "let in as pc1")
	pb, err := playbooks.Open("crowdstrike-291")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	defer cancel()
	report, err := s.RepairByStick(ctx, target, pb)
	if err != nil {
		t.Fatalf("repair: %v", err)
	}
	m.until(t, "take the stick out")
	m.off()
	if removed := report.Removed(); len(removed) != 1 || removed[0].Path != faulty {
		t.Errorf("removed %+v", removed)
	}
	if !strings.Contains(report.Agent, "stick "+cfg.Stick.ID+", carried by Alice Jones") {
		t.Errorf("the report is by %q", report.Agent)
	}
	if _, err := ntfstest.Cat(ntfstest.Partition(t, disk), faulty); err == nil {
		t.Error("the faulty file is still there")
	}
	if _, err := os.Stat(stick); err != nil {
		t.Error(err)
	}
}
