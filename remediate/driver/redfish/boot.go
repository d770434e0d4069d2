package redfish

import (
	"context"
	"fmt"
)

// An override is what the firmware does at the next start.
type override struct {
	Target  string
	Enabled string // Once, Continuous, Disabled
	Unread  bool   // this BMC does not show it
}

func (o override) pending() bool {
	return o.Enabled != "" && o.Enabled != "Disabled" && o.Target != "" && o.Target != "None" && o.Target != "Normal"
}

// override returns what is set, by whichever way, of a system that stands as s.
func (v *visit) override(s standing) (override, error) {
	if v.dellBoot() {
		if o, err := v.dellOverride(); err != nil || o.pending() || o.Unread {
			return o, err
		}
	}
	return override{Target: s.Boot.Target, Enabled: s.Boot.Enabled}, nil
}

// bootOnce makes the next start boot virtual media, and that start alone. The caller has made
// sure that the power is off.
func (v *visit) bootOnce(ctx context.Context, s standing) error {
	if v.dellBoot() {
		return v.dellSet(ctx, "Enabled", virtualDVD)
	}
	target := v.target(s.Boot.Targets)
	if target == "" {
		return v.noTarget(s)
	}
	return v.setOverride(ctx, override{Target: target, Enabled: "Once"})
}

func (v *visit) noTarget(s standing) error {
	return fmt.Errorf("BMC %s cannot boot virtual media once: it offers %q", v.addr.host, s.Boot.Targets)
}

// setOverride changes the override, and returns when the BMC shows it. Forms of the request
// are tried in turn: everything at once, which Supermicro and AMI need; what differs, for those
// that refuse to be told what is so already; the settings resource, for those that have one.
// The mode is only ever sent as it is.
func (v *visit) setOverride(ctx context.Context, want override) error {
	var refusal error
	for form := range 3 {
		var s standing
		err := v.settle(ctx, "boot override", func() (ok bool, err error) {
			s, err = v.standing()
			return err == nil && shows(s, want), err
		}, func() error {
			path, boot := v.bootForm(form, s, want)
			if path == "" {
				return refusal // there is no settings resource
			}
			tag := s.etag
			if path != v.system.ODataID {
				tag = ""
			}
			return v.patch(path, tag, map[string]any{"Boot": boot})
		})
		if kind := kindOf(err); kind != refused && kind != missing {
			return err
		}
		refusal = err
	}
	return refusal
}

func shows(s standing, want override) bool {
	if !want.pending() {
		return !override{Target: s.Boot.Target, Enabled: s.Boot.Enabled}.pending()
	}
	return s.Boot.Target == want.Target && s.Boot.Enabled == want.Enabled
}

// bootForm returns one form of the request: where it goes, and the Boot object.
func (v *visit) bootForm(form int, s standing, want override) (path string, boot map[string]any) {
	boot = map[string]any{"BootSourceOverrideTarget": want.Target, "BootSourceOverrideEnabled": want.Enabled}
	if s.Boot.Mode != "" && form != 1 {
		boot["BootSourceOverrideMode"] = s.Boot.Mode
	}
	switch form {
	case 1:
		if s.Boot.Target == want.Target {
			delete(boot, "BootSourceOverrideTarget")
		}
		if s.Boot.Enabled == want.Enabled {
			delete(boot, "BootSourceOverrideEnabled")
		}
	case 2:
		return s.Settings.Object.Path, boot
	}
	return v.system.ODataID, boot
}

// clearOverride takes an override away, of whichever kind.
func (v *visit) clearOverride(ctx context.Context, now override) error {
	if v.dellBoot() {
		if err := v.dellClear(ctx, now); err != nil {
			return err
		}
	}
	return v.setOverride(ctx, override{Target: "None", Enabled: "Disabled"})
}
