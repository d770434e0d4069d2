package engine

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"unbrick/playbooks"
	"unbrick/remediate"
)

// A choosy driver does not carry out the playbook.
type choosy struct{ person }

func (choosy) Supports(*playbooks.Playbook) error {
	return errors.New("playbook test has a step that is not done there: registry x")
}

// TestUnsupported: a way that cannot carry out the playbook is not taken, and hosts that have
// no other are not counted as its failures.
func TestUnsupported(t *testing.T) {
	var hosts []string
	for i := range 15 {
		hosts = append(hosts, fmt.Sprint("h", i))
	}
	for _, ladder := range []bool{true, false} {
		y := newYard()
		_, s := yardStore(t, hosts...)
		e := y.engine(s, "winrm")
		e.Drivers["winrm"], e.Baselines = choosy{person{gate{y, "winrm"}}}, map[string]float64{}
		if ladder {
			e.Ladder = e.Ladder[:0]
		}
		sum := runs(t, e)
		if sum.Halted != "" || len(sum.Halts) > 0 || sum.Verdicts[remediate.Failed] != len(hosts) || len(y.calls) > 0 {
			t.Errorf("%+v, calls %q", sum, y.calls)
		}
		if r := result(t, s, "h7"); !strings.Contains(r.Reason, "not by winrm: playbook test has a step that is not done there: registry x") || r.Route != "" {
			t.Errorf("by %q: %s", r.Route, r.Reason)
		}
	}
	y := newYard()
	_, s := yardStore(t, "h")
	e := y.engine(s, "winrm", "redfish")
	e.Drivers["winrm"] = choosy{person{gate{y, "winrm"}}}
	runs(t, e)
	if r := result(t, s, "h"); r.Verdict != remediate.Fixed || r.Route != "redfish" || strings.Contains(strings.Join(y.calls, ","), "winrm") {
		t.Errorf("%s by %s, calls %q", r.Verdict, r.Route, y.calls)
	}
}
