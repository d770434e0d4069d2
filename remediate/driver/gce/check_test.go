package gce_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/inventory/rest"
	"unbrick/remediate/driver/gce/gcetest"
	"unbrick/remediate/rescue"
	"unbrick/remediate/swap"
	"unbrick/remediate/swap/swaptest"
)

// Check names the permissions that are missing, on what, and changes nothing.
func TestCheck(t *testing.T) {
	s := newServer()
	b := newBench(t, s, nil, func(o *swap.Options) { o.Snapshot = true })
	if c := b.driver.Check(t.Context(), target("ws1")); c.Platform != nil || c.Rights != nil || c.Refused != nil || c.Helper != nil || len(c.Helpers) != 1 || c.Helpers[0].Name != "unbrick-helper" {
		t.Errorf("all is there: %+v", c)
	}
	for _, p := range []string{"compute.instances.stop", "compute.instances.attachDisk", "compute.disks.use", "compute.disks.createSnapshot", "compute.zoneOperations.list"} {
		s.Deny(p, true)
	}
	var lacks *inventory.RightError
	const want = "compute.instances.stop, compute.instances.attachDisk on instance ws1; compute.disks.use, compute.disks.createSnapshot on disk ws1; " +
		"compute.instances.attachDisk on helper unbrick-helper; compute.zoneOperations.list on project corp-prod"
	if c := b.driver.Check(t.Context(), target("ws1")); !errors.As(c.Rights, &lacks) || lacks.Right != want {
		t.Errorf("got  %v\nwant %s", c.Rights, want)
	}
	if s.Actions() != 0 {
		t.Errorf("%d changes", s.Actions())
	}
}

// Check says what is wrong with the helper.
func TestCheckHelper(t *testing.T) {
	for want, change := range map[string]func(*gcetest.Server){
		"start one beside it": func(s *gcetest.Server) { s.Set(zone, "unbrick-helper", "status", "TERMINATED") },
		"runs Windows": func(s *gcetest.Server) {
			s.Set(zone, "unbrick-helper", "disks", []any{gcetest.Object{"boot": true, "licenses": []any{"projects/windows-cloud/global/licenses/x"}}})
		},
	} {
		s := newServer()
		change(s)
		if c := newBench(t, s, nil, nil).driver.Check(t.Context(), target("ws1")); c.Helper == nil || !strings.Contains(c.Helper.Error(), want) {
			t.Errorf("%q: %+v", want, c)
		}
	}
}

// Where nobody answers, that is said after one request.
func TestCheckDead(t *testing.T) {
	d := swap.New(swap.Options{Way: "gce", Platform: newPlatform(t, "http://127.0.0.1:1", nil), Desk: &swaptest.Desk{}, Records: &rescue.MemRecords{}, Every: time.Hour})
	if c := d.Check(rest.Briefly(t.Context()), target("ws1")); c.Platform == nil || !strings.Contains(c.Platform.Error(), "cannot reach Compute Engine") {
		t.Errorf("%+v", c)
	}
}
