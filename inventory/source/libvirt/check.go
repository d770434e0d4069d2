package libvirt

import (
	"context"
	"errors"
	"io/fs"

	"unbrick/inventory"
)

// lacks names what a refusal is about.
func lacks(err error) error {
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return &inventory.RightError{Right: "access to libvirt's socket", Where: "the group libvirt; its read-only socket is enough: ?socket=/run/libvirt/libvirt-sock-ro", Err: err}
}

// Check implements [inventory.Checker].
func (s *Source) Check(ctx context.Context) error {
	l, err := connect(ctx, s.uri)
	if err != nil {
		return lacks(err)
	}
	defer l.close()
	all, _, err := l.ConnectListAllDomains(1, 0)
	switch {
	case err != nil:
		return l.because("cannot list the domains", err)
	case len(all) == 0:
		return errors.New("it has no domain")
	}
	return nil
}
