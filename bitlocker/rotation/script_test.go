package rotation

import (
	"math/rand/v2"
	"strings"
	"testing"

	"unbrick/bitlocker"
	"unbrick/bitlocker/keytest"
)

func TestCommands(t *testing.T) {
	r := rand.NewPCG(9, 9)
	old, fresh, third := keytest.NewKeyID(r), keytest.NewKeyID(r), keytest.NewKeyID(r)
	add := addCommands(old, []bitlocker.KeyID{third, old})
	if !strings.Contains(add, "$known = @('{"+old.String()+"}', '{"+third.String()+"}')") {
		t.Error("the protectors that are no new ones: ", add)
	}
	// The cmdlet warns with the new key in clear.
	if !strings.Contains(add, "-RecoveryPasswordProtector -WarningAction SilentlyContinue | Out-Null") || strings.Contains(add, "Remove-") {
		t.Error(add)
	}
	remove := removeCommands(old, fresh)
	if check, rm := strings.Index(remove, "throw 'the new protector is not"), strings.Index(remove, "Remove-BitLocker"); check < 0 || rm < check {
		t.Error("it removes before it looks: ", remove)
	}
	for _, s := range []string{add, remove} {
		if strings.Count(s, "{") != strings.Count(s, "}") || strings.Count(s, "(") != strings.Count(s, ")") || strings.Count(s, "'")%2 != 0 {
			t.Error("brackets do not match: ", s)
		}
	}
}

// FuzzAdded: an answer that is understood says exactly one of two things, and no error repeats
// what a host said.
func FuzzAdded(f *testing.F) {
	for _, s := range []string{"NEW {4290B6C0-B17A-497A-8552-272CC30E80D4}\r\n", "GONE", "GONE\nNEW {4290B6C0-B17A-497A-8552-272CC30E80D4}", "NEW {}", "",
		"WARNING: 242880-571340\nNEW 4290b6c0-b17a-497a-8552-272cc30e80d4\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, out string) {
		id, gone, err := parseAdded(out)
		if err == nil && gone != id.IsZero() {
			t.Errorf("%q: %v, %v", out, id, gone)
		}
		if err != nil && (!id.IsZero() || gone) {
			t.Errorf("%q: an error and a result", out)
		}
		if err == nil && !gone && parseRemoved(out, id) {
			t.Errorf("%q is of an addition, not of a removal", out)
		}
	})
}
