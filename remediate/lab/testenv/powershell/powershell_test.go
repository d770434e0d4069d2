package powershell_test

import (
	"errors"
	"testing"

	"unbrick/remediate/lab/testenv"
	"unbrick/remediate/lab/testenv/powershell"
)

func TestCheck(t *testing.T) {
	if !powershell.Checks {
		testenv.Missing(t, "cgo")
	}
	for script, line := range map[string]int{
		"$v = @(Get-BitLockerVolume)\nif ($v.Count -eq 0) { 'GONE'; return }": 0,
		"& {\n$old = 'a'\nthrow 'it''s'\n}":                                   0,
		"$a = \"a $($b.C) d\"":                                                0,
		"$a = 1\nif ($a -eq 1) { 'one'\n":                                     2,
		"'one'\n'two":                                                         2,
		"Stop-VM -Id $id)\n":                                                  1,
		"foreach ($x of $y) { $x }":                                           1,
	} {
		err, wrong := powershell.Check(script), (*powershell.Error)(nil)
		if errors.As(err, &wrong); err == nil != (line == 0) || wrong != nil && wrong.Line > line {
			t.Errorf("%q: %v, want line %d", script, err, line)
		}
	}
}
