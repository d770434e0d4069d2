// Package keyless decides whether a locked Windows needs a recovery key at all to be repaired:
// a key that is not given out cannot leak, and need not be rotated. It decides by what the
// volume says of itself without a key, and by what is known of the host's policies; it reads
// and changes nothing.
//
// The one way round a key is to have Windows open its volume by itself, in Safe Mode with
// Networking, where most third-party drivers are not loaded and WinRM may be. That takes one
// boot setting, and BitLocker asks for the key where a boot setting changed that it validates.
// Which it does is in "BCD settings and BitLocker" of Microsoft's Windows documentation
// (windows-itpro-docs, 2023-09-29), which the tables here follow.
package keyless

import (
	"fmt"
	"slices"
	"strings"

	"unbrick/bitlocker/fve"
)

// A Way is how the files of a Windows are come by.
type Way string

// The ways, by how little they need.
const (
	Open     Way = "open"      // the volume opens without a key
	SafeMode Way = "safe-mode" // Windows opens it, in Safe Mode with Networking
	Key      Way = "key"       // a recovery key is needed
	Nothing  Way = "nothing"   // nothing that can be had opens it: its Windows has to be installed anew
)

// Facts are what is known of a Windows without a key.
type Facts struct {
	Encrypted  bool
	Protectors []fve.Kind // of the system volume
	Policy     Policy
}

// FactsOf returns what an encrypted system volume says of itself.
func FactsOf(v *fve.Volume, p Policy) Facts {
	f := Facts{Encrypted: true, Policy: p}
	for _, protector := range v.Protectors {
		f.Protectors = append(f.Protectors, protector.Kind)
	}
	return f
}

// System says whether a locked volume is one that Windows starts from: no other has a TPM among
// its protectors. A Windows without a TPM cannot be told from a data volume.
func System(v *fve.Volume) bool {
	return slices.ContainsFunc(v.Protectors, func(p fve.Protector) bool {
		return p.Kind == fve.TPM || p.Kind == fve.TPMAndPIN || p.Kind == fve.TPMAndStartupKey
	})
}

// A Decision says which way to go, and why.
type Decision struct {
	Way Way
	Why string
	// Sure says that no policy that is not known can make SafeMode end at the recovery screen.
	Sure bool
	// Attended says that a person has to be at the host when Windows starts, also after it is
	// repaired.
	Attended bool
}

func (d Decision) String() string {
	s := string(d.Way) + ": " + d.Why
	if d.Attended {
		s += "; Windows will wait for a person when it starts"
	}
	return s
}

// Decide decides. The first line that fits does:
//
//	not encrypted                               open
//	clear key (protection suspended)            open
//	TPM with PIN or startup key, or those or a
//	password alone                              key, and a person at each start
//	TPM, and safeboot is not validated          safe mode
//	TPM, and a policy has it validated          key
//	anything else                               key
//
// Where it comes to a key and the volume has no recovery password, it is Nothing.
func Decide(f Facts) Decision {
	has := func(k fve.Kind) bool { return slices.Contains(f.Protectors, k) }
	switch {
	case !f.Encrypted:
		return Decision{Way: Open, Why: "the volume is not encrypted", Sure: true}
	case has(fve.ClearKey):
		return Decision{Way: Open, Why: "protection is suspended: the volume's key lies beside it", Sure: true}
	}
	d := f.closed(has)
	if d.Way == Key && !has(fve.RecoveryPassword) {
		d.Way, d.Why = Nothing, d.Why+", and the volume has no recovery password"
	}
	return d
}

// closed decides on a volume that something has to open.
func (f Facts) closed(has func(fve.Kind) bool) Decision {
	// These come before TPM alone: a volume that has both is not known to start unattended.
	for _, a := range []struct {
		kind fve.Kind
		why  string
	}{
		{fve.TPMAndPIN, "the TPM asks for a PIN at each start, in Safe Mode too"},
		{fve.TPMAndStartupKey, "the TPM asks for a startup key at each start, in Safe Mode too"},
	} {
		if has(a.kind) {
			return Decision{Way: Key, Why: a.why, Sure: true, Attended: true}
		}
	}
	if has(fve.TPM) {
		trips, why, sure := f.Policy.Trips(Safeboot)
		if trips {
			return Decision{Way: Key, Why: "the TPM would not open the volume in Safe Mode: " + why, Sure: true}
		}
		return Decision{Way: SafeMode, Why: "the TPM alone opens the volume, in Safe Mode with Networking too: " + why, Sure: sure}
	}
	for _, a := range []struct {
		kind fve.Kind
		why  string
	}{
		{fve.StartupKey, "Windows asks for a startup key at each start"},
		{fve.Password, "Windows asks for a password at each start"},
	} {
		if has(a.kind) {
			return Decision{Way: Key, Why: a.why, Sure: true, Attended: true}
		}
	}
	var kinds []string
	for _, k := range f.Protectors {
		kinds = append(kinds, k.String())
	}
	return Decision{Way: Key, Why: fmt.Sprintf("nothing opens the volume by itself (it has %s)", strings.Join(kinds, ", ")), Sure: true, Attended: true}
}
