package amt

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	amtboot "github.com/device-management-toolkit/go-wsman-messages/v2/pkg/wsman/amt/boot"
	cimboot "github.com/device-management-toolkit/go-wsman-messages/v2/pkg/wsman/cim/boot"

	"unbrick/remediate"
)

// What AMT calls things.
const (
	network    = cimboot.PXE
	overHTTPS  = cimboot.OCRUEFIHTTPS
	recoveries = "Intel(r) AMT: Force OCR UEFI Boot Option" // and a number

	bootConfig = "Intel(r) AMT: Boot Configuration 0"
	singleUse  = 1     // role: for the next start alone
	notNext    = 32768 // role: not for the next start
)

// options are what one start boots.
type options struct {
	source     cimboot.Source
	url        string // of overHTTPS
	keepSecure bool   // leave EnforceSecureBoot as it is, else it is set
}

// arm sets what the next start boots, and that start alone, in the order that Intel's guide
// gives: no source, settings, role, source. Once more does no harm.
func (v *visit) arm(o options) error {
	if err := v.order(""); err != nil {
		return err
	}
	params := ""
	count := 0
	if o.url != "" {
		var err error
		if params, count, err = parameters(o.url); err != nil {
			return err
		}
	}
	if err := v.put(params, count, func(was bool) bool { return was || !o.keepSecure }); err != nil {
		return err
	}
	if err := v.role(singleUse); err != nil {
		return err
	}
	return v.order(o.source)
}

// clear takes back what was set. anew says that Secure Boot's enforcement was ours, too.
func (v *visit) clear(anew bool) error {
	if err := v.order(""); err != nil {
		return err
	}
	if err := v.put("", 0, func(was bool) bool { return was && !anew }); err != nil {
		return err
	}
	return v.role(notNext)
}

// order chooses the boot source; the empty one is none.
func (v *visit) order(source cimboot.Source) error {
	r, err := v.wsman.CIM.BootConfigSetting.ChangeBootOrder(source)
	if n := r.Body.ChangeBootOrder_OUTPUT.ReturnValue; n != 0 {
		return v.returned("boot source "+string(source), int(n))
	}
	return v.check(err)
}

func (v *visit) role(role int) error {
	r, err := v.wsman.CIM.BootService.SetBootConfigRole(bootConfig, role)
	if err := v.check(err); err != nil {
		return err
	}
	return v.returned("boot role", int(r.Body.SetBootConfigRole_OUTPUT.ReturnValue))
}

// put writes the boot settings: everything off but what is given.
func (v *visit) put(params string, count int, secure func(was bool) bool) error {
	now, err := v.settings()
	if err != nil {
		return err
	}
	_, err = v.wsman.AMT.BootSettingData.Put(amtboot.BootSettingDataRequest{
		InstanceID: now.InstanceID, ElementName: now.ElementName, OwningEntity: now.OwningEntity,
		EnforceSecureBoot:       secure(now.EnforceSecureBoot),
		UefiBootParametersArray: params, UefiBootNumberOfParams: count,
	})
	return v.check(err)
}

func (v *visit) settings() (amtboot.BootSettingDataResponse, error) {
	r, err := v.wsman.AMT.BootSettingData.Get()
	return r.Body.BootSettingDataGetResponse, v.check(err)
}

// parameters returns the boot parameters for a URL, as AMT takes them, and how many they are.
// The second one has the BIOS take AMT's root certificates for its own during this start.
func parameters(u string) (string, int, error) {
	at, err := amtboot.NewStringParameter(amtboot.OCR_EFI_NETWORK_DEVICE_PATH, u)
	if err != nil {
		return "", 0, err
	}
	all := []amtboot.TLVParameter{at, amtboot.NewBoolParameter(amtboot.OCR_HTTPS_CERT_SYNC_ROOT_CA, true)}
	raw, err := amtboot.CreateTLVBuffer(all)
	return base64.StdEncoding.EncodeToString(raw), len(all), err
}

// maxURL is the longest that AMT takes.
const maxURL = 300

// bootURL returns the URL of the EFI program for an image, if it is one that firmware boots.
func (v *visit) bootURL(img remediate.Image) (string, error) {
	if v.driver.opt.BootURL == nil {
		return "", errNoURL
	}
	text, err := v.driver.opt.BootURL(img)
	if err != nil {
		return "", fmt.Errorf("cannot tell what AMT is to boot: %w", err)
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil:
		return "", fmt.Errorf("cannot boot a host from a URL that is not https: AMT refuses others. Give the rescue server a certificate and an https address")
	case !strings.HasSuffix(strings.ToLower(u.Path), ".efi"):
		return "", fmt.Errorf("cannot boot a host from a URL that does not end in .efi: firmware boots an EFI program and no ISO")
	case len(text) > maxURL:
		return "", fmt.Errorf("cannot boot a host from a URL of %d bytes: AMT takes %d", len(text), maxURL)
	}
	return text, nil
}

var errNoURL = fmt.Errorf("cannot boot hosts by AMT's One-Click Recovery: no https address is set up that has an EFI program. Use network boot with AMT for the power, or the path /winre")

// version returns AMT's version, as 16.1.25; empty if it does not say.
func (v *visit) version() (string, error) {
	r, err := v.wsman.CIM.SoftwareIdentity.GetByInstanceID("AMT")
	if err := v.check(err); kindOf(err) == unknown {
		return "", nil
	} else if err != nil {
		return "", err
	}
	return v.clean(r.Body.SoftwareIdentityResponse.VersionString), nil
}

// tooOld says whether a version is known and before 15, the first with One-Click Recovery.
func tooOld(version string) bool {
	major, _, _ := strings.Cut(version, ".")
	n, err := strconv.Atoi(major)
	return err == nil && n < 15
}
