package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"unbrick/remediate/rescue"
	"unbrick/remediate/swap"
)

// What is left behind is named with what puts it right, and nothing else is.
func TestLeftovers(t *testing.T) {
	left := leftovers([]swap.Entry{
		{Host: "done", Way: "libvirt", Instance: "libvirt 1", Ended: true},
		{Host: "away", Way: "libvirt", Instance: "libvirt 2", Slot: swap.Slot{Name: "/images/2 as vda of away"}},
		{Host: "kept", Way: "libvirt", Instance: "libvirt 3", Mark: "unbrick-3", Snapshot: true, Ended: true},
		{Host: "back", Way: "libvirt-rollback", Instance: "libvirt 5", Mark: "unbrick-5", Snapshot: true, Ended: true},
		{Host: "both", Way: "a cloud", Instance: "i-4", Mark: "unbrick-4", Snapshot: true, Slot: swap.Slot{Volume: "vol-4"}},
	})
	var got []string
	for _, l := range left {
		got = append(got, l.Host+" "+l.What+": "+l.Remove)
	}
	want := []string{
		"away volume: unbrick run (the same run again) or unbrick fix away puts it back",
		"kept snapshot: virsh snapshot-delete 3 unbrick-3",
		"back snapshot: virsh snapshot-delete 5 unbrick-5; to have the machine go forward to it again: virsh snapshot-revert --running 5 unbrick-5",
		"both volume: unbrick run (the same run again) or unbrick fix both puts it back",
		"both snapshot: delete the snapshot unbrick-4 of vol-4",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Snapshots that are gone are noted and not named again; where nobody can be asked, that is said
// once, and not for ever asked again.
func TestAsk(t *testing.T) {
	journal := swap.NewJournal(&rescue.MemRecords{})
	begin := func(way, host string, ended bool) {
		e, err := journal.Begin(t.Context(), swap.Entry{Way: way, Host: host, Instance: way + " " + host, Address: "dc1/" + host, Snapshot: true})
		if err == nil && ended {
			err = journal.End(t.Context(), e)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	begin("up", "kept", true)
	begin("up", "gone", true)
	begin("up", "early", false) // it is not made yet
	for n := range 30 {
		begin("down", fmt.Sprintf("h%d", n), true)
	}
	var downs atomic.Int32
	asked := func(patient bool) []leftover {
		all, err := journal.All(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		a := asking{forget: journal.Forget, finders: func(way string) finder {
			return func(_ context.Context, e swap.Entry) (bool, error) {
				if way == "down" {
					downs.Add(1)
					return false, errors.New("no route to it\nlook at the network")
				}
				return e.Host == "kept", nil
			}
		}}
		if patient {
			a.patience = time.Hour
		}
		left, err := a.ask(t.Context(), leftovers(all))
		if err != nil {
			t.Fatal(err)
		}
		return left
	}
	for _, patient := range []bool{true, false} {
		downs.Store(0)
		left := asked(patient)
		var up []string
		for _, l := range left {
			if l.Way == "up" {
				up = append(up, l.Host+" "+l.What)
			}
		}
		if got := strings.Join(up, ","); len(left) != 32 || len(up) != 2 || !strings.Contains(got, "early volume") || !strings.Contains(got, "kept snapshot") {
			t.Errorf("%d are left, of those that can be asked for: %v", len(left), up)
		}
		want := "down dc1: it is not known which of 30 snapshots are still there: no route to it; look at the network"
		if lines := unasked(left); len(lines) != 1 || lines[0] != want {
			t.Errorf("%q, want %q", lines, want)
		}
		if n := downs.Load(); patient && n != 30 || !patient && n > askedAtOnce {
			t.Errorf("a place that cannot be asked was asked %d times, with patience %v", n, patient)
		}
	}
	all, err := journal.All(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if e.Gone != (e.Host == "gone") {
			t.Errorf("%s: gone is %v in the journal", e.Host, e.Gone)
		}
	}
}
