package main

import (
	"strings"
	"testing"
	"time"
)

// Counted restarts have the time that they take, with the settings of the user too, unless these say
// how long a repair may take: then doctor says what that cuts short.
func TestRestartTime(t *testing.T) {
	for _, c := range []struct {
		name         string
		most         int
		between      time.Duration
		repair       time.Duration
		least, other time.Duration // for restart, and for other ways
		warns        string
	}{
		{"defaults", 15, 3 * time.Minute, 0, 45 * time.Minute, 20 * time.Minute, ""},
		{"left empty", 0, 0, 0, 45 * time.Minute, 20 * time.Minute, ""},
		{"many", 30, 5 * time.Minute, 0, 150 * time.Minute, 20 * time.Minute, ""},
		{"few", 2, time.Minute, 0, 20 * time.Minute, 20 * time.Minute, ""},
		{"cut short", 15, 3 * time.Minute, 20 * time.Minute, 0, 20 * time.Minute, "after about 7 of the 15"},
		{"long enough", 15, 3 * time.Minute, time.Hour, 0, time.Hour, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := defaults()
			cfg.Restart, cfg.Timeouts.Repair = restartConfig{Most: c.most, Between: duration(c.between)}, duration(c.repair)
			got := cfg.stageTimes()
			if by := got.RepairBy["restart"]; by < c.least || c.least == 0 && by != 0 || got.Repair != c.other {
				t.Errorf("%s for restarts, at least %s is needed; %s for others", by, c.least, got.Repair)
			}
			p := &patient{cfg: cfg}
			p.timeouts()
			if c.warns == "" && len(p.out) > 0 || c.warns != "" && (len(p.out) != 1 || !strings.Contains(p.out[0].Found, c.warns)) {
				t.Errorf("%+v, want %q", p.out, c.warns)
			}
		})
	}
}
