package inventory_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"unbrick/inventory"
)

func TestDiff(t *testing.T) {
	route := func(a string) []inventory.Route { return []inventory.Route{{Driver: "redfish", Address: a}} }
	old := []inventory.Host{
		{Name: "same", Tier: inventory.Normal, Labels: map[string]string{"a": "b"}, From: []inventory.Origin{{Source: "x"}}},
		{Name: "gone"}, {Name: "gone-2", Serial: "S1"},
		{Name: "moved", Tier: inventory.Normal, Site: "SYD", Routes: route("10.0.0.1"), Labels: map[string]string{"a": "b"}},
		{Name: "old-name", Serial: "S2", Tier: inventory.Normal},
	}
	now := []inventory.Host{
		{Name: "new", Serial: "S3"},
		{Name: "new-name", Serial: "s2", Tier: inventory.Normal},
		{Name: "SAME", Tier: inventory.Normal, Labels: map[string]string{"a": "b"}, From: []inventory.Origin{{Source: "y"}}},
		{Name: "moved", Tier: inventory.Low, Site: "AKL", Routes: route("10.0.0.2"), State: inventory.Retired, Labels: map[string]string{"c": "d"}},
	}
	want := `{[new] [gone gone-2] [{SAME [{name same SAME}]} {moved [{site SYD AKL} {tier  low} {state  retired} {redfish 10.0.0.1 10.0.0.2} {label:a b } {label:c  d}]} {new-name [{name old-name new-name} {serial S2 s2}]}]}`
	got := inventory.Diff(old, now)
	if fmt.Sprint(got) != want {
		t.Errorf("got\n%v, want\n%s", got, want)
	}
	if c := inventory.Diff(old, old); !c.None() {
		t.Errorf("a fleet differs from itself: %v", c)
	}
}

func TestValues(t *testing.T) {
	h := inventory.Host{Name: "a", MAC: []string{"x", "y"}, Tier: inventory.Critical, State: inventory.InStock, Labels: map[string]string{"m": "1"},
		Routes: []inventory.Route{{Driver: "redfish", Address: "r1"}, {Driver: "redfish", Address: "r2"}, {Driver: "winrm", Address: "w"}, {Driver: "x", Address: "1"}, {Driver: "x", Address: "2"}}}
	got := maps.Collect(h.Values())
	want := map[string]string{"name": "a", "mac": "x y", "tier": "critical", "state": "in-stock", "label:m": "1", "redfish": "r1 r2", "winrm": "w", "x": "1 2"}
	if !maps.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	for f := range h.Values() {
		if !slices.Contains(inventory.DraftFields(), f) && f != "label:m" && f != "x" {
			t.Errorf("%s is no field", f)
		}
	}
}
