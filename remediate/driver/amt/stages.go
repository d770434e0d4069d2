package amt

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	amtboot "github.com/device-management-toolkit/go-wsman-messages/v2/pkg/wsman/amt/boot"
	"github.com/device-management-toolkit/go-wsman-messages/v2/pkg/wsman/amt/publickey"
	"github.com/device-management-toolkit/go-wsman-messages/v2/pkg/wsman/amt/setupandconfiguration"
	cimboot "github.com/device-management-toolkit/go-wsman-messages/v2/pkg/wsman/cim/boot"

	"unbrick/remediate"
	"unbrick/remediate/power"
)

func (v *visit) observe() (remediate.Posture, error) {
	var nothing remediate.Posture
	if v.driver.opt.Records == nil {
		return nothing, errors.New("cannot boot hosts by AMT: there is nowhere to record which were started")
	}
	if v.driver.opt.BootURL == nil && !v.addr.winre {
		return nothing, errNoURL
	}
	state, err := v.power()
	if err != nil {
		return nothing, err
	}
	version, err := v.version()
	if err != nil {
		return nothing, err
	}
	if err := v.unattended(); err != nil {
		return nothing, err
	}
	if _, err := v.recovery(version); err != nil {
		return nothing, err
	}
	if err := v.trusts(); err != nil {
		return nothing, err
	}
	return remediate.Posture{Power: string(state), Detail: map[string]string{"amt": version}}, nil
}

// unattended refuses AMT that asks the person in front of the host before it boots anything
// else than usual.
func (v *visit) unattended() error {
	s, err := v.wsman.AMT.SetupAndConfigurationService.Get()
	if err := v.check(err); err != nil {
		return err
	}
	o, err := v.wsman.IPS.OptInService.Get()
	if err := v.check(err); err != nil && kindOf(err) != unknown {
		return err
	}
	const forAll, received = 0xFFFFFFFF, 3 // 4 is in session
	opt := o.Body.GetAndPutResponse
	switch consented := opt.OptInState == received || opt.OptInState == received+1; {
	case consented:
	case s.Body.GetResponse.ProvisioningMode == setupandconfiguration.ClientControlMode:
		return fmt.Errorf("AMT %s is in client control mode: %s. Only admin control mode goes without", v.addr.host, askedFor)
	case opt.OptInRequired == forAll:
		return fmt.Errorf("AMT %s is set up to ask for consent to everything: %s. Set its consent policy to none or KVM", v.addr.host, askedFor)
	}
	return nil
}

const askedFor = "the person in front of the host has to read out a code before it boots from elsewhere"

// recovery returns the boot source of One-Click Recovery that the address asks for, or what
// keeps the host from having it.
func (v *visit) recovery(version string) (cimboot.Source, error) {
	what := "boot from a URL"
	if v.addr.winre {
		what = "boot the recovery environment"
	}
	if tooOld(version) {
		return "", fmt.Errorf("AMT %s is version %s and cannot %s: One-Click Recovery came with version 15. Use network boot with AMT for the power", v.addr.host, version, what)
	}
	c, err := v.wsman.AMT.BootCapabilities.Get()
	if err := v.check(err); err != nil {
		return "", err
	}
	s, err := v.settings()
	if err != nil {
		return "", err
	}
	can, on := c.Body.BootCapabilitiesGetResponse.ForceUEFIHTTPSBoot, s.UEFIHTTPSBootEnabled
	if v.addr.winre {
		can, on = c.Body.BootCapabilitiesGetResponse.ForceWinREBoot, s.WinREBootEnabled
	}
	if !can {
		return "", fmt.Errorf("AMT %s (version %s) cannot %s: this model does not have it. Use network boot with AMT for the power", v.addr.host, version, what)
	}
	if on {
		source, err := v.source()
		if source != "" || err != nil {
			return source, err
		}
	}
	return "", fmt.Errorf("AMT %s may not %s: One-Click Recovery is switched off in the host's BIOS. Use network boot with AMT for the power", v.addr.host, what)
}

// source finds the boot source that the address asks for, or none.
func (v *visit) source() (cimboot.Source, error) {
	class := v.wsman.CIM.BootSourceSetting
	all, err := list(v, func() (string, error) {
		r, err := class.Enumerate()
		return r.Body.EnumerateResponse.EnumerationContext, err
	}, func(id string) ([]cimboot.BootSourceSetting, string, error) {
		r, err := class.Pull(id)
		return r.Body.PullResponse.BootSourceSettingItems, output(r.Message), err
	})
	if err != nil {
		return "", err
	}
	for _, s := range all {
		winre := strings.HasPrefix(s.InstanceID, recoveries) && strings.Contains(strings.ToLower(s.BIOSBootString), "winre")
		if v.addr.winre && winre || !v.addr.winre && s.InstanceID == string(overHTTPS) {
			return cimboot.Source(s.InstanceID), nil
		}
	}
	return "", nil
}

