package fve_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"unbrick/bitlocker"
	"unbrick/bitlocker/fve"
	"unbrick/bitlocker/fve/fvetest"
	"unbrick/bitlocker/keytest"
)

const (
	mib       = 1 << 20
	blockSize = 64 << 10
)

// blocks are places for the metadata of a volume of a MiB.
var blocks = [3]int64{256 << 10, 512 << 10, 768 << 10}

// disk is a volume in memory.
type disk []byte

func (d disk) ReadAt(p []byte, off int64) (int, error)  { return bytes.NewReader(d).ReadAt(p, off) }
func (d disk) WriteAt(p []byte, off int64) (int, error) { return copy(d[off:], p), nil }

// plain is what is on the volumes of these tests.
func plain() disk {
	d := make(disk, mib)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(d)
	return d
}

// volume makes an encrypted volume of a MiB.
func volume(t testing.TB, o fvetest.Options) (disk, [32]byte) {
	t.Helper()
	d := plain()
	if o.Blocks == ([3]int64{}) {
		o.Blocks = blocks
	}
	master, err := fvetest.Encrypt(d, int64(len(d)), o)
	if err != nil {
		t.Fatal(err)
	}
	return d, master
}

func parse(t testing.TB, d disk) *fve.Volume {
	t.Helper()
	v, err := fve.Parse(d)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// protectors are two recovery passwords and a TPM, as on most hosts that were enrolled twice.
func protectors(seed uint64) []fvetest.Protector {
	r := rand.NewPCG(seed, 719)
	return []fvetest.Protector{
		{Kind: fve.TPM, ID: keytest.NewKeyID(r)},
		{Kind: fve.RecoveryPassword, ID: keytest.NewKeyID(r), Key: keytest.NewKey(r)},
		{Kind: fve.RecoveryPassword, ID: keytest.NewKeyID(r), Key: keytest.NewKey(r)},
	}
}

// content reads an open volume whole.
func content(t testing.TB, u *fve.Unlocked, d disk) []byte {
	t.Helper()
	r, err := u.Reader(d)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(io.NewSectionReader(r, 0, u.Volume().Size))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// visible is what an open volume must show: what was on it, and zeros where the metadata is.
func visible(v *fve.Volume) []byte {
	b := plain()
	for _, s := range v.Segments() {
		if s.Zero {
			clear(b[s.Offset : s.Offset+s.Length])
		}
	}
	return b
}

func TestMethods(t *testing.T) {
	for _, method := range []fve.Method{fve.Elephant128, fve.Elephant256, fve.CBC128, fve.CBC256, fve.XTS128, fve.XTS256} {
		for _, sector := range []int{512, 4096} {
			t.Run(method.String()+map[int]string{512: "", 4096: " 4K"}[sector], func(t *testing.T) {
				ps := protectors(1)
				if method != fve.XTS128 {
					ps = ps[:1] // a recovery password takes a million hashes, and is the same for all
				}
				d, master := volume(t, fvetest.Options{Method: method, SectorSize: sector, Description: "PC1 C: 18.07.2024", Protectors: ps})
				if bytes.Contains(d, plain()[4096:4096+64]) {
					t.Fatal("the volume is not encrypted")
				}
				v := parse(t, d)
				if v.Method != method || v.SectorSize != sector || v.Size != mib || v.Description != "PC1 C: 18.07.2024" || v.Converted() != nil || len(v.Notes) != 0 {
					t.Errorf("read %+v", v)
				}
				for i, p := range v.Protectors {
					if p.ID != ps[i].ID || p.Kind != ps[i].Kind || p.Created.Year() != 2024 {
						t.Errorf("protector %d: %s %s of %s", i, p.Kind, p.ID, p.Created)
					}
				}
				if len(ps) == 3 && !slices.Equal(v.RecoveryIDs(), []bitlocker.KeyID{ps[1].ID, ps[2].ID}) || v.Suspended() {
					t.Errorf("recovery passwords %v, suspended %t", v.RecoveryIDs(), v.Suspended())
				}
				u, err := v.UnlockMaster(master)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(content(t, u, d), visible(v)) {
					t.Error("the open volume does not show what was on it")
				}
			})
		}
	}
}

// Law: whatever piece of the volume is read, it is that piece of the whole.
func TestReaderPieces(t *testing.T) {
	d, master := volume(t, fvetest.Options{SectorSize: 4096})
	v := parse(t, d)
	u, err := v.UnlockMaster(master)
	if err != nil {
		t.Fatal(err)
	}
	r, err := u.Reader(d)
	if err != nil {
		t.Fatal(err)
	}
	want := visible(v)
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		at := rnd.IntN(mib)
		b := make([]byte, rnd.IntN(min(mib-at, 80<<10)+1))
		if n, err := r.ReadAt(b, int64(at)); err != nil || n != len(b) || !bytes.Equal(b, want[at:at+n]) {
			t.Fatalf("%d bytes at %d: %d, %v", len(b), at, n, err)
		}
	}
	if n, err := r.ReadAt(make([]byte, 100), mib-10); n != 10 || err != io.EOF {
		t.Errorf("over the end: %d, %v", n, err)
	}
	if _, err := r.ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("read before the beginning")
	}
}

