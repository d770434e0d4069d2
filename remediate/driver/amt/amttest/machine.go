package amttest

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Identifiers of boot sources, as firmware spells them.
const (
	SourceDisk  = "Intel(r) AMT: Force Hard-drive Boot"
	SourceCD    = "Intel(r) AMT: Force CD/DVD Boot"
	SourcePXE   = "Intel(r) AMT: Force PXE Boot"
	SourceHTTPS = "Intel(r) AMT: Force OCR UEFI HTTPS Boot"
	SourceWinRE = "Intel(r) AMT: Force OCR UEFI Boot Option 1"
)

// Power states of CIM_AssociatedPowerManagementService.
const (
	stateOn  = 2
	stateOff = 8
)

// settings are what AMT_BootSettingData holds that matters here.
type settings struct {
	special       string // BIOSSetup, UseIDER, …: the first that is set
	params        []byte
	count         int
	enforceSecure bool
}

// A machine is the host as AMT knows it, and what its next start will do.
type machine struct {
	on       bool
	timer    *time.Timer
	single   bool   // the boot configuration's role is "next single use"
	source   string // InstanceID of the chosen boot source, or none
	settings settings
	cleared  bool // the BIOS has used the options up: OptionsCleared
	boots    []Boot
}

// A State is how AMT and its host stand, for tests.
type State struct {
	On       bool
	NextOnce bool   // the next start uses Source, and that start alone
	Source   string // InstanceID of the boot source, or nothing
	Params   int    // boot parameters that are set
	Boots    []Boot // everything that the host ever started
}

// State returns how AMT stands now.
func (a *AMT) State() State {
	a.mu.Lock()
	defer a.mu.Unlock()
	return State{On: a.on, NextOnce: a.single, Source: a.source, Params: a.settings.count, Boots: slices.Clone(a.boots)}
}

// Reset has the host start anew by itself, as one does that crashes. What is set for the next
// start is used up by it.
func (a *AMT) Reset() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.on {
		a.note(Power, "reset")
		a.start()
	}
}

func (a *AMT) init() { a.on, a.cleared = !a.opt.Off, true }

// request does what RequestPowerStateChange asks, and returns its ReturnValue. The caller
// holds mu.
func (a *AMT) request(state int) int {
	switch {
	case state == 2 && !a.on:
		a.later("on", a.start)
	case state == 8 && a.on:
		a.later("off", a.stop)
	case (state == 5 || state == 10) && a.on:
		a.later("reset", a.start)
	case slices.Contains([]int{2, 5, 8, 10}, state):
		return returnTransition
	default:
		return returnParameter
	}
	return 0
}

// later does a power action, after the delay. One that follows replaces it.
func (a *AMT) later(what string, do func()) {
	a.note(Power, what)
	a.stopTimer()
	if a.opt.PowerDelay <= 0 {
		do()
		return
	}
	a.timer = time.AfterFunc(a.opt.PowerDelay, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		select {
		case <-a.closed:
		default:
			do()
		}
	})
}

func (a *AMT) stopTimer() {
	if a.timer != nil {
		a.timer.Stop()
	}
}

func (a *AMT) stop() {
	a.on = false
	a.tell(func(h Host) { h.Stop() })
}

// start is what the BIOS does: it takes what AMT has for it, which is gone then.
func (a *AMT) start() {
	was := a.on
	a.on = true
	b := a.choose()
	if a.silent(Ignored) {
		b = Boot{Source: Disk, Secure: !a.opt.NoSecureBoot}
	}
	a.single, a.source, a.settings, a.cleared = false, "", settings{}, true
	a.boots = append(a.boots, b)
	a.note(Booted, strings.TrimSpace(b.Source+" "+b.URL))
	a.tell(func(h Host) {
		if was {
			h.Stop()
		}
		h.Start(b)
	})
}

func (a *AMT) choose() Boot {
	b := Boot{Source: Disk, Secure: !a.opt.NoSecureBoot}
	if !a.single {
		return b
	}
	switch a.source {
	case SourcePXE:
		b.Source = Network
	case SourceWinRE:
		b.Source = WinRE
	case SourceCD:
		b.Source = Nothing
	case SourceHTTPS:
		// The file must be an EFI program: an ISO is not booted (MeshCentral, pull request 6301).
		b.Source, b.URL = Nothing, a.settings.url()
		if strings.HasPrefix(b.URL, "https://") && strings.HasSuffix(b.URL, ".efi") {
			b.Source = HTTPS
		}
		b.Secure = b.Secure && a.settings.enforceSecure
	}
	return b
}

