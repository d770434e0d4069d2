package rollback_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/remediate"
	"unbrick/remediate/driver/rollback"
	"unbrick/remediate/rescue"
	"unbrick/remediate/swap"
)

var incident = time.Date(2024, 7, 19, 4, 9, 0, 0, time.UTC)

// A paper is a machine that keeps snapshots and nothing else.
type paper struct {
	state rollback.State
	did   []rollback.Step
	fails map[rollback.Step]error // the step is not done
	deaf  map[rollback.Step]error // it is done, and nobody hears
}

func newPaper(snapshots ...rollback.Snapshot) *paper {
	for i := range snapshots {
		snapshots[i].ID = "id of " + snapshots[i].Name
		snapshots[i].Current = i == len(snapshots)-1
	}
	return &paper{state: rollback.State{ID: "libvirt 1", Name: "ws1", Power: rollback.On, Snapshots: snapshots},
		fails: map[rollback.Step]error{}, deaf: map[rollback.Step]error{}}
}

func at(name string, before time.Duration) rollback.Snapshot {
	return rollback.Snapshot{Name: name, Made: incident.Add(-before)}
}

func (p *paper) Reach(context.Context, remediate.Target) (rollback.Machine, error) { return p, nil }
func (p *paper) Close() error                                                      { return nil }

func (p *paper) Look(context.Context) (rollback.State, error) {
	s := p.state
	s.Snapshots = slices.Clone(s.Snapshots)
	return s, nil
}

func (p *paper) Do(_ context.Context, step rollback.Step, snapshot string) error {
	if err := p.fails[step]; err != nil {
		return err
	}
	p.did = append(p.did, step)
	all := p.state.Snapshots
	switch step {
	case rollback.Stop:
		p.state.Power = rollback.Off
	case rollback.Start:
		p.state.Power = rollback.On
	case rollback.Keep:
		p.state.Snapshots = append(all, rollback.Snapshot{ID: "id of " + snapshot, Name: snapshot, Made: time.Now()})
		snapshot = "id of " + snapshot
		fallthrough
	case rollback.Back:
		for i := range p.state.Snapshots {
			p.state.Snapshots[i].Current = p.state.Snapshots[i].ID == snapshot
		}
	}
	return p.deaf[step]
}

func (p *paper) current() string {
	for _, one := range p.state.Snapshots {
		if one.Current {
			return one.Name
		}
	}
	return ""
}

func paperTarget(run string, attempt int) remediate.Target {
	return remediate.Target{Run: run, Attempt: attempt, Host: inventory.Host{Name: "ws1", Tier: inventory.Normal}, Route: inventory.Route{Driver: "libvirt-rollback", Address: "a"}}
}

func options(p rollback.Platform) rollback.Options {
	return rollback.Options{Way: "libvirt-rollback", Platform: p, Records: &rescue.MemRecords{}, Before: incident, Allowed: true, Every: time.Millisecond}
}

// TestWhich: the newest from before the incident, none of unbrick's own, and none at all rather
// than an older one than need be.
func TestWhich(t *testing.T) {
	refused := at("evening", time.Hour)
	refused.Refused = "it is an overlay\nuse the other way"
	for name, c := range map[string]struct {
		snapshots []rollback.Snapshot
		want      string // or the error
	}{
		"the newest":            {[]rollback.Snapshot{at("weekly", 90*time.Hour), at("nightly", 6*time.Hour+10*time.Minute), at("after", -time.Hour)}, "nightly of 2024-07-18 21:59:00 UTC"},
		"in another order":      {[]rollback.Snapshot{at("nightly", 6*time.Hour), at("weekly", 90*time.Hour)}, "nightly of 2024-07-18 22:09:00 UTC"},
		"not when it began":     {[]rollback.Snapshot{at("nightly", time.Second), at("just then", 0)}, "nightly of 2024-07-19 04:08:59 UTC"},
		"none":                  {nil, "ws1 has no snapshot from before 2024-07-19 04:09:00 UTC, when the incident began (0 later"},
		"only later ones":       {[]rollback.Snapshot{at("x", -1), at("y", -time.Hour)}, "(2 later ones may have the fault in them)\nrestore it from a backup"},
		"of a broken one":       {[]rollback.Snapshot{at("unbrick-0123456789ab", time.Hour)}, "has no snapshot from before"},
		"without a time":        {[]rollback.Snapshot{{Name: "x"}}, "has no snapshot from before"},
		"the newest is refused": {[]rollback.Snapshot{at("nightly", 6*time.Hour), refused}, "ws1 is not rolled back to evening of 2024-07-19 03:09:00 UTC: it is an overlay\nuse the other way"},
	} {
		p := newPaper(c.snapshots...)
		posture, err := rollback.New(options(p)).Observe(t.Context(), paperTarget("r1", 1))
		if got := posture.Detail["snapshot"]; got != c.want && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if len(p.did) > 0 {
			t.Errorf("%s: did %q", name, p.did)
		}
	}
}