func TestUnlock(t *testing.T) {
	ps := protectors(2)
	d, _ := volume(t, fvetest.Options{Protectors: ps})
	v := parse(t, d)
	for name, c := range map[string]struct {
		key  bitlocker.Key
		id   bitlocker.KeyID
		want string // in the error; empty: it opens
	}{
		"first":               {ps[1].Key, ps[1].ID, ""},
		"second":              {ps[2].Key, ps[2].ID, ""},
		"key of the other":    {ps[2].Key, ps[1].ID, fve.ErrWrongKey.Error()},
		"id of a TPM":         {ps[1].Key, ps[0].ID, "no recovery password with id " + ps[0].ID.String()},
		"id of another host":  {ps[1].Key, protectors(3)[1].ID, "no recovery password with id"},
		"key of another host": {protectors(3)[1].Key, ps[1].ID, fve.ErrWrongKey.Error()},
		"no key":              {bitlocker.Key{}, ps[1].ID, fve.ErrWrongKey.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u, err := v.Unlock(c.key, c.id)
			if c.want != "" {
				if err == nil || u != nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("said %v, want %q", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(content(t, u, d), visible(v)) {
				t.Error("the open volume does not show what was on it")
			}
		})
	}
}

func TestSuspended(t *testing.T) {
	d, _ := volume(t, fvetest.Options{Method: fve.CBC256, Protectors: append(protectors(4)[:1], fvetest.Protector{Kind: fve.ClearKey, ID: bitlocker.KeyID{1}})})
	v := parse(t, d)
	u, err := v.UnlockSuspended()
	if err != nil || !v.Suspended() {
		t.Fatal(err, v.Suspended())
	}
	if !bytes.Equal(content(t, u, d), visible(v)) {
		t.Error("the open volume does not show what was on it")
	}
	d, _ = volume(t, fvetest.Options{Protectors: protectors(4)[:1]})
	if _, err := parse(t, d).UnlockSuspended(); err == nil {
		t.Error("a volume that is not suspended opened without a key")
	}
}

func TestRefused(t *testing.T) {
	whole, _ := volume(t, fvetest.Options{})
	for name, c := range map[string]struct {
		change func(d disk) disk
		want   error // nil: any
	}{
		"NTFS":  {func(d disk) disk { copy(d, "\xeb\x52\x90NTFS    "); return d }, fve.ErrNotBitLocker},
		"FAT":   {func(d disk) disk { copy(d[3:], "MSWIN4.1"); return d }, fve.ErrNotBitLocker},
		"empty": {func(d disk) disk { return nil }, fve.ErrNotBitLocker},
		"Vista": {func(d disk) disk { copy(d, "\xeb\x52\x90"); return d }, fve.ErrVista},
		"encrypt on write": {func(d disk) disk {
			copy(d[160:], "\x3b\x4d\xa8\x92\x80\xdd\x0e\x4d\x9e\x4e\xb1\xe3\x28\x4e\xae\xd8")
			return d
		}, fve.ErrEncryptOnWrite},
		"unknown GUID": {func(d disk) disk { d[160]++; return d }, nil},
		"sector size":  {func(d disk) disk { d[12] = 3; return d }, nil},
		"cut off":      {func(d disk) disk { return d[:200<<10] }, nil},
		"all blocks gone": {func(d disk) disk {
			for _, at := range blocks {
				d[at+100]++
			}
			return d
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := fve.Parse(c.change(slices.Clone(whole))); err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("said %v, want %v", err, c.want)
			}
		})
	}
}

