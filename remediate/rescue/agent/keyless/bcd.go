package keyless

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Setting is an element of a boot entry, by its number.
type Setting uint32

// The settings that a repair has to do with.
const (
	Safeboot               Setting = 0x25000080
	SafebootAlternateShell Setting = 0x26000081 // Safe Mode with Command Prompt
	RecoverySequence       Setting = 0x14000008
	RecoveryEnabled        Setting = 0x16000009
	BootStatusPolicy       Setting = 0x250000e0
	BootMenuPolicy         Setting = 0x250000c2
	OneTimeAdvanced        Setting = 0x260000c3
)

// validated are the settings of Windows's loader that BitLocker validates unless told
// otherwise, with their names: "Default BCD validation profile".
var validated = map[Setting]string{
	0x11000001: "device", 0x12000002: "path", 0x12000030: "loadoptions", bootDebug: "bootdebug",
	0x16000040: "advancedoptions", 0x16000041: "optionsedit", 0x16000048: "nointegritychecks", 0x16000049: "testsigning",
	0x16000060: "isolatedcontext", 0x1600007b: "forcefipscrypto", 0x22000002: "systemroot", 0x22000011: "kernel",
	0x22000012: "hal", 0x22000053: "evstore", 0x25000020: "nx", 0x25000052: "restrictapiccluster",
	0x26000022: "winpe", 0x26000025: "lastknowngood", SafebootAlternateShell: "safebootalternateshell", 0x260000a0: "debug",
	0x260000f2: "hypervisordebug", 0x26000116: "hypervisorusevapic",
}

// bootDebug is validated whatever a policy says.
const bootDebug Setting = 0x16000010

// ignored are those of the settings that BitLocker ignores which a repair has to do with: "Full
// list of friendly names for ignored BCD settings". One in neither table is taken for
// validated, since settings without a name are in no list.
var ignored = map[Setting]string{
	Safeboot: "safeboot", RecoverySequence: "recoverysequence", RecoveryEnabled: "recoveryenabled",
	BootStatusPolicy: "bootstatuspolicy", BootMenuPolicy: "bootmenupolicy", OneTimeAdvanced: "onetimeadvancedoptions",
}

func (s Setting) String() string {
	for _, table := range []map[Setting]string{validated, ignored} {
		if name := table[s]; name != "" {
			return name
		}
	}
	return fmt.Sprintf("%#x", uint32(s))
}

// A Tri is a fact that may not be known.
type Tri int

// Its values.
const (
	Unknown Tri = iota
	No
	Yes
)

// A Policy is what is known of the policies that decide which boot settings BitLocker
// validates. The zero Policy knows nothing.
type Policy struct {
	// SecureBoot says that BitLocker has Secure Boot validate the platform (the volume is bound
	// to PCR 7, "Allow Secure Boot for integrity validation" not off). Then the default list
	// applies, whatever Profile says.
	SecureBoot Tri
	// Profile says how "Use enhanced Boot Configuration Data validation profile" stands.
	Profile Profile
	// Additional and Excluded are the lists of that policy where it is on: a prefix, a colon,
	// and the name or number of a setting ("winload:safeboot", "all:0x25000080").
	Additional, Excluded []string
}

// A Profile is how the policy stands on a host.
type Profile int

// Its values.
const (
	ProfileUnknown  Profile = iota
	ProfileDefault          // not configured
	ProfileOff              // as Windows 7: nearly everything is validated
	ProfileEnhanced         // with the lists
)

// Trips says whether BitLocker asks for its key after a change of that setting of Windows's
// loader, and why. Not sure means that a policy that is not known may decide otherwise.
func (p Policy) Trips(s Setting) (trips bool, why string, sure bool) {
	_, free := ignored[s]
	switch {
	case s == bootDebug:
		return true, "BitLocker always validates bootdebug", true
	case p.SecureBoot == Yes:
		return !free, fmt.Sprintf("under Secure Boot the default list applies, in which %s is %s", s, among(free)), true
	case p.Profile == ProfileEnhanced:
		return p.enhanced(s, free)
	case p.Profile == ProfileOff:
		return true, "a policy has BitLocker validate boot settings as Windows 7 did, which is nearly all", true
	case p.Profile == ProfileDefault:
		return !free, fmt.Sprintf("%s is %s by default", s, among(free)), true
	}
	return !free, fmt.Sprintf("%s is %s by default; a policy of this host that is not known may say otherwise (event 523 then names the setting)", s, among(free)), false
}

// enhanced applies the lists of the policy. A setting on both counts as validated.
func (p Policy) enhanced(s Setting, free bool) (bool, string, bool) {
	switch {
	case slices.ContainsFunc(p.Additional, s.named):
		return true, fmt.Sprintf("a policy has BitLocker validate %s", s), true
	case slices.ContainsFunc(p.Excluded, s.named):
		return false, fmt.Sprintf("a policy has BitLocker ignore %s", s), true
	}
	return !free, fmt.Sprintf("%s is %s by default, and no policy says otherwise", s, among(free)), true
}

// named says whether a line of a policy means the setting of Windows's loader.
func (s Setting) named(line string) bool {
	prefix, name, ok := strings.Cut(strings.ToLower(strings.TrimSpace(line)), ":")
	if prefix = strings.TrimSpace(prefix); !ok || prefix != "winload" && prefix != "all" {
		return false
	}
	name = strings.TrimSpace(name)
	if n, err := strconv.ParseUint(name, 0, 32); err == nil {
		return Setting(n) == s
	}
	return name == s.String()
}

func among(free bool) string {
	if free {
		return "ignored"
	}
	return "validated"
}