// TestRefusals: nothing is done to a machine that must not go back, by Repair either.
func TestRefusals(t *testing.T) {
	for want, change := range map[string]func(p *paper, o *rollback.Options, h *inventory.Host){
		"USN rollback": func(_ *paper, _ *rollback.Options, h *inventory.Host) { h.Tier = inventory.Dependency },
		"may be a domain controller": func(_ *paper, _ *rollback.Options, h *inventory.Host) {
			h.Labels = map[string]string{"ou": "OU=Domain Controllers,DC=corp,DC=example"}
		},
		"a source calls it one": func(_ *paper, _ *rollback.Options, h *inventory.Host) {
			h.Conflicts = []inventory.Conflict{{Field: "tier", Says: []inventory.Said{{Value: "normal"}, {Value: "dependency"}}}}
		},
		"allow: {rollback: true}":           func(_ *paper, o *rollback.Options, _ *inventory.Host) { o.Allowed = false },
		"incident: {from: …}":               func(_ *paper, o *rollback.Options, _ *inventory.Host) { o.Before = time.Time{} },
		"its memory was saved":              func(p *paper, _ *rollback.Options, _ *inventory.Host) { p.state.Refused = "its memory was saved" },
		"something is being done to ws1":    func(p *paper, _ *rollback.Options, _ *inventory.Host) { p.state.Power = rollback.Changing },
		"swapped by the way libvirt in run": swapped,
	} {
		p := newPaper(at("nightly", time.Hour))
		o, target := options(p), paperTarget("r1", 1)
		change(p, &o, &target.Host)
		d := rollback.New(o)
		_, observed := d.Observe(t.Context(), target)
		_, repaired := d.Repair(t.Context(), target, nil)
		for _, err := range []error{observed, repaired} {
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "\n") && p.state.Refused == "" {
				t.Errorf("want %q and what to do, got %v", want, err)
			}
		}
		if len(p.did) > 0 {
			t.Errorf("%s: did %q", want, p.did)
		}
	}
}

func swapped(p *paper, o *rollback.Options, _ *inventory.Host) {
	_, err := swap.NewJournal(o.Records).Begin(context.Background(), swap.Entry{Way: "libvirt", Instance: p.state.ID, Run: "r0"})
	if err != nil {
		panic(err)
	}
}

// TestSays: what a dry run shows, and what the report says, in words.
func TestSays(t *testing.T) {
	p := newPaper(at("nightly", 40*24*time.Hour))
	target := paperTarget("r1", 1)
	target.Host.Group = "sql-a"
	d := rollback.New(options(p))
	posture, err := d.Observe(t.Context(), target)
	if err != nil || posture.Detail["lost"] != "40 days up to the incident, and all since" ||
		!strings.Contains(posture.Detail["careful"], "group sql-a: clusters and databases") || !strings.Contains(posture.Detail["trust"], "joined again") {
		t.Errorf("%v, %v", posture, err)
	}
	rep, err := d.Repair(t.Context(), target, nil)
	if err != nil || rep.Proof() != nil {
		t.Fatal(err, rep.Proof())
	}
	why := rep.Changed()[0].Why
	for _, want := range []string{"rolled back to nightly of 2024-06-09 04:09:00 UTC; ", " days lost; how it was is in snapshot unbrick-", "virsh snapshot-revert --running 1 unbrick-", "virsh snapshot-delete 1 unbrick-"} {
		if !strings.Contains(why, want) {
			t.Errorf("the report does not say %q: %s", want, why)
		}
	}
}

