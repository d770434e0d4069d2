package amt

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"strings"

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
	all, err := v.wsman.CIM.BootSourceSetting.Enumerate()
	if err := v.check(err); err != nil {
		return "", err
	}
	page, err := v.wsman.CIM.BootSourceSetting.Pull(all.Body.EnumerateResponse.EnumerationContext)
	if err := v.check(err); err != nil {
		return "", err
	}
	for _, s := range page.Body.PullResponse.BootSourceSettingItems {
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
	all, err := v.wsman.AMT.PublicKeyCertificate.Enumerate()
	if err := v.check(err); err != nil {
		return err
	}
	page, err := v.wsman.AMT.PublicKeyCertificate.Pull(all.Body.EnumerateResponse.EnumerationContext)
	if err := v.check(err); err != nil {
		return err
	}
	for _, c := range page.Body.PullResponse.PublicKeyCertificateItems {
		raw, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(c.X509Certificate), ""))
		if err == nil && c.TrustedRootCertificate && bytes.Equal(raw, root.Raw) {
			return nil
		}
	}
	return fmt.Errorf("AMT %s does not trust the rescue server: its store of root certificates lacks %q. Add it with the tool that set AMT up", v.addr.host, root.Subject)
}

// enter follows the order that the package comment gives.
func (v *visit) enter(ctx context.Context, img remediate.Image) error {
	o, err := v.plan(img)
	if err != nil {
		return err
	}
	started, err := v.recorded(ctx, wasStarted)
	if err != nil {
		return err
	}
	state, err := v.power()
	if err != nil || started && state != power.Off {
		return err
	}
	if o.source, err = v.choose(); err != nil { // before the power goes
		return err
	}
	if err := v.turn(ctx, power.Off); err != nil {
		return err
	}
	if err := v.arm(o); err != nil {
		return err
	}
	if err := v.record(ctx, wasStarted); err != nil {
		return err
	}
	return v.turn(ctx, power.On)
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
	running := started && !left && !v.target.Up // our program, unless it never came to that
	if running {
		if err := v.turn(ctx, power.Off); err != nil {
			return err
		}
	}
	if running || state == power.Off || s.UefiBootNumberOfParams > 0 {
		if err := v.clear(true); err != nil {
			return err
		}
	}
	if started && !left {
		if err := v.record(ctx, wasLeft); err != nil {
			return err
		}
	}
	return v.turn(ctx, power.On)
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