// trusts makes sure that AMT's store has the root certificate of the rescue server.
func (v *visit) trusts() error {
	root := v.driver.opt.Root
	if root == nil || v.addr.winre {
		return nil
	}
	class := v.wsman.AMT.PublicKeyCertificate
	all, err := list(v, func() (string, error) {
		r, err := class.Enumerate()
		return r.Body.EnumerateResponse.EnumerationContext, err
	}, func(id string) ([]publickey.PublicKeyCertificateResponse, string, error) {
		r, err := class.Pull(id)
		return r.Body.PullResponse.PublicKeyCertificateItems, output(r.Message), err
	})
	if err != nil {
		return err
	}
	for _, c := range all {
		raw, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(c.X509Certificate), ""))
		if err == nil && c.TrustedRootCertificate && bytes.Equal(raw, root.Raw) {
			return nil
		}
	}
	return fmt.Errorf("AMT %s does not trust the rescue server: its store of root certificates lacks %q. Add it with the tool that set AMT up", v.addr.host, root.Subject)
}

// enter follows the order that the package comment gives. Of a host that was started it reads
// the options first and the power second: a power-on whose caller was killed may come true
// between the two.
func (v *visit) enter(ctx context.Context, img remediate.Image) error {
	o, err := v.plan(img)
	if err != nil {
		return err
	}
	started, err := v.recorded(ctx, wasStarted)
	if err != nil {
		return err
	}
	s, err := v.settings()
	if err != nil {
		return err
	}
	state, err := v.power()
	if err != nil || started && state != power.Off {
		return err
	}
	if !started || !v.armed(s) {
		if err := v.prepare(ctx, o); err != nil {
			return err
		}
	}
	return v.turn(ctx, power.On)
}

// armed says whether the options that were set are still there: the BIOS clears them when the
// host starts.
func (v *visit) armed(s amtboot.BootSettingDataResponse) bool {
	if v.addr.winre {
		return !s.OptionsCleared
	}
	return s.UefiBootNumberOfParams > 0
}

// prepare makes the next start boot what is wanted. When it returns, the power is off.
func (v *visit) prepare(ctx context.Context, o options) (err error) {
	if o.source, err = v.choose(); err != nil { // before the power goes
		return err
	}
	if err := v.turn(ctx, power.Off); err != nil {
		return err
	}
	if err := v.arm(o); err != nil {
		return err
	}
	return v.record(ctx, wasStarted)
}

// plan says what is to be booted, but for the source.
func (v *visit) plan(img remediate.Image) (o options, err error) {
	if !v.addr.winre {
		o.url, err = v.bootURL(img)
	}
	return o, err
}

func (v *visit) choose() (cimboot.Source, error) {
	source, err := v.source()
	if err == nil && source == "" {
		err = fmt.Errorf("AMT %s no longer offers One-Click Recovery", v.addr.host)
	}
	return source, err
}

// leave follows the order that the package comment gives.
func (v *visit) leave(ctx context.Context) error {
	started, err := v.recorded(ctx, wasStarted)
	if err != nil {
		return err
	}
	left, err := v.recorded(ctx, wasLeft)
	if err != nil {
		return err
	}
	state, err := v.power()
	if err != nil {
		return err
	}
	s, err := v.settings()
	if err != nil {
		return err
	}
	if started && !left && !v.target.Up { // our program runs, unless it never came to that
		err = v.stop(ctx)
	} else if state == power.Off || v.armed(s) {
		err = v.clear(true)
	}
	if err != nil {
		return err
	}
	if started && !left {
		if err := v.record(ctx, wasLeft); err != nil {
			return err
		}
	}
	return v.turn(ctx, power.On)
}

// stop switches the host off and clears what its next start was to boot. The power-on of an
// Enter that was killed may come true while it does: then once more.
func (v *visit) stop(ctx context.Context) error {
	for range 3 {
		if err := v.turn(ctx, power.Off); err != nil {
			return err
		}
		if err := v.clear(true); err != nil {
			return err
		}
		state, err := v.power()
		if err != nil || state == power.Off {
			return err
		}
	}
	return v.later(fmt.Errorf("the host of AMT %s does not stay off", v.addr.host))
}

// What is recorded of a target.
const (
	wasStarted = "started"
	wasLeft    = "left"
)

func (v *visit) key(what string) string { return "amt/" + what + "/" + v.target.ID() }

func (v *visit) recorded(ctx context.Context, what string) (bool, error) {
	if v.driver.opt.Records == nil {
		return false, errors.New("cannot treat hosts by AMT: there is nowhere to record which were started")
	}
	_, err := v.driver.opt.Records.Load(ctx, v.key(what))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("cannot read whether the host was %s: %w", what, err)
	}
	return true, nil
}

func (v *visit) record(ctx context.Context, what string) error {
	err := v.driver.opt.Records.Create(ctx, v.key(what), []byte("{}"))
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("cannot record that the host was %s: %w", what, err)
	}
	return nil
}
