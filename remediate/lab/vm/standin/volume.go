//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"unbrick/bitlocker/fve"
	"unbrick/playbooks/diskimage"
)

// Facts of 2024-07-19, as published: the channel file 291 of that day made the driver read
// out of bounds if its last write was at 04:09 UTC; that of 05:27 and later is good.
const channelDir = "Windows/System32/drivers/CrowdStrike"

var (
	channelHeader = []byte{0xAA, 0xAA, 0xAA, 0xAA, 0x01, 0x00, 0x23, 0x01}
	badFrom       = time.Date(2024, 7, 19, 4, 9, 0, 0, time.UTC)
	goodFrom      = time.Date(2024, 7, 19, 5, 27, 0, 0, time.UTC)
)

// A faultError names the file that the driver died of.
type faultError struct{ file string }

func (e *faultError) Error() string { return e.file }

// inspect returns a *faultError if the volume holds the faulty file, nil if it does not, and
// another error if it is not a system volume.
func inspect(volume fs.FS) error {
	if _, err := fs.Stat(volume, "Windows/System32/config/SYSTEM"); err != nil {
		return fmt.Errorf("no Windows on the volume: %w", err)
	}
	files, err := fs.ReadDir(volume, channelDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, f := range files {
		name := strings.ToUpper(f.Name())
		if !strings.HasPrefix(name, "C-00000291") || !strings.HasSuffix(name, ".SYS") {
			continue
		}
		info, err := f.Info()
		if err != nil {
			return err
		}
		if t := info.ModTime(); t.Before(badFrom) || !t.Before(goodFrom) {
			continue
		}
		b, err := fs.ReadFile(volume, path.Join(channelDir, f.Name()))
		if err != nil {
			return err
		}
		if bytes.HasPrefix(b, channelHeader) {
			return &faultError{f.Name()}
		}
	}
	return nil
}

// findVolume returns the device of the NTFS volume, which may take a moment to appear, and
// whether it is a BitLocker volume.
func findVolume(patience time.Duration) (dev string, locked bool, err error) {
	deadline := time.Now().Add(patience)
	for {
		names, _ := filepath.Glob("/sys/class/block/*") // the pattern is valid
		for _, name := range names {
			dev := "/dev/" + filepath.Base(name)
			switch signature(dev) {
			case "NTFS    ":
				return dev, false, nil
			case "-FVE-FS-":
				return dev, true, nil
			}
		}
		if time.Now().After(deadline) {
			return "", false, fmt.Errorf("no NTFS volume among %d block devices", len(names))
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// signature returns the name of the file system in the boot sector of dev.
func signature(dev string) string {
	f, err := os.Open(dev)
	if err != nil {
		return ""
	}
	defer f.Close()
	sector := make([]byte, 512)
	if _, err := f.ReadAt(sector, 0); err != nil {
		return ""
	}
	return string(sector[3:11])
}

// masterKey is where the firmware has what a TPM would give out.
const masterKey = "/sys/firmware/qemu_fw_cfg/by_name/opt/unbrick/tpm/raw"

// lookInside looks at a BitLocker volume as look does, with the key from the firmware. There
// is no file system to mount: it reads the plain text itself.
func lookInside(dev string) error {
	key, err := os.ReadFile(masterKey)
	if err != nil || len(key) != 32 {
		return fmt.Errorf("the TPM does not give out the key of %s: %d bytes, %v", dev, len(key), err)
	}
	f, err := os.Open(dev)
	if err != nil {
		return err
	}
	defer f.Close()
	v, err := fve.Parse(f)
	if err != nil {
		return err
	}
	u, err := v.UnlockMaster([32]byte(key))
	if err != nil {
		return err
	}
	defer u.Close()
	r, err := u.Reader(f)
	if err != nil {
		return err
	}
	volume, err := diskimage.OpenVolume(r, v.Size)
	if err != nil {
		return err
	}
	say("BitLocker is on, the TPM gave the key")
	return inspect(volume)
}