// TestOnce: a machine that went back does not go again in that run, and may in another.
func TestOnce(t *testing.T) {
	p := newPaper(at("nightly", time.Hour))
	o := options(p)
	d := rollback.New(o)
	if _, err := d.Repair(t.Context(), paperTarget("r1", 1), nil); err != nil {
		t.Fatal(err)
	}
	if err := d.Leave(t.Context(), paperTarget("r1", 1), remediate.Posture{}); err != nil {
		t.Fatal(err)
	}
	n := len(p.did)
	if rep, err := rollback.New(o).Repair(t.Context(), paperTarget("r1", 1), nil); err != nil || rep.Proof() != nil || len(p.did) != n {
		t.Errorf("asked again: %v, did %q", err, p.did)
	}
	if _, err := rollback.New(o).Repair(t.Context(), paperTarget("r1", 2), nil); err == nil || !strings.Contains(err.Error(), "already, in attempt 1") || len(p.did) != n {
		t.Errorf("again: %v, did %q", err, p.did)
	}
	all, err := swap.NewJournal(o.Records).All(t.Context())
	if err != nil || len(all) != 1 || !all[0].Ended || !all[0].Snapshot || rollback.Removal(all[0]) != "virsh snapshot-delete 1 "+all[0].Mark {
		t.Errorf("the journal has %+v, %v", all, err)
	}
	if _, err := d.Repair(t.Context(), paperTarget("r2", 1), nil); err != nil || p.current() != "nightly" {
		t.Errorf("in another run: %v, at %s", err, p.current())
	}
}

// TestGivesUp: whatever step fails for good, Leave has the machine run as it was.
func TestGivesUp(t *testing.T) {
	broken := errors.New("the disk is full")
	for _, c := range []struct {
		fails, deaf bool
		step        rollback.Step
		want        []rollback.Step
	}{
		{true, false, rollback.Stop, nil},
		{true, false, rollback.Keep, []rollback.Step{rollback.Stop, rollback.Start}},
		{false, true, rollback.Keep, []rollback.Step{rollback.Stop, rollback.Keep, rollback.Start}},
		{true, false, rollback.Back, []rollback.Step{rollback.Stop, rollback.Keep, rollback.Start}},
		{false, true, rollback.Back, []rollback.Step{rollback.Stop, rollback.Keep, rollback.Back, rollback.Back, rollback.Start}},
	} {
		name := fmt.Sprintf("%s fails %v, unheard %v", c.step, c.fails, c.deaf)
		p := newPaper(at("nightly", time.Hour))
		if c.fails {
			p.fails[c.step] = broken
		} else {
			p.deaf[c.step] = broken
		}
		d := rollback.New(options(p))
		if _, err := d.Repair(t.Context(), paperTarget("r1", 1), nil); !errors.Is(err, broken) {
			t.Errorf("%s: repair: %v", name, err)
		}
		clear(p.deaf)
		for range 2 {
			if err := d.Leave(t.Context(), paperTarget("r1", 1), remediate.Posture{Power: "on"}); err != nil {
				t.Errorf("%s: leave: %v", name, err)
			}
		}
		if !reflect.DeepEqual(p.did, c.want) || p.state.Power != rollback.On || len(p.did) > 2 && p.current() == "nightly" {
			t.Errorf("%s: did %q, is at %s and %s", name, p.did, p.current(), p.state.Power)
		}
	}
}

