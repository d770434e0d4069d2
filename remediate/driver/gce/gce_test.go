package gce_test

import (
	"errors"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"unbrick/inventory"
	"unbrick/remediate"
	"unbrick/remediate/driver/drivertest"
	"unbrick/remediate/driver/gce"
	"unbrick/remediate/driver/gce/gcetest"
	"unbrick/remediate/rescue"
	"unbrick/remediate/swap"
	"unbrick/remediate/swap/swaptest"
)

const zone = "europe-west1-b"

// newServer returns a project with one Windows instance that has a data disk, and a helper.
func newServer() *gcetest.Server {
	s := gcetest.New("corp-prod")
	s.AddInstance(gcetest.Instance{Zone: zone, Name: "ws1", More: gcetest.Object{"shieldedInstanceConfig": gcetest.Object{"enableVtpm": true}}})
	s.AddInstance(gcetest.Instance{Zone: zone, Name: "unbrick-helper"})
	return s
}

func newPlatform(t *testing.T, url string, change func(*gce.Options)) swap.Platform {
	t.Helper()
	o := gce.Options{Endpoint: url + "/compute/v1", Tokens: oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "t0"}), PerSecond: 1e6}
	if change != nil {
		change(&o)
	}
	return gce.New(o)
}

// TestPlatform passes the suite, cut, throttled and refused at every request.
func TestPlatform(t *testing.T) {
	swaptest.Run(t, func(t *testing.T) swaptest.Rig { return rig(t, newServer()) })
}

func rig(t *testing.T, s *gcetest.Server) swaptest.Rig {
	line := swaptest.NewLine(t, swaptest.API{Server: s, Changes: gcetest.Changes, Throttle: gcetest.Throttle, Refuse: gcetest.Refuse})
	before := s.View()
	return swaptest.Rig{
		Platform: newPlatform(t, line.URL, nil), Line: line, Way: "gce", Address: "corp-prod/" + zone + "/ws1",
		Booted: func() (all []string) {
			for _, e := range s.Events() {
				if e == "ws1 started" {
					all = append(all, drivertest.Disk)
				} else {
					all = append(all, swaptest.Helper)
				}
			}
			return all
		},
		Actions: s.Actions,
		Left: func() string {
			s.Pass()
			if is := s.View(); is != before {
				return "it was\n" + before + "and is\n" + is
			}
			return ""
		},
	}
}

// A bench is a server with what a test asks it through.
type bench struct {
	*gcetest.Server
	platform swap.Platform
	driver   *swap.Driver
	records  *rescue.MemRecords
}

func newBench(t *testing.T, s *gcetest.Server, change func(*gce.Options), more func(*swap.Options)) bench {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	b := bench{Server: s, platform: newPlatform(t, server.URL, change), records: &rescue.MemRecords{}}
	o := swap.Options{Way: "gce", Platform: b.platform, Desk: &swaptest.Desk{}, Records: b.records, Every: time.Millisecond}
	if more != nil {
		more(&o)
	}
	b.driver = swap.New(o)
	return b
}

func target(name string) remediate.Target {
	return remediate.Target{Run: "r1", Attempt: 1, Host: inventory.Host{Name: name}, Route: inventory.Route{Driver: "gce", Address: "corp-prod/" + zone + "/" + name}}
}

// through swaps a disk and back.
func (b bench) through(t *testing.T, name string) error {
	if err := b.driver.Enter(t.Context(), target(name), remediate.Image{}); err != nil {
		return err
	}
	return b.driver.Leave(t.Context(), target(name), remediate.Posture{})
}

// What attachDisk forgets is put right before the instance starts.
func TestForgetful(t *testing.T) {
	s := newServer()
	s.Forget()
	b, before := newBench(t, s, nil, nil), s.View()
	if err := b.through(t, "ws1"); err != nil {
		t.Fatal(err)
	}
	if s.Pass(); s.View() != before {
		t.Errorf("it was\n%s\nand is\n%s", before, s.View())
	}
}

