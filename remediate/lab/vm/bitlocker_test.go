package vm_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"unbrick/bitlocker"
	"unbrick/bitlocker/fve"
	"unbrick/bitlocker/fve/fvetest"
	"unbrick/bitlocker/keytest"
	"unbrick/inventory"
	"unbrick/playbooks"
	"unbrick/playbooks/diskimage"
	"unbrick/remediate"
	"unbrick/remediate/driver/redfish/redfishtest"
	"unbrick/remediate/lab/testenv"
	"unbrick/remediate/lab/vm"
	"unbrick/remediate/rescue/agent/linux/ntfstest"
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
// recovery passwords. First the key on record is not that of the volume, and the other is not
// on record: the verdict is locked, it names what was asked for and why each did not do, and
// not a bit of the disk is changed. Then the second key is on record, and with that the host
// is repaired.
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
	other := keytest.Filing{ID: known[0].ID, Host: "WS-0001", Key: keytest.NewKey(r)}
	keys.file(other) // not the volume's
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

	if e := report.Volumes[0].Error; !strings.Contains(e, fve.ErrWrongKey.Error()) || !strings.Contains(e, "no recovery key on record") {
		t.Errorf("the verdict does not say why: %s", e)
	}

	keys.file(known[1])
	target.Attempt = 2
	report = repair(t, ctx, driver, server, target, clock)
	await(t, ctx, m, "answers on port 5985", 1)
	clock("power on after the repair to up")
	checkUp(t, m.Address())
	m.Stop()
	checkVolume(t, m.DiskImage(), before, report)
	checkReleases(t, ledgerName, other, other, known[1])
	console, err := os.ReadFile(filepath.Join(filepath.Dir(m.DiskImage()), "console.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range append(known[:], other) {
		if keytest.Leaks(k.Key, string(console)) || keytest.Leaks(k.Key, fmt.Sprintf("%+v", report)) {
			t.Error("a key is on the console or in the report")
		}
	}
}

// TestRepairEveryMethod has volumes with a Windows on each, one of each method of encryption.
// Their protection is suspended, so they need no key. The kernel decrypts and encrypts as
// package fve reads: of each volume the faulty file alone is gone afterwards. One more volume
// is locked, and stays so.
func TestRepairEveryMethod(t *testing.T) {
	needs(t)
	testenv.Need(t, "xorriso", "grub-mkimage", "ntfsrecover", "/usr/lib/grub/x86_64-efi-signed/gcdx64.efi.signed", "/usr/lib/grub/i386-pc/boot_hybrid.img")
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	server := startServer(t, ctx, nil)
	clearKey := []fvetest.Protector{{Kind: fve.ClearKey}}
	var more []string
	for _, o := range []fvetest.Options{
		{Method: fve.Elephant128}, {Method: fve.Elephant256}, {Method: fve.CBC128}, {Method: fve.CBC256}, {Method: fve.XTS256, SectorSize: 4096},
		{Protectors: []fvetest.Protector{{Kind: fve.RecoveryPassword, ID: bitlocker.KeyID{1}, Key: bitlocker.NewKey([16]byte{1})}}},
	} {
		if o.Protectors == nil {
			o.Protectors = clearKey
		}
		var volume string
		if o.SectorSize == 4096 {
			volume = ntfstest.Volume4K(t, windows()...)
		} else {
			volume = crashed(t)
			if err := os.Truncate(volume, 12<<20); err != nil { // room beyond the file system
				t.Fatal(err)
			}
		}
		if _, err := fvetest.EncryptFile(volume, o); err != nil {
			t.Fatal(err)
		}
		more = append(more, volume)
	}
	m := newMachine(t, vm.Disk{Volume: crashed(t), Encrypted: &vm.Encryption{Protectors: clearKey}, More: more})
	before := openVolumes(t, m.DiskImage())
	target := remediate.Target{Run: "r1", Attempt: 1, Route: inventory.Route{Driver: "none"},
		Host: inventory.Host{Name: "WS-0001", Serial: serial, UUID: uuid, MAC: []string{mac}}}
	img, err := server.Image(ctx, target)
	if err != nil {
		t.Fatal(err)
	}
	pb, err := playbooks.Open("crowdstrike-291")
	if err != nil {
		t.Fatal(err)
	}
	clock := stopwatch(t)
	m.Start(redfishtest.Boot{Device: redfishtest.Cd, Image: img.URL})
	report, err := server.Repair(ctx, target, pb)
	if err != nil {
		t.Errorf("repair: %v", err)
	}
	clock("power on to report")
	m.Stop()
	var verdicts []string
	for _, v := range report.Volumes {
		verdicts = append(verdicts, strings.TrimSpace(string(v.Verdict)+" "+v.Error))
	}
	both := slices.Repeat([]string{string(playbooks.Both)}, 6)
	if want := append(both, "locked protector 01000000-0000-0000-0000-000000000000: this run has no source of recovery keys"); !slices.Equal(verdicts, want) {
		t.Errorf("verdicts %q", verdicts)
	}
	after := openVolumes(t, m.DiskImage())
	if len(before) != 6 || len(after) != 6 {
		t.Fatalf("%d volumes before, %d after", len(before), len(after))
	}
	for i, was := range before {
		if was[vm.FaultyFile] == "" || was[vm.GoodFile] == "" {
			t.Fatal("the volumes were not what the test is about")
		}
		delete(was, vm.FaultyFile)
		if !maps.Equal(was, after[i]) {
			t.Errorf("volume %d has %q, want %q, or their contents differ", i+1, slices.Sorted(maps.Keys(after[i])), slices.Sorted(maps.Keys(was)))
		}
	}
}

// openVolumes returns the content of all files, by name, on each volume of a disk whose
// protection is suspended.
func openVolumes(t *testing.T, name string) (all []map[string]string) {
	t.Helper()
	img, err := diskimage.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range img.Partitions {
		if p.Kind != diskimage.BitLocker {
			continue
		}
		section := io.NewSectionReader(f, p.Start, p.Size)
		v, err := fve.Parse(section)
		if err != nil {
			t.Fatal(err)
		}
		if !v.Suspended() {
			continue
		}
		u, err := v.UnlockSuspended()
		if err != nil {
			t.Fatal(err)
		}
		r, err := u.Reader(section)
		if err != nil {
			t.Fatal(err)
		}
		volume, err := diskimage.OpenVolume(r, v.Size)
		if err != nil {
			t.Fatal(err)
		}
		files := map[string]string{}
		err = fs.WalkDir(volume, ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() || strings.HasPrefix(name, "$") {
				return err
			}
			b, err := fs.ReadFile(volume, name)
			files[name] = string(b)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, files)
	}
	return all
}

// checkReleases wants these releases on the ledger, in order, and no key.
func checkReleases(t *testing.T, name string, want ...keytest.Filing) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if n, _, err := bitlocker.VerifyLedger(bytes.NewReader(b)); err != nil || n != len(want) {
		t.Errorf("%d releases on the ledger, %v; want %d", n, err, len(want))
	}
	for i, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		if i < len(want) && !strings.Contains(line, want[i].ID.String()) || keytest.Leaks(want[min(i, len(want)-1)].Key, line) {
			t.Errorf("the ledger says %s", line)
		}
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
