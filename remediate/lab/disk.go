package lab

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"unbrick/bitlocker"
	"unbrick/playbooks"
	"unbrick/playbooks/volumetest"
	"unbrick/remediate/rescue/wire"
)

// What the incident left on disks, from the vendor's own statement: content that begins with
// the header, last written while the faulty version was out, or after it was taken back.
var (
	header     = [...]byte{0xAA, 0xAA, 0xAA, 0xAA, 0x01, 0x00, 0x23, 0x01}
	faultyFrom = time.Date(2024, 7, 19, 4, 9, 0, 0, time.UTC)
	goodFrom   = time.Date(2024, 7, 19, 5, 27, 0, 0, time.UTC)
)

const (
	sensorFolder = "System32/drivers/CrowdStrike"
	faultyFile   = "Windows/" + sensorFolder + "/C-00000291-00000000-00000031.sys"
	goodFile     = "Windows/" + sensorFolder + "/C-00000291-00000000-00000032.sys"
)

// newDisk makes the system volume of a host of kind k.
func newDisk(k kind) *volumetest.Volume {
	v := volumetest.New()
	roots := []string{"Windows"}
	if k.windows > 1 {
		roots = append(roots, "Windows.old/WINDOWS")
	}
	installed := faultyFrom.AddDate(-1, 0, 0)
	for _, root := range roots {
		v.Add(root+"/System32/config/SYSTEM", installed, []byte("regf"))
		v.Add(root+"/System32/ntoskrnl.exe", installed, []byte("MZ"))
		if !k.sensor {
			continue
		}
		folder := path.Join(root, sensorFolder)
		v.Add(folder+"/csagent.sys", installed, []byte("MZ"))
		v.Add(folder+"/C-00000285-00000000-00000007.sys", installed, append(header[:6:6], 0x1D, 0x01))
		if k.faulty {
			v.Add(path.Join(folder, path.Base(faultyFile)), faultyFrom.Add(7*time.Second), append(header[:], "faulty"...))
		}
		if k.good {
			v.Add(path.Join(folder, path.Base(goodFile)), goodFrom.Add(time.Minute), append(header[:], "good"...))
		}
	}
	return v
}

// crashes says what happens when the disk is booted. It looks for itself, with none of the
// code that repairs.
func (h *host) crashes() bool {
	if h.kind.broken {
		return true
	}
	dir := path.Join("Windows", sensorFolder)
	entries, err := fs.ReadDir(h.disk, dir)
	if err != nil {
		return false
	}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && strings.HasPrefix(e.Name(), "C-00000291") && !info.ModTime().Before(faultyFrom) && info.ModTime().Before(goodFrom) {
			return true
		}
	}
	return false
}

// A volume is the system volume as the fixer sees it, in one boot.
type volume struct {
	h        *host
	unlocked atomic.Bool
}

func (v *volume) Name() string { return "disk0p3" }

func (v *volume) Protectors() []string {
	if !v.h.kind.encrypted || v.unlocked.Load() {
		return nil
	}
	return []string{v.h.protector.String()}
}

func (v *volume) Unlock(_ context.Context, protector string, key bitlocker.Key) error {
	if protector != v.h.protector.String() || !key.Equal(v.h.key) {
		return errors.New("wrong key")
	}
	v.unlocked.Store(true)
	return nil
}

func (v *volume) Open(_ context.Context, write bool, _ wire.Allow) (playbooks.Volume, io.Closer, error) {
	if len(v.Protectors()) > 0 {
		return nil, nil, errors.New("the volume is locked")
	}
	if !write {
		return readOnly{v.h.disk}, io.NopCloser(nil), nil
	}
	return v.h.disk, io.NopCloser(nil), nil
}

// readOnly is a volume that was mounted to be looked at.
type readOnly struct{ fs.FS }

func (readOnly) Remove(name string) error {
	return &fs.PathError{Op: "remove", Path: name, Err: errors.New("read-only file system")}
}

func (readOnly) WriteFile(name string, _ []byte) error {
	return &fs.PathError{Op: "write", Path: name, Err: errors.New("read-only file system")}
}
