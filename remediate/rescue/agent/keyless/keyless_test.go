package keyless_test

import (
	"strings"
	"testing"

	"unbrick/bitlocker"
	"unbrick/bitlocker/fve"
	"unbrick/remediate/rescue/agent/keyless"
)

func TestDecide(t *testing.T) {
	defaults := keyless.Policy{Profile: keyless.ProfileDefault}
	secure := keyless.Policy{SecureBoot: keyless.Yes, Profile: keyless.ProfileOff} // which is then ignored
	with := func(lines ...string) keyless.Policy {
		return keyless.Policy{SecureBoot: keyless.No, Profile: keyless.ProfileEnhanced, Additional: lines}
	}
	kinds := func(k ...fve.Kind) []fve.Kind { return k }
	for name, c := range map[string]struct {
		kinds    []fve.Kind
		policy   keyless.Policy
		way      keyless.Way
		sure     bool
		attended bool
		why      string
	}{
		"suspended":                 {kinds(fve.TPM, fve.RecoveryPassword, fve.ClearKey), keyless.Policy{}, keyless.Open, true, false, "suspended"},
		"suspended, with PIN":       {kinds(fve.TPMAndPIN, fve.ClearKey), keyless.Policy{}, keyless.Open, true, false, "suspended"},
		"TPM":                       {kinds(fve.TPM, fve.RecoveryPassword), defaults, keyless.SafeMode, true, false, "ignored by default"},
		"TPM, policies not known":   {kinds(fve.TPM, fve.RecoveryPassword), keyless.Policy{}, keyless.SafeMode, false, false, "event 523"},
		"TPM, no recovery password": {kinds(fve.TPM), defaults, keyless.SafeMode, true, false, "TPM alone"},
		"TPM, Secure Boot":          {kinds(fve.TPM, fve.RecoveryPassword), secure, keyless.SafeMode, true, false, "Secure Boot"},
		"TPM, as Windows 7":         {kinds(fve.TPM, fve.RecoveryPassword), keyless.Policy{Profile: keyless.ProfileOff}, keyless.Key, true, false, "Windows 7"},
		"TPM, safeboot by name":     {kinds(fve.TPM, fve.RecoveryPassword), with(" WinLoad : SafeBoot"), keyless.Key, true, false, "a policy has BitLocker validate safeboot"},
		"TPM, safeboot by number":   {kinds(fve.TPM, fve.RecoveryPassword), with("all:locale", "all:0x25000080"), keyless.Key, true, false, "safeboot"},
		"TPM, the resume loader's":  {kinds(fve.TPM, fve.RecoveryPassword), with("winresume:0x25000080", "safeboot", "winload:safebootalternateshell"), keyless.SafeMode, true, false, "no policy"},
		"policy, no password":       {kinds(fve.TPM), with("winload:safeboot"), keyless.Nothing, true, false, "no recovery password"},
		"PIN":                       {kinds(fve.TPMAndPIN, fve.RecoveryPassword), secure, keyless.Key, true, true, "PIN"},
		"PIN beside TPM":            {kinds(fve.TPM, fve.TPMAndPIN, fve.RecoveryPassword), secure, keyless.Key, true, true, "PIN"},
		"PIN, no recovery password": {kinds(fve.TPMAndPIN), secure, keyless.Nothing, true, true, "PIN at each start, in Safe Mode too, and"},
		"TPM and startup key":       {kinds(fve.TPMAndStartupKey, fve.RecoveryPassword), secure, keyless.Key, true, true, "startup key"},
		"startup key":               {kinds(fve.StartupKey, fve.RecoveryPassword), secure, keyless.Key, true, true, "startup key"},
		"password":                  {kinds(fve.Password, fve.RecoveryPassword), secure, keyless.Key, true, true, "password at each start"},
		"recovery password alone":   {kinds(fve.RecoveryPassword), secure, keyless.Key, true, true, "nothing opens the volume by itself"},
		"smart card alone":          {kinds(fve.PublicKey), secure, keyless.Nothing, true, true, "nothing opens"},
		"no protector":              {nil, secure, keyless.Nothing, true, true, "nothing opens"},
	} {
		t.Run(name, func(t *testing.T) {
			d := keyless.Decide(keyless.Facts{Encrypted: true, Protectors: c.kinds, Policy: c.policy})
			if d.Way != c.way || d.Sure != c.sure || d.Attended != c.attended || !strings.Contains(d.Why, c.why) {
				t.Errorf("%+v", d)
			}
		})
	}
	if d := keyless.Decide(keyless.Facts{}); d.Way != keyless.Open {
		t.Errorf("not encrypted: %+v", d)
	}
	v := &fve.Volume{Protectors: []fve.Protector{{ID: bitlocker.KeyID{1}, Kind: fve.TPM}}}
	if d := keyless.Decide(keyless.FactsOf(v, defaults)); d.Way != keyless.SafeMode {
		t.Errorf("of a volume: %+v", d)
	}
}

// The sentences of Microsoft's list that a repair rests on.
func TestTrips(t *testing.T) {
	for s, want := range map[keyless.Setting]bool{
		keyless.Safeboot: false, keyless.RecoverySequence: false, keyless.RecoveryEnabled: false, keyless.BootStatusPolicy: false,
		keyless.BootMenuPolicy: false, keyless.OneTimeAdvanced: false,
		keyless.SafebootAlternateShell: true, 0x26000022: true, 0x25000020: true, 0x26000025: true, 0x12000002: true,
		0x11000001: true, 0x22000002: true, 0x12000030: true, 0x16000049: true, 0x260000a0: true,
		0x2600ffff: true, // in no list
	} {
		for _, p := range []keyless.Policy{{}, {SecureBoot: keyless.Yes}, {Profile: keyless.ProfileDefault}, {Profile: keyless.ProfileEnhanced}} {
			if trips, why, _ := p.Trips(s); trips != want {
				t.Errorf("%s, %+v: %t: %s", s, p, trips, why)
			}
		}
	}
	excluded := keyless.Policy{Profile: keyless.ProfileEnhanced, Excluded: []string{"winload:nx", "all:bootdebug"}}
	if trips, _, _ := excluded.Trips(0x25000020); trips {
		t.Error("nx is excluded and trips")
	}
	if trips, _, _ := excluded.Trips(0x16000010); !trips {
		t.Error("bootdebug was excluded, which has no effect")
	}
	excluded.Additional = excluded.Excluded
	if trips, _, _ := excluded.Trips(0x25000020); !trips {
		t.Error("on both lists, and ignored")
	}
}

func TestString(t *testing.T) {
	d := keyless.Decide(keyless.Facts{Encrypted: true, Protectors: []fve.Kind{fve.TPMAndPIN, fve.RecoveryPassword}})
	if s := d.String(); !strings.HasPrefix(s, "key: ") || !strings.HasSuffix(s, "when it starts") {
		t.Error(s)
	}
}
