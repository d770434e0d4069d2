package main

import (
	"strings"
	"testing"
	"time"

	"unbrick/bitlocker"
	"unbrick/inventory"
)

func TestStaleKeys(t *testing.T) {
	day := func(s string) time.Time {
		at, err := time.Parse(time.DateOnly, s)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	key := func(at string) bitlocker.Entry { return bitlocker.Entry{Valid: true, Created: day(at)} }
	hosts := []inventory.Host{
		{Name: "FRESH", Labels: map[string]string{"installed": "2023-01-01"}},
		{Name: "REIMAGED", Labels: map[string]string{"Imaged": "2024-03-01"}},
		{Name: "OLD"},
		{Name: "UNDATED", Labels: map[string]string{"installed": "2024-03-01"}},
		{Name: "NONE", Labels: map[string]string{"installed": "2024-03-01"}},
		{Name: "TWO", Labels: map[string]string{"installed": "2024-03-01"}},
	}
	r := countKeys([]bitlocker.Holding{
		{Host: "FRESH", Entries: []bitlocker.Entry{key("2023-01-02")}},
		{Host: "REIMAGED", Entries: []bitlocker.Entry{key("2023-01-02")}},
		{Host: "OLD", Entries: []bitlocker.Entry{key("2019-01-02")}},
		{Host: "UNDATED", Entries: []bitlocker.Entry{{Valid: true}}},
		{Host: "NONE"},
		{Host: "TWO", Entries: []bitlocker.Entry{key("2023-01-02"), key("2024-03-02")}},
	})
	r.findStale(hosts, day("2021-07-19"))
	if r.Stale != 2 || !strings.Contains(r.StaleOf["REIMAGED"], "escrowed 2023-01-02, Windows installed 2024-03-01") || r.StaleOf["OLD"] != "escrowed 2019-01-02" {
		t.Errorf("stale: %v; want REIMAGED and OLD", r.StaleOf)
	}
}
