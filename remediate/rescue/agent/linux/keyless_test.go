//go:build linux

package linux

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"unbrick/bitlocker"
	"unbrick/bitlocker/fve"
	"unbrick/bitlocker/fve/fvetest"
	"unbrick/bitlocker/keytest"
	"unbrick/remediate/rescue/agent"
	"unbrick/remediate/rescue/agent/keyless"
)

// What the report says of a locked volume, for the triage.
func TestKeyless(t *testing.T) {
	src := rand.NewPCG(1, 2)
	recovery := fvetest.Protector{Kind: fve.RecoveryPassword, ID: keytest.NewKeyID(src), Key: keytest.NewKey(src)}
	for name, c := range map[string]struct {
		protectors []fvetest.Protector
		want       keyless.Way
		said       bool
	}{
		"TPM":         {[]fvetest.Protector{{Kind: fve.TPM, ID: bitlocker.KeyID{1}}, recovery}, keyless.SafeMode, true},
		"suspended":   {[]fvetest.Protector{{Kind: fve.TPM, ID: bitlocker.KeyID{1}}, {Kind: fve.ClearKey, ID: bitlocker.KeyID{2}}}, keyless.Open, true},
		"data volume": {[]fvetest.Protector{recovery}, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "volume")
			sector := make([]byte, 4<<20)
			copy(sector, "\xeb\x52\x90"+ntfsSignature)
			if err := os.WriteFile(file, sector, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := fvetest.EncryptFile(file, fvetest.Options{Blocks: [3]int64{1 << 20, 2 << 20, 3 << 20}, Protectors: c.protectors}); err != nil {
				t.Fatal(err)
			}
			var v agent.Keyless = &volume{lock: readLock(file)}
			d, ok := v.Keyless()
			if ok != c.said || d.Way != c.want {
				t.Errorf("%t, %s", ok, d)
			}
		})
	}
	if _, ok := (&volume{}).Keyless(); ok {
		t.Error("a volume that is not encrypted was decided on")
	}
}