// TestMeddled: what somebody did meanwhile is not undone.
func TestMeddled(t *testing.T) {
	for want, meddle := range map[string]func(*paper){
		"somebody removed it": func(p *paper) { p.state.Snapshots = p.state.Snapshots[1:] },
		"somebody started ws1": func(p *paper) {
			p.state.Power = rollback.On
		},
		"somebody made a snapshot of ws1": func(p *paper) {
			_ = p.Do(context.Background(), rollback.Keep, "mine")
		},
	} {
		p := newPaper(at("nightly", time.Hour))
		p.fails[rollback.Back] = errors.New("the line is dead")
		d := rollback.New(options(p))
		if _, err := d.Repair(t.Context(), paperTarget("r1", 1), nil); err == nil {
			t.Fatal("went back")
		}
		clear(p.fails)
		meddle(p)
		was := p.current()
		if _, err := d.Repair(t.Context(), paperTarget("r1", 1), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
		if err := d.Leave(t.Context(), paperTarget("r1", 1), remediate.Posture{}); err != nil || p.state.Power != rollback.On || p.current() != was {
			t.Errorf("%s: left %v, %s at %s", want, err, p.state.Power, p.current())
		}
	}
}

// A prober sees Windows, or cannot look.
type prober struct{ err error }

func (p prober) Probe(context.Context, inventory.Host) (string, error) {
	return "it answers", p.err
}

// TestUp: a machine on which Windows runs, or where nobody can look, is not stopped.
func TestUp(t *testing.T) {
	p := newPaper(at("nightly", time.Hour))
	o := options(p)
	o.Prober = prober{}
	var up *remediate.UpError
	if _, err := rollback.New(o).Repair(t.Context(), paperTarget("r1", 1), nil); !errors.As(err, &up) || len(p.did) > 0 {
		t.Errorf("%v, did %q", err, p.did)
	}
	o.Prober = prober{errors.New("no route to the site")}
	var retry *remediate.RetryError
	if _, err := rollback.New(o).Repair(t.Context(), paperTarget("r1", 1), nil); !errors.As(err, &retry) || len(p.did) > 0 {
		t.Errorf("%v, did %q", err, p.did)
	}
}

// TestAddresses: what is no address of a machine is told with one that is.
func TestAddresses(t *testing.T) {
	nodes := rollback.Proxmox(rollback.ProxmoxOptions{})
	for _, c := range []struct {
		platform      rollback.Platform
		address, want string
	}{
		{rollback.Libvirt(), "WS-1", "write qemu+unix:///system?name=DOMAIN"},
		{rollback.Libvirt(), "qemu:///system", "names no domain\nwrite"},
		{rollback.Libvirt(), "qemu://hv1/WS-1?name=WS-2", "names two domains\nwrite"},
		{rollback.Libvirt(), "qemu://root:secret@hv1/WS-1", "is no address"},
		{rollback.VSphere(rollback.VSphereOptions{}), "vc1/DC1/vm/WS-1", "vc1 is no vCenter or ESXi host"},
		{nodes, "prod/WS-1", "write CLUSTER/VMID"},
		{nodes, "prod/100", `no cluster "prod"`},
	} {
		target := paperTarget("r1", 1)
		target.Route.Address = c.address
		_, err := rollback.New(options(c.platform)).Observe(t.Context(), target)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: want %q, got %v", c.address, c.want, err)
		}
	}
}

// TestOneID: what was begun on a machine is not taken for that of a replica, which has its id.
func TestOneID(t *testing.T) {
	x, y := newPaper(at("nightly", time.Hour)), newPaper(at("nightly", time.Hour))
	o := options(x)
	x.fails[rollback.Back] = errors.New("the line is dead")
	if _, err := rollback.New(o).Repair(t.Context(), paperTarget("r1", 1), nil); err == nil {
		t.Fatal("went back")
	}
	clear(x.fails)
	other, target := o, paperTarget("r1", 1)
	other.Platform, target.Route.Address = y, "b"
	d := rollback.New(other)
	_, observed := d.Observe(t.Context(), target)
	_, repaired := d.Repair(t.Context(), target, nil)
	for _, err := range []error{observed, repaired} {
		if err == nil || !strings.Contains(err.Error(), "as ws1 at a") {
			t.Errorf("got %v", err)
		}
	}
	if err := d.Leave(t.Context(), target, remediate.Posture{Power: "on"}); err != nil || len(y.did) > 0 {
		t.Errorf("left %v, did %q", err, y.did)
	}
	if _, err := rollback.New(o).Repair(t.Context(), paperTarget("r1", 1), nil); err != nil || x.current() != "nightly" {
		t.Errorf("begun, and not brought to its end: %v, at %s", err, x.current())
	}
}

// TestKeptAgain: the present of an older rollback, which another state knows, is not this one's.
func TestKeptAgain(t *testing.T) {
	p := newPaper(at("nightly", time.Hour))
	for n := 1; n <= 2; n++ {
		d := rollback.New(options(p))
		for range 2 {
			if _, err := d.Repair(t.Context(), paperTarget("r1", 1), nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := d.Leave(t.Context(), paperTarget("r1", 1), remediate.Posture{}); err != nil {
			t.Fatal(err)
		}
		if len(p.state.Snapshots) != 1+n || p.current() != "nightly" {
			t.Errorf("after %d rollbacks it has %d snapshots and is at %s", n, len(p.state.Snapshots), p.current())
		}
	}
}
