package engine

import (
	"context"
	"strings"
	"testing"
	"time"

	"unbrick/remediate"
)

// A host goes the ways of the ladder until one helps, is left alone as soon as it is up, and
// every attempt is kept.
func TestClimb(t *testing.T) {
	for _, c := range []struct {
		name     string
		does     string // "; " between
		calls    string
		verdict  remediate.Verdict
		attempts string
		reason   string // a part of it
	}{
		{"the first way does it", "",
			"observe redfish, enter redfish, repair redfish, leave redfish", remediate.Fixed, "redfish fixed", ""},
		{"one that cannot be reached hands over", "observe redfish: fails",
			"observe redfish, observe netboot, enter netboot, repair netboot, leave netboot", remediate.Fixed, "redfish failed, netboot fixed", ""},
		{"one that failed is put back, and hands over", "enter redfish: fails",
			"observe redfish, enter redfish, leave redfish, observe netboot, enter netboot, repair netboot, leave netboot",
			remediate.Fixed, "redfish failed, netboot fixed", ""},
		{"at the top the last one says why", "repair redfish: fails; observe netboot: fails; observe restart: is final",
			"observe redfish, enter redfish, repair redfish, leave redfish, observe netboot, observe restart",
			remediate.Failed, "redfish failed, netboot failed, restart failed", "nobody has the key"},
		{"what is final ends it", "repair redfish: is final",
			"observe redfish, enter redfish, repair redfish, leave redfish", remediate.Failed, "redfish failed", "nobody has the key"},
		{"one that cannot be put back strands it", "repair redfish: fails; leave redfish: fails",
			"observe redfish, enter redfish, repair redfish, leave redfish", remediate.Stranded, "redfish stranded",
			"leave: the BMC says no; what redfish did is still there: power on, boot=disk is how it stood before"},

		{"up before it is entered", "observe redfish: heals", "observe redfish", remediate.Healthy, "redfish healthy", ""},
		{"up while it is entered", "enter redfish: heals and fails", "observe redfish, enter redfish, leave redfish",
			remediate.Healthy, "redfish failed, netboot healthy", ""},
		{"up when it is left", "repair redfish: fails; leave redfish: heals",
			"observe redfish, enter redfish, repair redfish, leave redfish", remediate.Healthy, "redfish failed, netboot healthy", ""},
		{"up between two ways", "observe redfish: heals and fails", "observe redfish", remediate.Healthy, "redfish failed, netboot healthy", ""},
		{"the driver saw it up in enter", "enter redfish: says up", "observe redfish, enter redfish, leave redfish",
			remediate.Healthy, "redfish healthy", ""},
		{"the driver saw it up in repair", "observe redfish: fails; observe netboot: fails; repair restart: says up",
			"observe redfish, observe netboot, observe restart, enter restart, repair restart, leave restart",
			remediate.Healthy, "redfish failed, netboot failed, restart healthy", ""},
		{"up, and down again", "repair redfish: says up, which does not last; observe netboot: fails; observe restart: fails",
			"observe redfish, enter redfish, repair redfish, leave redfish, observe netboot, observe restart",
			remediate.Failed, "redfish failed, netboot failed, restart failed", "check: the BMC says no"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			y := newYard(strings.Split(c.does, "; ")...)
			_, s := yardStore(t, "h")
			e := y.engine(s, "redfish", "netboot", "restart")
			if strings.Contains(c.does, "does not last") {
				e.Timeouts.Confirm = 100 * time.Millisecond
			}
			sum := runs(t, e)
			r := result(t, s, "h")
			if got := strings.Join(y.calls, ", "); got != c.calls {
				t.Errorf("calls\n%s, want\n%s", got, c.calls)
			}
			var attempts []string
			for _, a := range r.Attempts {
				attempts = append(attempts, a.Route+" "+string(a.Verdict))
				if (a.Verdict == remediate.Failed) != (a.Reason != "") && a.Verdict != remediate.Stranded {
					t.Errorf("%s %s: %q", a.Route, a.Verdict, a.Reason)
				}
			}
			if got := strings.Join(attempts, ", "); got != c.attempts {
				t.Errorf("attempts %s, want %s", got, c.attempts)
			}
			if r.Verdict != c.verdict || !strings.Contains(r.Reason, c.reason) || sum.Ended.IsZero() {
				t.Errorf("%s: %q, want %s: %q", r.Verdict, r.Reason, c.verdict, c.reason)
			}
		})
	}
}

