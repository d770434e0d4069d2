package redfish

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"unbrick/remediate"
)

// Keys of a posture's details: see Observe.
const (
	detailBMC      = "bmc"
	detailMedia    = "media "
	detailOverride = "override"
	detailEnabled  = "enabled"
)

func (v *visit) observe(ctx context.Context) (remediate.Posture, error) {
	var none remediate.Posture
	s, err := v.standing()
	if err != nil {
		return none, err
	}
	slots, err := v.slots()
	if err != nil {
		return none, err
	}
	switch {
	case s.PowerState == "":
		return none, v.later(fmt.Errorf("BMC %s does not say whether the host is on", v.addr.host))
	case len(v.usable(slots)) == 0:
		return none, v.noSlot()
	case !v.dellBoot() && v.target(s.Boot.Targets) == "":
		return none, v.noTarget(s)
	}
	p := remediate.Posture{Power: "unknown", Detail: map[string]string{detailBMC: v.product()}}
	switch {
	case s.on():
		p.Power = "on"
	case s.off():
		p.Power = "off"
	}
	ours := false
	for _, x := range slots {
		if !x.full() {
			continue
		}
		if v.ours(x, remediate.Posture{}) {
			ours = true
			continue
		}
		p.Detail[detailMedia+x.Path] = x.image()
	}
	o, err := v.override(s)
	if err == nil && o.pending() && !ours {
		p.Detail[detailOverride], p.Detail[detailEnabled] = o.Target, o.Enabled
	}
	return p, err
}

// ours says whether the image in a slot is one of ours. Some BMCs show the last part of its
// URL or nothing: then it is ours if it may be and was not there before. A posture without
// details knows nothing of before.
func (v *visit) ours(s slot, before remediate.Posture) bool {
	name := s.image()
	if strings.ContainsAny(name, `/\`) {
		return v.driver.opt.Ours(name)
	}
	if before.Detail == nil {
		return v.driver.opt.Ours("http://host/i/token/" + name)
	}
	_, was := before.Detail[detailMedia+s.Path]
	return !was
}

// enter follows the order that the package comment gives.
func (v *visit) enter(ctx context.Context, image string) error {
	s, err := v.standing()
	if err != nil {
		return err
	}
	slots, err := v.slots()
	if err != nil {
		return err
	}
	inserted := slices.ContainsFunc(slots, func(x slot) bool { return x.full() && x.holds(image) })
	if !(inserted && !s.off()) {
		if err := v.prepare(ctx, s, slots, image, inserted); err != nil {
			return err
		}
	}
	return v.powerOn(ctx)
}

// prepare makes the next start boot the image. When it returns, the power is off.
func (v *visit) prepare(ctx context.Context, s standing, slots []slot, image string, inserted bool) error {
	if len(v.usable(slots)) == 0 {
		return v.noSlot() // before the power goes
	}
	if !s.off() {
		if err := v.powerOff(ctx); err != nil {
			return err
		}
	}
	// Any other disc could be what the firmware boots.
	for _, x := range slots {
		if x.full() && x.disc() && !x.holds(image) {
			if err := v.eject(ctx, x); err != nil {
				return err
			}
		}
	}
	if !inserted {
		if err := v.insert(ctx, slots, image); err != nil {
			return err
		}
	}
	return v.bootOnce(ctx, s)
}

// leave follows the order that the package comment gives.
func (v *visit) leave(ctx context.Context, before remediate.Posture, up bool) error {
	s, err := v.standing()
	if err != nil {
		return err
	}
	slots, err := v.slots()
	if err != nil {
		return err
	}
	now, err := v.override(s)
	if err != nil {
		return err
	}
	mine := slices.DeleteFunc(slices.Clone(slots), func(x slot) bool {
		return !x.full() || x.image() == before.Detail[detailMedia+x.Path] || !v.ours(x, before)
	})
	if len(mine) > 0 && !s.off() && !up { // the image is in use, unless Windows is
		if err := v.powerOff(ctx); err != nil {
			return err
		}
	}
	for _, x := range mine {
		if err := v.eject(ctx, x); err != nil {
			return err
		}
	}
	if err := v.restoreOverride(ctx, now, before, len(mine) > 0 || s.off()); err != nil {
		return err
	}
	lost := v.restoreMedia(ctx, slots, before)
	if err := v.powerOn(ctx); err != nil {
		return err
	}
	return errors.Join(v.verify(before), lost)
}

// restoreOverride leaves no override but one that was there before and holds for good.
// touched says that the host is off because of us, so that an override may be ours although
// the BMC does not show it.
func (v *visit) restoreOverride(ctx context.Context, now override, before remediate.Posture, touched bool) error {
	was := override{Target: before.Detail[detailOverride], Enabled: before.Detail[detailEnabled]}
	switch {
	case was.pending() && now == was:
		return nil
	case was.Enabled == "Continuous" && !v.dellBoot():
		return v.setOverride(ctx, was)
	case now.pending() || now.Unread && touched:
		return v.clearOverride(ctx, now)
	}
	return nil
}

// restoreMedia puts back what was in the slots. It may need credentials that only those who
// put it there know: Windows is started all the same, and the error says what is missing.
func (v *visit) restoreMedia(ctx context.Context, slots []slot, before remediate.Posture) error {
	var errs []error
	for _, x := range slots {
		image := before.Detail[detailMedia+x.Path]
		if image == "" || x.full() && x.image() == image {
			continue
		}
		if err := v.insertInto(ctx, x, image); err != nil {
			errs = append(errs, fmt.Errorf("cannot put the image %s back into slot %s of BMC %s (Windows was started): %w", image, x.ID, v.addr.host, v.explain(ctx, err)))
		}
	}
	return errors.Join(errs...)
}

// verify reads everything once more.
func (v *visit) verify(before remediate.Posture) error {
	slots, err := v.slots()
	if err != nil {
		return err
	}
	for _, x := range slots {
		if x.full() && x.image() != before.Detail[detailMedia+x.Path] && v.ours(x, before) {
			return v.later(fmt.Errorf("BMC %s still has the image in slot %s", v.addr.host, x.ID))
		}
	}
	s, err := v.standing()
	if err != nil {
		return err
	}
	o, err := v.override(s)
	if err == nil && o.pending() && o.Target != before.Detail[detailOverride] {
		err = v.later(fmt.Errorf("BMC %s still has a boot override: %s %s", v.addr.host, o.Target, o.Enabled))
	}
	return err
}
