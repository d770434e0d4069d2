package main

import (
	"strings"
	"testing"

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
