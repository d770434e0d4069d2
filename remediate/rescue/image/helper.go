package image

import (
	"errors"
	"fmt"
	"io"
	"os"

	"unbrick/remediate/rescue/wire"
)

// Helper writes the ISO that a helper boots to a new file that nobody but its owner can read,
// since the helper's token is in it: the rescue image with cfg in the place for the
// configuration. The helper needs no disk of its own.
func Helper(name string, img *Image, cfg wire.Config) (err error) {
	if img.Manifest.Profile == WinPE {
		return errors.New("cannot make a helper of a WinPE image; make it of one that unbrick image build made")
	}
	if cfg.Helper == nil {
		return errors.New("cannot make a helper of the configuration of something else")
	}
	window, err := cfg.Window()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("cannot write the helper's image: %w", err)
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			os.Remove(name)
			err = fmt.Errorf("cannot write the helper's image: %w", err)
		}
	}()
	if _, err := io.Copy(f, io.NewSectionReader(img, 0, img.Size)); err != nil {
		return err
	}
	if _, err := f.WriteAt(window, img.ConfigOffset); err != nil {
		return err
	}
	return f.Sync()
}
