package inventory_test

import (
	"strings"
	"testing"
	"time"

	"unbrick/inventory"
)

var incident = inventory.Incident{
	From:  time.Date(2024, 7, 19, 4, 9, 0, 0, time.UTC),
	Until: time.Date(2024, 7, 19, 5, 27, 0, 0, time.UTC),
}

func TestJudge(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.Parse("2006-01-02 15:04", s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	edr := func(s string) inventory.Origin { return inventory.Origin{Source: "falcon", Seen: at(s)} }
	ad := func(s string) inventory.Origin {
		return inventory.Origin{Source: "ad", Seen: at(s), Lag: 14 * 24 * time.Hour}
	}
	for _, tc := range []struct {
		name  string
		state inventory.State
		from  []inventory.Origin
		want  inventory.Likelihood
		why   string
	}{
		{"in the window", "", []inventory.Origin{edr("2024-07-19 04:30")}, inventory.Likely, "in the window"},
		{"its first and last minute", "", []inventory.Origin{edr("2024-07-19 04:09")}, inventory.Likely, ""},
		{"a moment after", "", []inventory.Origin{edr("2024-07-19 05:29")}, inventory.Likely, ""},
		{"the directory is late, the sensor is not", "", []inventory.Origin{ad("2024-07-10 00:00"), edr("2024-07-19 04:30")}, inventory.Likely, ""},
		{"since", "", []inventory.Origin{edr("2024-07-19 08:00")}, inventory.Unlikely, "seen since"},
		{"since, says the directory", "", []inventory.Origin{edr("2024-07-19 04:30"), ad("2024-07-19 09:00")}, inventory.Unlikely, "seen since"},
		{"off before", "", []inventory.Origin{edr("2024-07-19 03:00")}, inventory.Unlikely, "before the window"},
		{"the directory alone", "", []inventory.Origin{ad("2024-07-10 00:00")}, inventory.Possible, "now and then"},
		{"the directory alone, in the window", "", []inventory.Origin{ad("2024-07-19 04:30")}, inventory.Possible, ""},
		{"the directory, long ago", "", []inventory.Origin{ad("2024-06-01 00:00")}, inventory.Unlikely, ""},
		{"nobody says", "", []inventory.Origin{{Source: "csv"}}, inventory.Possible, "no source"},
		{"retired", inventory.Retired, nil, inventory.Out, "retired"},
		{"retired on paper", inventory.Retired, []inventory.Origin{edr("2024-07-19 04:30")}, inventory.Out, "and yet it was seen"},
		{"in stock", inventory.InStock, nil, inventory.Out, "in stock"},
		{"never online", inventory.NeverOnline, nil, inventory.Out, "ever seen"},
	} {
		h := inventory.Host{Name: "a", State: tc.state, From: tc.from}
		got, why := incident.Judge(&h)
		if got != tc.want || !strings.Contains(why, tc.why) {
			t.Errorf("%s: %s (%s), want %s (%s)", tc.name, got, why, tc.want, tc.why)
		}
	}
}

func TestMark(t *testing.T) {
	f := inventory.Fleet{Hosts: []inventory.Host{{Name: "a"}, {Name: "b", State: inventory.Retired, Labels: map[string]string{"x": "y"}}}}
	if n := f.Mark(incident); n[inventory.Possible] != 1 || n[inventory.Out] != 1 || f.Hosts[1].Labels["affected"] != "out" || f.Hosts[1].Labels["x"] != "y" {
		t.Errorf("%v, %+v", n, f.Hosts)
	}
	if inventory.Likely.Chance() <= inventory.Possible.Chance() || inventory.Out.Chance() != 0 {
		t.Error("chances are not in order")
	}
}

// TestNeverOnlineMeetsSighting: what one source has seen was online, whatever another believes.
func TestNeverOnlineMeetsSighting(t *testing.T) {
	f, err := inventory.Load(t.Context(), inventory.Options{}, table(t, "ad: PC1 state=never-online\n edr: PC1 seen=9\n ad: PC2 state=never-online\n edr: PC3")...)
	if err != nil || f.Hosts[0].State != "" || f.Hosts[1].State != inventory.NeverOnline {
		t.Errorf("%+v, %v", f, err)
	}
}