// Every way is tried before one is tried again, each as often as its rung says, and a person
// is asked when all have had their tries.
func TestTries(t *testing.T) {
	y := newYard("enter redfish: fails", "observe netboot: fails", "enter winrm: fails", "repair manual: waits")
	_, s := yardStore(t, "h")
	e := y.engine(s, "manual", "winrm", "redfish", "netboot")
	e.Attempts, e.Ladder[1].Tries = 2, 3
	runs(t, e)
	want := "observe winrm, enter winrm, leave winrm, observe redfish, enter redfish, leave redfish, observe netboot, " +
		"observe winrm, enter winrm, leave winrm, observe redfish, enter redfish, leave redfish, observe netboot, " +
		"observe winrm, enter winrm, leave winrm, observe manual, enter manual, repair manual"
	if got := strings.Join(y.calls, ", "); got != want {
		t.Errorf("calls\n%s, want\n%s", got, want)
	}
	if r := result(t, s, "h"); r.Verdict != remediate.Waiting || len(r.Attempts) != 8 {
		t.Errorf("%+v", r)
	}
}

// A way has a time for each host. It ends the stages up to the repair, and putting back has
// its own.
func TestBudget(t *testing.T) {
	for _, op := range []string{"observe", "enter", "repair"} {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			y := newYard(op + " redfish: takes for ever")
			_, s := yardStore(t, "h")
			e := y.engine(s, "redfish", "netboot")
			e.Ladder[0].Budget = 50 * time.Millisecond
			y.leaving = func(has time.Duration) {
				if has < time.Second {
					t.Errorf("leave has %s", has)
				}
			}
			runs(t, e)
			r := result(t, s, "h")
			if r.Verdict != remediate.Fixed || r.Route != "netboot" || len(r.Attempts) != 2 ||
				!strings.Contains(r.Attempts[0].Reason, "the way has used up its budget of 50ms") {
				t.Errorf("%+v", r)
			}
		})
	}
}

// Hosts that were to go one way go another if the ladder is another when the run goes on, and
// one that is treated again begins at its foot, whatever it was taken by last.
func TestOtherLadder(t *testing.T) {
	ctx := context.Background()
	y := newYard("observe winrm: fails", "observe redfish: fails")
	_, s := yardStore(t, "a", "b")
	ways := func() (list string) {
		rows, err := s.db().Query(`SELECT host, way, subnet FROM hosts ORDER BY host`)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var host, way, subnet string
			rows.Scan(&host, &way, &subnet)
			list += host + " " + way + " " + subnet + "; "
		}
		return list
	}
	if got := ways(); got != "a restart 10.0.0.0/24; b restart 10.0.1.0/24; " {
		t.Errorf("as the inventory says: %s", got)
	}
	e := y.engine(s, "winrm", "redfish")
	e.Sites = []string{"nowhere"}
	runs(t, e)
	if got := ways(); got != "a winrm ; b winrm ; " {
		t.Errorf("by the ladder: %s", got)
	}
	e.Sites = nil
	runs(t, e)
	if got := ways(); got != "a redfish 10.0.0.0/24; b redfish 10.0.1.0/24; " {
		t.Errorf("at its top: %s", got)
	}
	if n, err := s.Retry(ctx, "", nil, "a", "b"); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	y.does, y.calls = map[string]string{}, nil
	if sum := runs(t, e); !sum.Done() || y.calls[0] != "observe winrm" {
		t.Errorf("%+v %s", sum, y.calls)
	}
}