// Two disks hang on one helper at once, and another helper is found by its label.
func TestTwo(t *testing.T) {
	s := newServer()
	s.AddInstance(gcetest.Instance{Zone: zone, Name: "ws2", Attached: gcetest.Object{"autoDelete": false, "interface": "NVME", "deviceName": "persistent-disk-0"}})
	s.AddInstance(gcetest.Instance{Zone: zone, Name: "other", More: gcetest.Object{"labels": gcetest.Object{"role": "fixer"}}})
	before := s.View()
	for _, helper := range []string{"unbrick-helper", "label:role=fixer"} {
		b := newBench(t, s, func(o *gce.Options) { o.Helpers = []string{helper} }, nil)
		var all sync.WaitGroup
		for _, name := range []string{"ws1", "ws2"} {
			all.Go(func() {
				for {
					err := b.driver.Enter(t.Context(), target(name), remediate.Image{})
					if retry := (*remediate.RetryError)(nil); errors.As(err, &retry) {
						continue // the helper takes one change at a time
					}
					if err != nil {
						t.Error(err)
					}
					return
				}
			})
		}
		all.Wait()
		in, err := b.platform.Reach(t.Context(), target("ws1"))
		if err != nil {
			t.Fatal(err)
		}
		if helpers, err := in.Helpers(t.Context()); err != nil || len(helpers) != 1 || helpers[0].Lent != 2 {
			t.Errorf("%+v, %v", helpers, err)
		}
		for _, name := range []string{"ws1", "ws2"} {
			if err := b.driver.Leave(t.Context(), target(name), remediate.Posture{}); err != nil {
				t.Error(err)
			}
		}
		if s.Pass(); s.View() != before {
			t.Errorf("it was\n%s\nand is\n%s", before, s.View())
		}
	}
}

// Every refusal says what to do instead, and comes before anything is changed.
func TestRefusals(t *testing.T) {
	type object = gcetest.Object
	meta := func(key, value string) object {
		return object{"metadata": object{"items": []any{object{"key": key, "value": value}}}}
	}
	for name, c := range map[string]struct {
		instance gcetest.Instance
		want     string
	}{
		"managed":       {gcetest.Instance{More: meta("created-by", "projects/1/zones/z/instanceGroupManagers/web")}, "abandon-instances web"},
		"kubernetes":    {gcetest.Instance{More: object{"labels": object{"goog-gke-node": "x"}}}, "let its node pool replace it"},
		"suspended":     {gcetest.Instance{More: object{"status": "SUSPENDED"}}, "resume it and look"},
		"local SSD":     {gcetest.Instance{Attached: object{"type": "SCRATCH"}}, "discard_local_ssd"},
		"cluster":       {gcetest.Instance{More: meta("enable-wsfc", "true")}, "give both the same group"},
		"read-only":     {gcetest.Instance{Attached: object{"mode": "READ_ONLY"}}, "its boot disk is read-only"},
		"own key":       {gcetest.Instance{Attached: object{"diskEncryptionKey": object{"sha256": "eA=="}}}, "--csek-key-file"},
		"own boot keys": {gcetest.Instance{Attached: object{"shieldedInstanceInitialState": object{"pk": object{}}}}, "Secure Boot keys of its own"},
		"shared":        {gcetest.Instance{Disk: object{"multiWriter": true}}, "two would write to it"},
		"shared anew":   {gcetest.Instance{Disk: object{"accessMode": "READ_WRITE_MANY"}}, "two would write to it"},
		"confidential":  {gcetest.Instance{Disk: object{"enableConfidentialCompute": true}}, "only confidential instances open"},
		"restoring":     {gcetest.Instance{Disk: object{"status": "RESTORING"}}, "its disk is restoring"},
		"no boot disk":  {gcetest.Instance{Attached: object{"boot": false}}, "it has no boot disk"},
	} {
		t.Run(name, func(t *testing.T) {
			s := gcetest.New("corp-prod")
			s.AddInstance(gcetest.Instance{Zone: zone, Name: "unbrick-helper"})
			c.instance.Zone, c.instance.Name = zone, "ws1"
			s.AddInstance(c.instance)
			b, before := newBench(t, s, nil, nil), s.View()
			_, observe := b.driver.Observe(t.Context(), target("ws1"))
			for what, err := range map[string]error{"observe": observe, "enter": b.driver.Enter(t.Context(), target("ws1"), remediate.Image{})} {
				if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "\n") {
					t.Errorf("%s: %v, want %q and what to do", what, err, c.want)
				}
			}
			if s.View() != before || s.Actions() > 0 {
				t.Error("something was changed")
			}
		})
	}
}

