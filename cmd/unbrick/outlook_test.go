package main

import (
	"testing"

	"unbrick/remediate"
	"unbrick/remediate/engine"
	"unbrick/remediate/schedule/forecast"
)

// TestSayEnded: no slot and no order brings a host back that waits for a person, or has failed.
func TestSayEnded(t *testing.T) {
	for _, c := range []struct {
		hosts, todo, waiting, onTime int // of the site
		expected                     int // back in time
		limit, want                  string
	}{
		{10, 4, 0, 6, 8, "slots of the run", "slots of the run"},
		{10, 4, 2, 4, 7, "slots of the run", "slots of the run; 2 wait for a person"},
		{10, 0, 3, 7, 7, "failures and order: others go first", "3 wait for a person"},
		{10, 4, 3, 3, 7, "failures and order: others go first", "3 wait for a person"},
		{10, 5, 0, 4, 9, "failures and order: others go first", "1 have ended and are not back"},
		{10, 5, 1, 3, 6, "slots of the run", "slots of the run; 1 have ended and are not back; 1 wait for a person"},
		{10, 1, 1, 8, 10, "", "1 wait for a person"},
		{10, 4, 0, 6, 10, "", ""},
	} {
		st := engine.Status{Sites: []engine.SiteStatus{{Site: "SYD", Count: engine.Count{Hosts: c.hosts, Todo: c.todo, OnTime: c.onTime,
			Verdicts: map[remediate.Verdict]int{remediate.Waiting: c.waiting}}}}}
		lines := []forecast.Line{{Name: "SYD", Hosts: c.hosts, OnTime: forecast.Band{P50: c.expected}, Limit: c.limit}}
		sayEnded(st, lines)
		if got := lines[0].Limit; got != c.want {
			t.Errorf("%+v: got %q", c, got)
		}
	}
}
