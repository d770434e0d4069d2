package main

import (
	"testing"

	"unbrick/remediate"
	"unbrick/remediate/engine"
	"unbrick/remediate/schedule/forecast"
	"unbrick/remediate/schedule/halt"
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

// TestSayStopped: of what a person has to let go on the command is named, where it would help.
func TestSayStopped(t *testing.T) {
	model := halt.Scope{Kind: halt.OfModel, Way: "redfish", Model: "R740"}
	at := halt.Scope{Kind: halt.OfSite, Way: "redfish", Site: "SYD"}
	line := halt.Scope{Kind: halt.OfConnector, Connector: "redfish at SYD"}
	r740 := []forecast.Stopped{{Way: "redfish", Model: "R740", Hosts: 3}}
	for _, c := range []struct {
		run     engine.Run
		site    engine.SiteStatus
		halts   []halt.Scope
		stopped []forecast.Stopped
		want    string
	}{
		{want: "slots"},
		{run: engine.Run{Halted: "3 stranded"}, want: "the run is halted: unbrick resume, then unbrick run, goes on; slots"},
		{run: engine.Run{Paused: "kim"}, want: "the run is paused: unbrick resume goes on; slots"},
		{site: engine.SiteStatus{Paused: "kim"}, want: "the site is paused: unbrick resume 'SYD' goes on; slots"},
		{halts: []halt.Scope{model}, want: "slots"},
		{halts: []halt.Scope{model, {Kind: halt.OfModel, Way: "redfish", Model: "R640"}}, stopped: r740,
			want: "slots; unbrick resume --cohort 'redfish on R740' goes on"},
		{halts: []halt.Scope{{Kind: halt.OfWay, Way: "redfish"}}, stopped: r740, want: "slots; unbrick resume --cohort 'redfish' goes on"},
		{halts: []halt.Scope{{Kind: halt.OfRung, Way: "redfish"}}, stopped: r740, want: "slots; unbrick resume --cohort 'rung redfish' goes on"},
		{halts: []halt.Scope{at, line, {Kind: halt.OfSite, Way: "redfish", Site: "MEL"}}, stopped: r740,
			want: "slots; unbrick resume --cohort 'redfish at SYD' goes on; unbrick resume --cohort 'connector redfish at SYD' goes on"},
	} {
		c.site.Site, c.site.Todo = "SYD", 4
		st := engine.Status{Run: c.run, Sites: []engine.SiteStatus{c.site}}
		for _, s := range c.halts {
			st.Halts = append(st.Halts, halt.Record{Scope: s})
		}
		lines := []forecast.Line{{Name: "SYD", Limit: "slots", Stopped: c.stopped}, {Name: "MEL", Limit: "slots"}}
		sayStopped(st, lines)
		if got := lines[0].Limit; got != c.want || lines[1].Limit != "slots" {
			t.Errorf("%+v: %q, want %q", c, got, c.want)
		}
	}
}
