package schedule_test

import (
	"fmt"
	"strings"
	"testing"

	"unbrick/remediate/schedule"
)

func TestParseChanges(t *testing.T) {
	for _, tc := range []struct{ text, want, bad string }{
		{"slots=60,technicians.SYD=8", "[slots=60 technicians.SYD=8]", ""},
		{" route.redfish=0 , slots.a.b=3,pin.SYD=4", "[route.redfish=0 slots.a.b=3 pin.SYD=4]", ""},
		{"slots", "", "column 6: no value in \"slots\""},
		{"slots=60,slts=4", "", "column 10: nothing called \"slts\""},
		{"slots=60, technicians=4", "", "column 22: technicians of what"},
		{"slots=many", "", "column 7: not a number \"many\""},
		{"slots=-1", "", "column 7: not a number"},
		{"slots=99999999999", "", "column 7: too large a number \"99999999999\""},
		{"slots=0", "", "column 7: slots cannot be 0"},
		{"attempts.x=2", "", "column 9: attempts has no name"},
		{"", "", "column 1: no value"},
		{"slots=60,", "", "column 10: no value"},
	} {
		got, err := schedule.ParseChanges(tc.text)
		if tc.bad != "" {
			if err == nil || !strings.HasPrefix(err.Error(), tc.bad) || !strings.Contains(err.Error(), "slots=60") {
				t.Errorf("%q: %v, want %s", tc.text, err, tc.bad)
			}
			continue
		}
		if err != nil || fmt.Sprint(got) != tc.want {
			t.Errorf("%q: %v %v, want %s", tc.text, got, err, tc.want)
		}
	}
}

// FuzzParseChanges: what is read is written as it would be read again.
func FuzzParseChanges(f *testing.F) {
	for _, s := range []string{"slots=60,technicians.SYD=8", "pin.a.b=4", "rate.ec2=1", "=", ",", "slots.=3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		changes, err := schedule.ParseChanges(text)
		if err != nil {
			return
		}
		var parts []string
		for _, c := range changes {
			parts = append(parts, c.String())
		}
		again, err := schedule.ParseChanges(strings.Join(parts, ","))
		if err != nil || fmt.Sprint(again) != fmt.Sprint(changes) {
			t.Errorf("%q: %v, and again %v, %v", text, changes, again, err)
		}
	})
}