func TestConverting(t *testing.T) {
	for _, c := range []struct{ state, next fve.State }{
		{fve.Encrypting, fve.Encrypted}, {fve.Encrypted, fve.Decrypted}, {fve.Decrypting, fve.Decrypting}, {9, 4},
	} {
		ps := protectors(5)[:1]
		d, master := volume(t, fvetest.Options{State: c.state, Next: c.next, Protectors: append(ps, fvetest.Protector{Kind: fve.ClearKey})})
		v := parse(t, d)
		_, err := v.UnlockMaster(master)
		_, err2 := v.UnlockSuspended()
		_, err3 := v.Unlock(bitlocker.Key{}, ps[0].ID)
		for _, err := range []error{err, err2, err3} {
			if !errors.Is(err, fve.ErrConverting) {
				t.Errorf("%s to %s: %v", c.state, c.next, err)
			}
		}
	}
}

func TestToGo(t *testing.T) {
	d, master := volume(t, fvetest.Options{})
	copy(d[424:], d[160:160+40])
	clear(d[160 : 160+40])
	copy(d[3:], "MSWIN4.1")
	v := parse(t, d)
	u, err := v.UnlockMaster(master)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(content(t, u, d), visible(v)) {
		t.Error("the open volume does not show what was on it")
	}
}

// A block that is damaged is passed over, and said to be.
func TestOneBlockIsEnough(t *testing.T) {
	whole, master := volume(t, fvetest.Options{})
	for good := range 3 {
		d := slices.Clone(whole)
		for i, at := range blocks {
			if i != good {
				d[at+20]++
			}
		}
		v := parse(t, d)
		if len(v.Notes) != 2 || !strings.Contains(v.Notes[0], "checksum") {
			t.Errorf("block %d: noted %q", good, v.Notes)
		}
		if _, err := v.UnlockMaster(master); err != nil {
			t.Errorf("block %d: %v", good, err)
		}
	}
	d := slices.Clone(whole)
	patch(d, 1, 120, 0x55)
	if v := parse(t, d); len(v.Notes) != 1 || !strings.Contains(v.Notes[0], "block 2 of 3 differs") {
		t.Errorf("noted %q", v.Notes)
	}
}

// patch changes a byte of a block, and its checksum to match.
func patch(d disk, block, at int, to byte) {
	b := d[blocks[block]:]
	b[at] = to
	if size := int(binary.LittleEndian.Uint16(b[8:])) * 16; size <= blockSize-8 {
		binary.LittleEndian.PutUint32(b[size+4:], crc32.ChecksumIEEE(b[:size]))
	}
}

// Whoever changes the metadata without a key is found out, whatever the checksum says.
func TestTampered(t *testing.T) {
	whole, master := volume(t, fvetest.Options{Description: "PC1", Protectors: append(protectors(6)[:1], fvetest.Protector{Kind: fve.ClearKey})})
	size := int(binary.LittleEndian.Uint16(whole[blocks[0]+8:])) * 16
	for name, change := range map[string]func(d disk){
		"description": func(d disk) { patch(d, 0, 64+48+8, 'X') },
		"created":     func(d disk) { patch(d, 0, 64+40, 1) },
		"no seal":     func(d disk) { clear(d[int(blocks[0])+size+8:][:100]) },
		"seal":        func(d disk) { d[int(blocks[0])+size+60]++ },
	} {
		t.Run(name, func(t *testing.T) {
			d := slices.Clone(whole)
			change(d)
			v := parse(t, d)
			if _, err := v.UnlockMaster(master); !errors.Is(err, fve.ErrTampered) {
				t.Errorf("said %v", err)
			}
			if _, err := v.UnlockSuspended(); !errors.Is(err, fve.ErrTampered) {
				t.Errorf("suspended: said %v", err)
			}
		})
	}
	if _, err := parse(t, whole).UnlockMaster([32]byte{1}); !errors.Is(err, fve.ErrWrongKey) {
		t.Errorf("another volume's key: %v", err)
	}
}
