package rollback

import (
	"context"
	"fmt"

	"unbrick/inventory"
	"unbrick/remediate"
	"unbrick/remediate/swap"
)

// HasSnapshot asks a platform whether the snapshot of the present that an entry made is there, and
// changes nothing. Where the machine is not found, or another has its address now, that is an
// error.
func HasSnapshot(ctx context.Context, p Platform, e swap.Entry) (bool, error) {
	m, err := p.Reach(ctx, remediate.Target{Run: e.Run, Host: inventory.Host{Name: e.Host}, Route: inventory.Route{Driver: e.Way, Address: e.Address}})
	if err != nil {
		return false, err
	}
	defer m.Close()
	s, err := m.Look(ctx)
	if err == nil && instance(s) != e.Instance {
		err = fmt.Errorf("%s is the address of another machine now (%s)", e.Address, s.Name)
	}
	return err == nil && s.kept(e) != nil, err
}
