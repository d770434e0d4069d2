package schedule_test

import (
	"strings"
	"testing"

	"unbrick/remediate"
	"unbrick/remediate/schedule"
)

// verdicts reads one letter for each: F fixed, x failed, S stranded, u unconfirmed, h healthy,
// k skipped, w waiting.
func verdicts(s string) (vs []remediate.Verdict) {
	names := map[rune]remediate.Verdict{
		'F': remediate.Fixed, 'x': remediate.Failed, 'S': remediate.Stranded, 'u': remediate.Unconfirmed,
		'h': remediate.Healthy, 'k': remediate.Skipped, 'w': remediate.Waiting,
	}
	for _, c := range s {
		vs = append(vs, names[c])
	}
	return vs
}

func TestHalt(t *testing.T) {
	fixed := func(n int) string { return strings.Repeat("F", n) }
	for _, tc := range []struct {
		name, outcomes string
		o              schedule.HaltOptions
		want           string // part of the reason; empty: go on
	}{
		{"nothing yet", "", schedule.HaltOptions{}, ""},
		{"two bad canaries are too few to tell", "xx", schedule.HaltOptions{}, ""},
		{"three bad canaries", "xux", schedule.HaltOptions{}, "the first 3 hosts"},
		{"one good canary", "xxFxx", schedule.HaltOptions{}, ""},
		{"healthy, skipped and waiting are no canaries", "hxkhxwh", schedule.HaltOptions{}, ""},
		{"and do not hide them", "hxkhxwhx", schedule.HaltOptions{}, "the first 3 hosts"},
		{"three failures later are no canaries", "FFxxx", schedule.HaltOptions{}, ""},
		{"more canaries", "xxxF", schedule.HaltOptions{Canary: 4}, ""},
		{"no canaries", "xxxxx", schedule.HaltOptions{Canary: -1}, ""},
		{"two stranded", fixed(30) + "SFS", schedule.HaltOptions{}, ""},
		{"three stranded, however many are fixed", "S" + fixed(500) + "SFS", schedule.HaltOptions{}, "3 hosts are stranded"},
		{"stranded rule off", "FSFSFSFSF", schedule.HaltOptions{MaxStranded: -1}, ""},
		{"too few to judge the share", "F" + strings.Repeat("x", 18), schedule.HaltOptions{}, ""},
		{"half is not more than half", fixed(10) + strings.Repeat("x", 10), schedule.HaltOptions{}, ""},
		{"more than half of 21", fixed(10) + strings.Repeat("x", 11), schedule.HaltOptions{}, "11 of the last 21"},
		{"a long good past does not hide a bad turn", fixed(5000) + strings.Repeat("x", 26), schedule.HaltOptions{}, "26 of the last 50"},
		{"a tighter limit", fixed(16) + "xxxx", schedule.HaltOptions{MaxFailed: 0.15}, "4 of the last 20"},
		{"share rule off", fixed(2) + strings.Repeat("x", 90), schedule.HaltOptions{MaxFailed: -1}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			reason, halt := schedule.Halt(verdicts(tc.outcomes), tc.o)
			if halt != (tc.want != "") || !strings.Contains(reason, tc.want) || halt != (reason != "") {
				t.Errorf("got %v %q, want %q", halt, reason, tc.want)
			}
		})
	}
}
