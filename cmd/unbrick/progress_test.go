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
