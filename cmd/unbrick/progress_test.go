package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"unbrick/remediate"
	"unbrick/remediate/engine"
)

// A host that was fixed and goes down again counts once, however it ends.
func TestProgressOfRelapse(t *testing.T) {
	var out bytes.Buffer
	p := newProgress(&out, engine.Status{Sites: []engine.SiteStatus{{Site: "SYD", Count: engine.Count{Hosts: 1, Todo: 1, Verdicts: map[remediate.Verdict]int{}}}},
		Count: engine.Count{Hosts: 1, Todo: 1}}, time.Now)
	for _, e := range []engine.Event{
		{Verdict: remediate.Fixed}, {Again: true, Reason: "down again"}, {Verdict: remediate.Waiting}, {Verdict: remediate.Fixed},
		{Again: true, Verdict: remediate.Unconfirmed},
	} {
		e.Host, e.Site = "h", "SYD"
		p.event(e)
	}
	p.close()
	var got []string
	for line := range strings.Lines(out.String()) {
		got = append(got, strings.Join(strings.Fields(line)[1:], " "))
	}
	want := "1/1 h fixed, 0/1 h is treated again: down again, 0/1 h waiting, 1/1 h fixed, 1/1 h unconfirmed"
	if strings.Join(got, ", ") != want {
		t.Errorf("%s, want %s", strings.Join(got, ", "), want)
	}
}

// That hosts wait for a shift is said once, and again when it is another.
func TestProgressOfShifts(t *testing.T) {
	var out bytes.Buffer
	status := func(from time.Time) engine.Status {
		s := engine.SiteStatus{Site: "SYD", Count: engine.Count{Hosts: 2, Todo: 2}}
		if !from.IsZero() {
			s.Shift = &engine.Shift{From: from, Hosts: 2}
		}
		return engine.Status{Sites: []engine.SiteStatus{s}, Count: s.Count}
	}
	mon := time.Date(2024, 7, 22, 6, 0, 0, 0, time.UTC)
	p := newProgress(&out, status(time.Time{}), time.Now)
	for _, from := range []time.Time{mon, mon, {}, mon, mon.AddDate(0, 0, 1)} {
		p.refresh(status(from))
	}
	p.close()
	const said = "2 hosts that need a person wait for the shift at SYD, from "
	if got := out.String(); strings.Count(got, said) != 2 || !strings.Contains(got, said+"Mon 06:00 UTC;") || !strings.Contains(got, said+"Tue 06:00 UTC;") {
		t.Errorf("it said %q", got)
	}
}
