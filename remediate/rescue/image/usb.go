package image

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"unbrick/remediate/rescue/wire"
)

// dataSize is the size of the partition of a stick that takes reports and copies of removed
// files: a host leaves a few tens of KiB.
const dataSize = 64 << 20

// USB writes the image of a stick to a new file that nobody but its owner can read, since the
// stick's token is in it. It is the ISO, which starts from a stick as it does from a CD, with
// two changes: cfg is in the place for the configuration, and behind it is one more partition,
// an empty FAT file system for what the stick brings back. Nothing else than the image is
// needed for it: it works on any platform.
func USB(name string, img *Image, cfg wire.Config) (err error) {
	if img.Manifest.Profile == WinPE {
		return errors.New("cannot make a stick of a WinPE image: it starts from CDs alone; make it of one that unbrick image build made")
	}
	if cfg.Stick == nil {
		return errors.New("cannot make a stick of the configuration of one host")
	}
	if img.Manifest.Profile == Lab {
		return errors.New("the lab's image cannot be a stick: its kernel knows no USB; build one with --profile client")
	}
	serial, err := strconv.ParseUint(cfg.Stick.ID, 16, 32)
	if err != nil {
		return fmt.Errorf("cannot make a stick called %q", cfg.Stick.ID)
	}
	window, err := cfg.Window()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("cannot write the stick's image: %w", err)
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			os.Remove(name)
			err = fmt.Errorf("cannot write the stick's image: %w", err)
		}
	}()
	if _, err := io.Copy(f, io.NewSectionReader(img, 0, img.Size)); err != nil {
		return err
	}
	if _, err := f.WriteAt(window, img.ConfigOffset); err != nil {
		return err
	}
	start, err := addPartition(f, img.Size, dataSize)
	if err != nil {
		return err
	}
	if err := formatFAT(f, start, dataSize, wire.StickVolume, uint32(serial)); err != nil {
		return err
	}
	return f.Sync()
}
