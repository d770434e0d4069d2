package drivertest_test

import (
	"context"
	"fmt"
	"testing"

	"unbrick/remediate"
	"unbrick/remediate/driver/drivertest"
)

// TestFake has the fake pass the suite that it is there for.
func TestFake(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) drivertest.Rig {
		return rig(t, func(w drivertest.World) remediate.Driver { return drivertest.Fake{World: w} })
	})
}

func rig(t *testing.T, driver func(drivertest.World) remediate.Driver) drivertest.Rig {
	t.Helper()
	actions := 0
	var requests []bool
	var boots []string
	m := &drivertest.Memory{}
	w := spy{m, func(op drivertest.Op, was, is drivertest.HostState) {
		requests = append(requests, op.Verb != drivertest.Look)
		if op.Verb != drivertest.Look {
			actions++
		}
		if is.Starts > was.Starts {
			boots = append(boots, drivertest.Disk)
			if is.Running == drivertest.Rescue {
				boots[len(boots)-1] = is.Inserted
			}
		}
	}}
	img, _ := drivertest.FakeMedic{}.Image(t.Context(), target())
	return drivertest.Rig{
		Driver: driver(w), Target: target(), Image: img,
		Boots:    func() []string { return boots },
		Actions:  func() int { return actions },
		Requests: func() []bool { return requests },
		Left: func() string {
			if s := m.State("h1"); !s.Tidy() || s.Violations != nil {
				return fmt.Sprintf("%+v", s)
			}
			return ""
		},
		Cut: func(n int, l drivertest.Loss) {
			kind := drivertest.LostReply
			if l == drivertest.LostBefore {
				kind = drivertest.LostRequest
			}
			m.Order(drivertest.Fault{Kind: kind, Skip: n})
			if l == drivertest.Death {
				m.Order(drivertest.Fault{Kind: drivertest.LostRequest, Skip: n, Count: -1})
			}
		},
		Revive: func() { m.Heal() },
		Hang:   func() { m.Order(drivertest.Fault{Kind: drivertest.Hang, Count: -1}) },
	}
}

// A spy sees how a host stands before and after each op.
type spy struct {
	*drivertest.Memory
	saw func(op drivertest.Op, was, is drivertest.HostState)
}

func (s spy) Do(ctx context.Context, op drivertest.Op) (drivertest.HostState, error) {
	was := s.State(op.Host)
	st, err := s.Memory.Do(ctx, op)
	s.saw(op, was, s.State(op.Host))
	return st, err
}