// What is not refused is said.
func TestRemarks(t *testing.T) {
	type object = gcetest.Object
	s := newServer()
	s.AddInstance(gcetest.Instance{Zone: zone, Name: "ws2", Disk: object{"licenses": []any{"https://x/projects/windows-cloud/global/licenses/windows-server-2019-dc"}},
		Attached: object{"diskEncryptionKey": object{"kmsKeyName": "projects/k/locations/l/keyRings/r/cryptoKeys/c", "sha256": "eA=="}},
		More: object{"shieldedInstanceConfig": object{"enableVtpm": true}, "scheduling": object{"provisioningModel": "SPOT"},
			"networkInterfaces": []any{object{"accessConfigs": []any{object{"natIP": "198.51.100.7"}}}}}})
	b := newBench(t, s, nil, nil)
	p, err := b.driver.Observe(t.Context(), target("ws2"))
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"tpm": "recovery key", "spot": "short of machines", "address": "198.51.100.7", "key": "cryptoKeys/c",
		"licences": "windows-server-2019-dc", "volume": "disk ws2 as ws2 of corp-prod/" + zone + "/ws2"} {
		if !strings.Contains(p.Detail[key], want) {
			t.Errorf("%s: %q, want %q", key, p.Detail[key], want)
		}
	}
}