// Types of boot parameters that are known here, of vendor 0x8086.
const (
	paramURL      = 1
	paramSyncRoot = 20
)

// parseParams reads the boot parameters: vendor, type (two bytes each), length (four), value,
// little endian. It returns how many there are.
func parseParams(raw []byte, each func(kind int, value []byte)) (int, error) {
	n := 0
	for ; len(raw) > 0; n++ {
		if len(raw) < 8 {
			return n, fmt.Errorf("parameter %d breaks off", n)
		}
		vendor, kind := binary.LittleEndian.Uint16(raw), binary.LittleEndian.Uint16(raw[2:])
		size := binary.LittleEndian.Uint32(raw[4:])
		raw = raw[8:]
		if vendor != 0x8086 || uint64(size) > uint64(len(raw)) {
			return n, fmt.Errorf("parameter %d is of vendor %#x and %d bytes", n, vendor, size)
		}
		each(int(kind), raw[:size])
		raw = raw[size:]
	}
	return n, nil
}

func (s settings) url() (u string) {
	_, _ = parseParams(s.params, func(kind int, value []byte) {
		if kind == paramURL {
			u = string(value)
		}
	})
	return u
}

// put takes new boot settings, by the name of their property, and returns the fault or nil.
// The caller holds mu.
func (a *AMT) put(values map[string]string) *fault {
	var s settings
	for _, name := range []string{"BIOSPause", "BIOSSetup", "ConfigurationDataReset", "PlatformErase", "ReflashBIOS", "SecureErase", "UseIDER", "UseSOL", "UseSafeMode"} {
		if values[name] == "true" && s.special == "" {
			s.special = name
		}
	}
	s.enforceSecure = values["EnforceSecureBoot"] == "true"
	raw, err := base64.StdEncoding.DecodeString(values["UefiBootParametersArray"])
	if err != nil {
		return invalid("UefiBootParametersArray is not base64")
	}
	s.params = raw
	if s.count, err = parseParams(raw, func(int, []byte) {}); err != nil {
		return invalid("UefiBootParametersArray: " + err.Error())
	}
	if want := values["UefiBootNumberOfParams"]; want != "" && want != fmt.Sprint(s.count) {
		return invalid(fmt.Sprintf("UefiBootNumberOfParams is %s, and there are %d", want, s.count))
	}
	switch {
	case len(raw) > 0 && !a.opt.recovery():
		return invalid("UefiBootParametersArray is not known")
	case (s.special != "" || s.count > 0) && a.source != "":
		// Boot Configuration Details: not while a boot source is chosen.
		return invalid("a boot source is set")
	case (s.special != "" || s.count > 0) && a.opt.consent():
		return denied()
	}
	a.settings, a.cleared = s, false
	a.note(Settings, fmt.Sprint(s.count))
	return nil
}

// order chooses the boot source, and returns the ReturnValue or a fault. The caller holds mu.
func (a *AMT) order(source string) (int, *fault) {
	switch {
	case source == "": // always allowed
	case a.opt.consent():
		return 0, denied()
	case !slices.ContainsFunc(a.sources(), func(s instance) bool { return s.get("InstanceID") == source }):
		return returnParameter, nil
	case a.settings.special != "":
		return returnFailed, nil
	case source == SourceWinRE && !a.settings.enforceSecure:
		return returnFailed, nil // seen on AMT 16: device-management-toolkit/deployment, issue 466
	}
	a.source = source
	if source == "" {
		source = "none"
	}
	a.note(Order, source)
	return 0, nil
}

// setRole gives the boot configuration its role. The caller holds mu.
func (a *AMT) setRole(config, role string) (int, *fault) {
	if config != bootConfig {
		return returnParameter, nil
	}
	switch role {
	case "1":
		if a.opt.consent() {
			return 0, denied()
		}
		a.single = true
		a.note(Role, "next single use")
	case "32768":
		a.single = false
		a.note(Role, "not next")
	default:
		return returnParameter, nil
	}
	return 0, nil
}

// note reports an action. The caller holds mu.
func (a *AMT) note(kind, detail string) {
	if a.opt.Record != nil {
		a.opt.Record(Action{Time: time.Now(), Kind: kind, Detail: detail})
	}
}
