package proxmox

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	api "unbrick/inventory/source/proxmox"
	"unbrick/remediate"
	"unbrick/remediate/swap"
)

// lendTries is how often a place on the helper is looked for, when another process took it in
// between.
const lendTries = 10

// lend hangs the disk on the helper.
func (in *instance) lend(ctx context.Context, e swap.Entry, called string) error {
	was, err := readDetail(e.Slot)
	if err != nil {
		return err
	}
	if err := in.takeOff(ctx, e); err != nil {
		return err
	}
	if err := in.forget(ctx, e.Slot.Volume); err != nil {
		return err
	}
	for try := 1; ; try++ {
		g, err := in.helper(ctx, called)
		if err != nil {
			return err
		}
		if key, _ := g.find(e.Slot.Volume); key != "" {
			return nil
		}
		key := g.free()
		if key == "" {
			return fmt.Errorf("the helper %s has no room for another disk: lower per_helper, or make another helper", name(g.Resource))
		}
		err = in.set(ctx, g, url.Values{key: {was.lent(e)}}, fmt.Sprintf("cannot hang %s on the helper %s", e.Slot.Volume, name(g.Resource)))
		var said *api.Error
		if errors.As(err, &said) && said.Status == http.StatusInternalServerError && said.Passing() && try < lendTries {
			select {
			case <-time.After(in.opt.Every): // another disk is being hung there
				continue
			case <-ctx.Done():
			}
		}
		if err != nil {
			return errors.Join(err, in.forget(ctx, e.Slot.Volume))
		}
		return in.plugged(ctx, e, called)
	}
}

// takeOff takes the disk off the guest, where it is on its way back.
func (in *instance) takeOff(ctx context.Context, e swap.Entry) error {
	g, err := in.read(ctx, in.row)
	if err != nil {
		return err
	}
	if key, _ := g.find(e.Slot.Volume); key == "" {
		return nil
	}
	if e.Snapshot {
		there, err := in.hasSnapshot(ctx, e.Mark)
		if err == nil && !there {
			err = in.snap(ctx, e)
		}
		if err != nil {
			return err
		}
	}
	return in.release(ctx, e)
}

// plugged makes sure that the helper has the disk now, and not from its next start on.
func (in *instance) plugged(ctx context.Context, e swap.Entry, called string) error {
	g, err := in.helper(ctx, called)
	if err != nil {
		return err
	}
	if _, s := g.find(e.Slot.Volume); s.value != "" {
		return nil
	}
	err = g.fit()
	if err == nil {
		err = fmt.Errorf("the helper %s did not take %s while it runs: look at its tasks", name(g.Resource), e.Slot.Volume)
	}
	return errors.Join(err, in.forget(ctx, e.Slot.Volume))
}

// free returns a key that no disk hangs on.
func (g guest) free() string {
	for i := range 31 {
		key := fmt.Sprintf("scsi%d", i)
		if _, taken := g.keys[key]; !taken {
			return key
		}
	}
	return ""
}

// lent is the disk as the helper gets it. Its cache, its limits and how it is passed through
// are matters of the guest.
func (d detail) lent(e swap.Entry) string {
	was := parseDrive(d.Key, d.Drive)
	text := []string{was.volume}
	if format := was.options["format"]; format != "" {
		text = append(text, "format="+format)
	}
	return strings.Join(append(text, "serial="+e.Mark, "backup=0", "replicate=0"), ",")
}

// recover takes the disk off the helper.
func (in *instance) recover(ctx context.Context, e swap.Entry, called string) error {
	g, err := in.helper(ctx, called)
	if err != nil {
		return err
	}
	key, s := g.find(e.Slot.Volume)
	if _, p := api.Properties(s.value); key == "" || !strings.HasPrefix(p["serial"], markPrefix) {
		return nil
	}
	if err := in.set(ctx, g, url.Values{"delete": {key}}, fmt.Sprintf("cannot take %s off the helper %s", key, name(g.Resource))); err != nil {
		return err
	}
	if g, err = in.helper(ctx, called); err != nil {
		return err
	}
	if _, s := g.find(e.Slot.Volume); s.value != "" {
		return &remediate.RetryError{After: 10 * time.Second, Err: fmt.Errorf("the helper %s has not let go of %s yet", name(g.Resource), key)}
	}
	return nil
}