// Where something is not as it should be, the error says which.
func TestTrouble(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*gcetest.Server, *remediate.Target)
		want   string
		retry  bool
	}{
		"gone":            {func(_ *gcetest.Server, t *remediate.Target) { t.Route.Address = "corp-prod/" + zone + "/ws9" }, "was it deleted or moved", false},
		"no address":      {func(_ *gcetest.Server, t *remediate.Target) { t.Route.Address = "ws1" }, "write PROJECT/ZONE/NAME", false},
		"a right missing": {func(s *gcetest.Server, _ *remediate.Target) { s.Deny("compute.instances.stop", true) }, "Required 'compute.instances.stop' permission", false},
		"no helper":       {func(s *gcetest.Server, _ *remediate.Target) { s.Set(zone, "unbrick-helper", "status", "TERMINATED") }, "no helper for gce", false},
		"windows helper": {func(s *gcetest.Server, _ *remediate.Target) {
			s.Set(zone, "unbrick-helper", "disks", []any{gcetest.Object{"boot": true, "licenses": []any{"projects/windows-cloud/global/licenses/x"}}})
		}, "runs Windows", false},
		"itself a helper": {func(_ *gcetest.Server, t *remediate.Target) {
			t.Route.Address = "corp-prod/" + zone + "/unbrick-helper"
		}, "a helper itself", false},
		"operation fails": {func(s *gcetest.Server, _ *remediate.Target) { s.Fail("stop", "INTERNAL_ERROR") }, "INTERNAL_ERROR", true},
	} {
		t.Run(name, func(t *testing.T) {
			s, tg := newServer(), target("ws1")
			b := newBench(t, s, nil, nil)
			c.change(s, &tg)
			err := b.driver.Enter(t.Context(), tg, remediate.Image{})
			var retry *remediate.RetryError
			if err == nil || !strings.Contains(err.Error(), c.want) || errors.As(err, &retry) != c.retry {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// A start for which its zone is short of machines is tried again as another request, and the
// one that failed is not taken for its answer.
func TestNoCapacity(t *testing.T) {
	s := newServer()
	b := newBench(t, s, nil, nil)
	if err := b.driver.Enter(t.Context(), target("ws1"), remediate.Image{}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s.Fail("start", "ZONE_RESOURCE_POOL_EXHAUSTED")
		err := b.driver.Leave(t.Context(), target("ws1"), remediate.Posture{})
		var retry *remediate.RetryError
		if !errors.As(err, &retry) || retry.After < time.Minute {
			t.Errorf("%v", err)
		}
	}
	if err := b.driver.Leave(t.Context(), target("ws1"), remediate.Posture{}); err != nil {
		t.Error(err)
	}
}

// A snapshot stays when all is done, and the command that removes it is known. The disk of a
// region goes the same way.
func TestSnapshot(t *testing.T) {
	s := newServer()
	s.AddInstance(gcetest.Instance{Zone: zone, Name: "ws2", Regional: true})
	before := s.View()
	b := newBench(t, s, nil, func(o *swap.Options) { o.Snapshot = true })
	if err := b.through(t, "ws2"); err != nil {
		t.Fatal(err)
	}
	all, err := swap.NewJournal(b.records).All(t.Context())
	if err != nil || len(all) != 1 || strings.Join(s.Snapshots(), " ") != all[0].Mark || all[0].Slot.Volume != "projects/corp-prod/regions/europe-west1/disks/ws2" {
		t.Fatalf("%+v, %v, snapshots %q", all, err, s.Snapshots())
	}
	if s.Pass(); s.View() != before {
		t.Errorf("it was\n%s\nand is\n%s", before, s.View())
	}
	if want := "gcloud compute snapshots delete " + all[0].Mark + " --project=corp-prod --quiet"; gce.Removal(all[0]) != want {
		t.Errorf("%q, want %q", gce.Removal(all[0]), want)
	}
}

// Local SSDs are given up where somebody said so.
func TestLocalSSD(t *testing.T) {
	s := newServer()
	b := newBench(t, s, func(o *gce.Options) { o.DiscardLocalSSD = true }, nil)
	s.AddInstance(gcetest.Instance{Zone: zone, Name: "ws3"})
	in := s.Disks(zone, "ws3")
	s.Set(zone, "ws3", "disks", append(in, gcetest.Object{"type": "SCRATCH", "deviceName": "local-ssd-0", "index": 1.0, "mode": "READ_WRITE"}))
	if err := b.through(t, "ws3"); err != nil {
		t.Error(err)
	}
}

func TestAddress(t *testing.T) {
	s := newServer()
	b := newBench(t, s, nil, nil)
	for _, a := range []string{"corp-prod/" + zone + "/ws1", "projects/corp-prod/zones/" + zone + "/instances/ws1",
		"https://www.googleapis.com/compute/v1/projects/corp-prod/zones/" + zone + "/instances/ws1"} {
		tg := target("ws1")
		tg.Route.Address = a
		in, err := b.platform.Reach(t.Context(), tg)
		if err != nil || !strings.HasPrefix(in.ID(), "gce 4") {
			t.Errorf("%s: %v, %v", a, in, err)
		}
	}
	for _, a := range []string{"", "a/b", "a/b/c/d", "corp-prod/../ws1", "a/b/c?x=y", "projects/p/zones/z/disks/d"} {
		tg := target("ws1")
		tg.Route.Address = a
		if _, err := b.platform.Reach(t.Context(), tg); err == nil || !strings.Contains(err.Error(), "PROJECT/ZONE/NAME") {
			t.Errorf("%s: %v", a, err)
		}
	}
	if _, err := gce.New(gce.Options{Endpoint: "http://compute.example/v1"}).Reach(t.Context(), target("ws1")); err == nil || !strings.Contains(err.Error(), "no address of Compute Engine") {
		t.Error("tokens would go out in the clear")
	}
}

// What was begun and not heard of is found again, by the operation or by the request, and not
// run into: the next call does it, whether it goes on or puts everything back.
func TestFoundAgain(t *testing.T) {
	enter := func(r swaptest.Rig, d *swap.Driver) error {
		return d.Enter(t.Context(), r.Target(), remediate.Image{})
	}
	start := func() (*gcetest.Server, swaptest.Rig, *swap.Driver) {
		s := newServer()
		r := rig(t, s)
		return s, r, swap.New(swap.Options{Way: "gce", Platform: r.Platform, Desk: &swaptest.Desk{}, Records: &rescue.MemRecords{}, Every: time.Millisecond})
	}
	s, r, d := start()
	if err := enter(r, d); err != nil {
		t.Fatal(err)
	}
	actions, again := s.Actions(), 0
	for n, changes := range r.Line.Requests() {
		if !changes {
			continue
		}
		s, r, d := start()
		r.Line.Cut(n, drivertest.LostAfter)
		if err := enter(r, d); err == nil {
			t.Errorf("request %d: nobody missed its answer", n)
		}
		if err := enter(r, d); err != nil || s.Actions() != actions {
			t.Errorf("request %d: %v; %d operations, want %d", n, err, s.Actions(), actions)
		}
		_, r, d = start()
		r.Line.Cut(n, drivertest.Death)
		_ = enter(r, d)
		r.Line.Revive()
		if err := d.Leave(t.Context(), r.Target(), remediate.Posture{}); err != nil {
			again++ // the disk came to the helper after all
			if err := d.Leave(t.Context(), r.Target(), remediate.Posture{}); err != nil {
				t.Errorf("request %d: %v", n, err)
			}
		}
		if left := r.Left(); left != "" {
			t.Errorf("request %d: %s", n, left)
		}
	}
	if again > 1 {
		t.Errorf("%d times the first try to put it back ran into what was under way", again)
	}
}
