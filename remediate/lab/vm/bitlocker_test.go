package vm_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"unbrick/bitlocker"
	"unbrick/bitlocker/fve"
	"unbrick/bitlocker/fve/fvetest"
	"unbrick/bitlocker/keytest"
	"unbrick/inventory"
	"unbrick/playbooks"
	"unbrick/remediate"
	"unbrick/remediate/driver/redfish/redfishtest"
	"unbrick/remediate/lab/testenv"
	"unbrick/remediate/lab/vm"
)

// escrow is where the organisation keeps its keys.
type escrow struct {
	mu   sync.Mutex
	keys []keytest.Filing
}

func (e *escrow) String() string { return "escrow" }

func (e *escrow) file(f keytest.Filing) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.keys = append(e.keys, f)
}

func (e *escrow) Lookup(_ context.Context, q bitlocker.Query) (bitlocker.Key, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, f := range e.keys {
		if f.ID == q.ID && bitlocker.SameHost(f.Host, q.Host) {
			return f.Key, nil
		}
	}
	return bitlocker.Key{}, bitlocker.ErrNoKey
}

// TestRepairBitLocker is TestRepair with a volume that BitLocker locks, by a TPM and two
// recovery passwords. First no key is on record: the verdict is locked, it names what is
// asked for, and not a bit of the disk is changed. Then the second key is, and with that the
// host is repaired.
func TestRepairBitLocker(t *testing.T) {
	needs(t)
	testenv.Need(t, "xorriso", "grub-mkimage", "ntfsrecover", "/usr/lib/grub/x86_64-efi-signed/gcdx64.efi.signed", "/usr/lib/grub/i386-pc/boot_hybrid.img")
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	defer cancel()
	r := rand.NewPCG(719, 2024)
	var known [2]keytest.Filing
	for i := range known {
		known[i] = keytest.Filing{ID: keytest.NewKeyID(r), Host: "WS-0001", Key: keytest.NewKey(r)}
	}
	ledgerName := filepath.Join(t.TempDir(), "ledger.jsonl")
	ledger, err := bitlocker.OpenLedger(ledgerName)
	if err != nil {
		t.Fatal(err)
	}
	defer ledger.Close()
	keys := &escrow{}
	server := startServer(t, ctx, &bitlocker.Broker{Sources: []bitlocker.Source{keys}, Ledger: ledger})
	m := newMachine(t, vm.Disk{Volume: crashed(t), Encrypted: &vm.Encryption{Protectors: []fvetest.Protector{
		{Kind: fve.TPM, ID: keytest.NewKeyID(r)},
		{Kind: fve.RecoveryPassword, ID: known[0].ID, Key: known[0].Key},
		{Kind: fve.RecoveryPassword, ID: known[1].ID, Key: known[1].Key},
	}}})
	before, err := vm.ReadVolume(m.DiskImage())
	if err != nil {
		t.Fatal(err)
	}
	whole := sum(t, m.DiskImage())
	bmc, err := redfishtest.Start(redfishtest.Options{User: "root", Password: "calvin", UUID: uuid, Serial: serial, Host: m})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bmc.Close)
	m.Attach(bmc)
	clock := stopwatch(t)
	driver := newDriver()
	target := remediate.Target{Run: "r1", Attempt: 1, Route: inventory.Route{Driver: "redfish", Address: bmc.URL()},
		Host: inventory.Host{Name: "WS-0001", Serial: serial, UUID: uuid, MAC: []string{mac}, Address: m.Address()}}

	m.Start(redfishtest.Boot{Device: redfishtest.Hdd})
	await(t, ctx, m, "BitLocker is on, the TPM gave the key", 1)
	await(t, ctx, m, "*** STOP: 0x00000050", 1)
	clock("power on to stop")

	report, err := stay(t, ctx, driver, server, target, clock, func() {
		if sum(t, m.DiskImage()) != whole {
			t.Error("the disk of a volume that could not be opened was changed")
		}
	})
	if err == nil || len(report.Volumes) != 1 || report.Volumes[0].Verdict != playbooks.Locked {
		t.Fatalf("without a key: %v, %+v", err, report)
	}
	for _, k := range known {
		if !strings.Contains(report.Volumes[0].Error, k.ID.String()) {
			t.Errorf("the verdict does not name protector %s: %s", k.ID, report.Volumes[0].Error)
		}
	}

	keys.file(known[1])
	target.Attempt = 2
	report, err = stay(t, ctx, driver, server, target, clock, func() {})
	if err != nil {
		t.Fatal("repair: ", err)
	}
	await(t, ctx, m, "answers on port 5985", 1)
	clock("power on after the repair to up")
	checkUp(t, m.Address())
	m.Stop()
	checkVolume(t, m.DiskImage(), before, report)
	checkReleases(t, ledgerName, known[1])
	console, err := os.ReadFile(filepath.Join(filepath.Dir(m.DiskImage()), "console.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range known {
		if keytest.Leaks(k.Key, string(console)) || keytest.Leaks(k.Key, fmt.Sprintf("%+v", report)) {
			t.Error("a key is on the console or in the report")
		}
	}
}

// stay boots the rescue image on the host and puts the host back. While the agent waits to be
// switched off it calls then. It returns the end of the repair.
func stay(t *testing.T, ctx context.Context, d remediate.Driver, medic remediate.Medic, target remediate.Target, clock func(string), then func()) (remediate.Report, error) {
	t.Helper()
	pb, err := playbooks.Open("crowdstrike-291")
	if err != nil {
		t.Fatal(err)
	}
	posture, err := d.Observe(ctx, target)
	if err != nil {
		t.Fatal("observe: ", err)
	}
	img, err := medic.Image(ctx, target)
	if err != nil {
		t.Fatal("image: ", err)
	}
	if err := d.Enter(ctx, target, img); err != nil {
		t.Fatal("enter: ", err)
	}
	report, end := medic.Repair(ctx, target, pb)
	clock("entered, to report")
	for _, v := range report.Volumes {
		t.Logf("%s: %s %s", v.Volume, v.Verdict, v.Error)
	}
	then()
	if err := d.Leave(ctx, target, posture); err != nil {
		t.Fatal("leave: ", err)
	}
	return report, end
}

// checkReleases wants one release on the ledger: of that key, which does not show.
func checkReleases(t *testing.T, name string, want keytest.Filing) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if n, _, err := bitlocker.VerifyLedger(bytes.NewReader(b)); err != nil || n != 1 {
		t.Errorf("%d releases on the ledger, %v", n, err)
	}
	if !strings.Contains(string(b), want.ID.String()) || keytest.Leaks(want.Key, string(b)) {
		t.Errorf("the ledger says %s", b)
	}
}

func sum(t *testing.T, name string) [sha256.Size]byte {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return [sha256.Size]byte(h.Sum(nil))
}
