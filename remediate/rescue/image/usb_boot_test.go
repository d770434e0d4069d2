package image_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"unbrick/bitlocker/fve"
	"unbrick/bitlocker/fve/fvetest"
	"unbrick/bitlocker/keytest"
	"unbrick/inventory"
	"unbrick/playbooks"
	"unbrick/playbooks/diskimage"
	"unbrick/remediate"
	"unbrick/remediate/rescue"
	"unbrick/remediate/rescue/agent/linux/ntfstest"
	"unbrick/remediate/rescue/image"
	"unbrick/remediate/rescue/wire"
)

// TestStick has sticks of the image for PCs: the lab's kernel knows no USB.
func TestStick(t *testing.T) {
	dir, _ := buildProfile(t, image.Client)
	t.Run("image", func(t *testing.T) { checkUSB(t, dir) })
	t.Run("repairs", func(t *testing.T) { checkStick(t, dir) })
	t.Run("repairs without a server", func(t *testing.T) { checkStickOffline(t, dir) })
}

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
}

// checkStickOffline boots a stick that asks no server on a host whose volume is locked. A
// person types the key on the console; the report is on the stick, and the key is not.
func checkStickOffline(t *testing.T, dir string) {
	s := startServer(t, dir)
	stick, _ := makeStick(t, dir, s, true)
	before, err := os.ReadFile(stick)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.NewPCG(719, 2024)
	key, id := keytest.NewKey(r), keytest.NewKeyID(r)
	volume := ntfstest.Crashed(t, 2, windowsFiles()...)
	if err := os.Truncate(volume, 12<<20); err != nil { // room beyond the file system
		t.Fatal(err)
	}
	master, err := fvetest.EncryptFile(volume, fvetest.Options{Protectors: []fvetest.Protector{{Kind: fve.RecoveryPassword, ID: id, Key: key}}})
	if err != nil {
		t.Fatal(err)
	}
	disk := ntfstest.Disk(t, volume)
	m := startStick(t, stick, disk)
	m.until(t, "key id that begins with "+id.String()[:8])
	m.until(t, "there is no such card")
	fmt.Fprint(m.keyboard, strings.ReplaceAll(key.Reveal(), "-", ""))
	m.until(t, "Press Enter to unlock")
	fmt.Fprint(m.keyboard, "\r")
	m.until(t, "opened with protector "+id.String())
	m.until(t, "take the stick out")
	m.off()

	at := mountCopy(t, dataPartition(t, stick))
	reports, err := s.Sticks().Read(t.Context(), at)
	if err != nil || len(reports) != 1 || len(reports[0].Copies) != 1 {
		t.Fatalf("reports %+v, %v", reports, err)
	}
	if result, err := reports[0].Result(); err != nil || len(result.Result.Removed()) != 1 || result.Released[0] != id.String() {
		t.Errorf("the report says %+v, %v", result, err)
	}
	after, err := os.ReadFile(stick)
	if err != nil {
		t.Fatal(err)
	}
	if system := len(before) - 65<<20; !bytes.Equal(before[:system], after[:system]) {
		t.Error("something but its data partition was changed on the stick")
	}
	if keytest.Leaks(key, m.said.String()) || keytest.Leaks(key, string(after[len(after)-65<<20:])) {
		t.Error("the typed key is on the console or on the stick")
	}
	checkUnlocked(t, ntfstest.Partition(t, disk), master)
}

// mountCopy returns a folder with the files of a FAT file system.
func mountCopy(t *testing.T, data string) string {
	t.Helper()
	ntfstest.Run(t, "fsck.vfat", "-n", data)
	to := t.TempDir()
	ntfstest.Run(t, "mcopy", "-s", "-i", data, "::/"+wire.StickReports, "::/"+wire.StickQuarantine, to)
	return to
}

// checkUnlocked looks at what became of an encrypted volume.
func checkUnlocked(t *testing.T, partition string, master [32]byte) {
	t.Helper()
	f, err := os.Open(partition)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	v, err := fve.Parse(f)
	if err != nil {
		t.Fatal(err)
	}
	u, err := v.UnlockMaster(master)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := u.Reader(f)
	if err != nil {
		t.Fatal(err)
	}
	files, err := diskimage.OpenVolume(plain, v.Size)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fs.Stat(files, faulty); err == nil {
		t.Error("the faulty file is still there")
	}
	if b, err := fs.ReadFile(files, good); err != nil || string(b) != channel+"good" {
		t.Errorf("the good file reads %q, %v", b, err)
	}
}
