package redfish

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/stmcginnis/gofish/schemas"
)

// A standing is what a system's resource says now.
type standing struct {
	PowerState string
	Boot       struct {
		Target  string   `json:"BootSourceOverrideTarget"`
		Enabled string   `json:"BootSourceOverrideEnabled"`
		Mode    string   `json:"BootSourceOverrideMode"`
		Targets []string `json:"BootSourceOverrideTarget@Redfish.AllowableValues"`
	}
	Settings struct {
		Object struct {
			Path string `json:"@odata.id"`
		} `json:"SettingsObject"`
	} `json:"@Redfish.Settings"`
	etag string
}

func (s standing) off() bool { return s.PowerState == "Off" }
func (s standing) on() bool  { return s.PowerState == "On" }

// standing reads the system's resource. It was read a moment ago when it was found: that one
// counts for the first time.
func (v *visit) standing() (s standing, err error) {
	if v.first != nil {
		s, v.first = *v.first, nil
		return s, nil
	}
	s.etag, err = v.read(v.system.ODataID, &s)
	return s, err
}

// reset sends the first of these power actions that the system offers, or the first of all
// if it does not say what it offers.
func (v *visit) reset(kinds ...schemas.ResetType) error {
	var s struct {
		Actions struct {
			Reset struct {
				Target string
				Types  []schemas.ResetType `json:"ResetType@Redfish.AllowableValues"`
			} `json:"#ComputerSystem.Reset"`
		}
	}
	if err := json.Unmarshal(v.system.RawData, &s); err != nil {
		return err
	}
	reset := s.Actions.Reset
	if reset.Target == "" {
		reset.Target = v.system.ODataID + "/Actions/ComputerSystem.Reset"
	}
	kind := kinds[0]
	for _, k := range kinds {
		if slices.Contains(reset.Types, k) {
			kind = k
			break
		}
	}
	return v.post(reset.Target, map[string]any{"ResetType": kind})
}

// powerOff switches the host off, hard, and returns when the BMC says that it is off. Asking
// for it twice does no harm, so the request is repeated after a lost answer.
func (v *visit) powerOff(ctx context.Context) error {
	return v.power(ctx, standing.off, schemas.ForceOffResetType)
}

// powerOn starts the host, and returns when the BMC says that it is on.
func (v *visit) powerOn(ctx context.Context) error {
	return v.power(ctx, standing.on, schemas.OnResetType, schemas.ForceOnResetType)
}

// power asks until the power is as wanted: some BMCs refuse an On for a while after an Off.
// Either action does nothing when the power is so already.
func (v *visit) power(ctx context.Context, done func(standing) bool, kinds ...schemas.ResetType) error {
	return v.settle(ctx, "power action "+string(kinds[0]), func() (bool, error) {
		s, err := v.standing()
		return err == nil && done(s), err
	}, func() error { return v.reset(kinds...) })
}
