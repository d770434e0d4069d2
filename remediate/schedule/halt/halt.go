// Package halt stops what goes wrong before it goes wrong on many hosts, and says why.
//
// A treatment fails together with others of its way and model, its way and site, or its way.
// Each of these [Scope]s has a score that rises with every failure and falls with every success
// (Page's CUSUM of the sequential probability ratio): it halts the scope within a few dozen hosts
// of a bad turn, and a good one about once in 40,000 hosts. A new way and model starts with few
// hosts and gets more of them ring by ring. A halt is for a person to end.
//
// A [Monitor] is data: as JSON it goes into the state of a run and comes back. It does no I/O
// and has no clock.
package halt

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// Limit is the score at which a scope halts. scheduling.md, section 9, has the others tried.
const Limit = 8

// Rings are how many hosts of a way and model are treated before more of them are. The last
// ring is all the rest.
func Rings() []int { return []int{3, 16, 80} }

// resumedRing is where a cohort goes on after a halt: its canaries are spent.
const resumedRing = 1

// kept is how many outcomes a halt shows.
const kept = 10

// A Result is how a treatment ended.
type Result string

// The results.
const (
	Good Result = "good" // seen to be healthy
	Bad  Result = "bad"  // not healthy, or unknown for too long
	// Harm is worse than before: data lost, down again after it was fixed, the wrong host.
	Harm Result = "harm"
	// Infra says that the host was not touched: no key, no way in, a quota. It counts against
	// the connector alone.
	Infra Result = "infrastructure"
)

// An Outcome is one treatment that ended. Hosts that came back by themselves have none.
type Outcome struct {
	Host      string    `json:"host"`
	Way       string    `json:"-"`
	Model     string    `json:"-"`
	Site      string    `json:"-"`
	Connector string    `json:"-"` // what Infra is about; empty: the way
	Result    Result    `json:"result"`
	Error     string    `json:"error,omitempty"`
	At        time.Time `json:"at"`
}

// A Scope is what is halted together. Its empty fields are all there are.
type Scope struct {
	Way       string `json:"way,omitempty"`
	Model     string `json:"model,omitempty"`
	Site      string `json:"site,omitempty"`
	Connector string `json:"connector,omitempty"` // alone
	Kind      Kind   `json:"kind"`
}

// A Kind is what a scope consists of.
type Kind string

// The kinds of scopes.
const (
	OfModel     Kind = "model" // a way and a model
	OfSite      Kind = "site"  // a way at a site
	OfWay       Kind = "way"
	OfConnector Kind = "connector"
	OfRung      Kind = "rung" // a way, by the rule of its rung
)

// String names the scope for a person: "redfish on PowerEdge R740".
func (s Scope) String() string {
	switch s.Kind {
	case OfModel:
		return s.Way + " on " + cmp.Or(s.Model, "hosts of no named model")
	case OfSite:
		return s.Way + " at " + cmp.Or(s.Site, "hosts of no site")
	case OfConnector:
		return "connector " + s.Connector
	case OfRung:
		return "rung " + s.Way
	}
	return s.Way
}

// A Record is what is known of a scope.
type Record struct {
	Scope    Scope     `json:"scope"`
	P0       float64   `json:"p0"` // the share of failures that is still tolerable
	Score    float64   `json:"score"`
	Finished int       `json:"finished"`
	Failed   int       `json:"failed"`
	Harmed   int       `json:"harmed,omitempty"`
	Ring     int       `json:"ring,omitempty"`    // of a model: in Rings; behind the last: no cap
	InRing   int       `json:"in_ring,omitempty"` // of them finished
	RingBad  int       `json:"ring_bad,omitempty"`
	Last     []Outcome `json:"last,omitempty"` // at most 10, oldest first
	Halt     *Halt     `json:"halt,omitempty"`
	Resumed  []Resume  `json:"resumed,omitempty"`
}

// A Halt is that no host of a scope is begun any more; those in flight end.
type Halt struct {
	Scope Scope     `json:"scope"`
	Why   string    `json:"why"`
	Score float64   `json:"score"`
	At    time.Time `json:"at"`
}

// A Resume is who ended a halt.
type Resume struct {
	By  string    `json:"by"`
	At  time.Time `json:"at"`
	Was string    `json:"was"` // why it was halted
}

// A Monitor watches a run. The zero Monitor is ready.
type Monitor struct {
	// Baselines are the shares of failures that ways are known for, from runs before this
	// one or from what is assumed. What this run learns must not count: it would make failing
	// tolerable.
	Baselines map[string]float64 `json:"baselines,omitempty"`
	Records   []*Record          `json:"records,omitempty"` // in the order in which they began
	index     map[Scope]*Record
}

// Connectors is the name in Baselines of all connectors: some controllers are always out of
// reach.
const Connectors = "connector"

// Tolerable returns the share of failures that is tolerable of a way with that baseline, and
// the one that is clearly bad.
func Tolerable(baseline float64) (p0, p1 float64) {
	p0 = max(0.05, min(2*baseline, (1+baseline)/2, 0.95))
	return p0, clearlyBad(p0)
}

// clearlyBad goes through the points of scheduling.md, section 9.
func clearlyBad(p0 float64) float64 {
	switch {
	case p0 <= 0.10:
		return p0 + 0.20
	case p0 <= 0.20:
		return 0.30 + (p0-0.10)*1.5
	}
	return min(p0+0.25, (1+p0)/2)
}

// step returns by how much an outcome moves a score.
func step(p0 float64, bad bool) float64 {
	p1 := clearlyBad(p0)
	if bad {
		return math.Log(p1 / p0)
	}
	return math.Log((1 - p1) / (1 - p0))
}

// Add takes in an outcome and returns the scopes that it halts, as a rule none.
func (m *Monitor) Add(o Outcome) []Halt {
	connector := m.record(Scope{Kind: OfConnector, Connector: cmp.Or(o.Connector, o.Way)})
	if o.Result == Infra {
		return appendHalt(nil, connector.add(o))
	}
	halts := appendHalt(nil, connector.add(Outcome{Host: o.Host, Result: Good, At: o.At}))
	model, way := m.record(Scope{Kind: OfModel, Way: o.Way, Model: o.Model}), m.record(Scope{Kind: OfWay, Way: o.Way})
	halts = appendHalt(halts, model.add(o))
	halts = appendHalt(halts, m.record(Scope{Kind: OfSite, Way: o.Way, Site: o.Site}).add(o))
	halts = appendHalt(halts, way.add(o))
	halts = appendHalt(halts, model.ring(o))
	return halts
}

// AddRung takes in an outcome for the rung of its way alone, whose rule says whether so many
// outcomes of which so many failed, since it began or was resumed, stop it. What was not touched
// has failed too.
func (m *Monitor) AddRung(o Outcome, rule func(finished, failed int) (why string, stop bool)) []Halt {
	r := m.record(Scope{Kind: OfRung, Way: o.Way})
	r.take(o)
	if why, stop := rule(r.Finished, r.Failed); stop && r.Halt == nil {
		return appendHalt(nil, r.halt(o.At, why))
	}
	return nil
}

func appendHalt(all []Halt, h *Halt) []Halt {
	if h == nil {
		return all
	}
	return append(all, *h)
}

// record returns the record of a scope, and begins it if there is none.
func (m *Monitor) record(s Scope) *Record {
	if r := m.find(s); r != nil {
		return r
	}
	p0, _ := Tolerable(m.Baselines[cmp.Or(s.Way, Connectors)])
	r := &Record{Scope: s, P0: p0}
	m.index[s], m.Records = r, append(m.Records, r)
	return r
}

// find returns the record of a scope, or nil.
func (m *Monitor) find(s Scope) *Record {
	if m.index == nil {
		m.index = map[Scope]*Record{}
		for _, r := range m.Records {
			m.index[r.Scope] = r
		}
	}
	return m.index[s]
}

func (m *Monitor) halted(s Scope) bool {
	r := m.find(s)
	return r != nil && r.Halt != nil
}

// add takes in an outcome and returns the halt that it leads to.
func (r *Record) add(o Outcome) *Halt {
	r.take(o)
	r.Score = max(0, r.Score+step(r.P0, o.Result != Good))
	switch {
	case r.Halt != nil:
		return nil
	case o.Result == Harm && r.harmful():
		return r.halt(o.At, fmt.Sprintf("harm done to %s", o.Host))
	case r.Score >= Limit:
		return r.halt(o.At, fmt.Sprintf("%d of %d failed, and %.0f %% would be tolerable: score %.1f of %d", r.Failed, r.Finished, 100*r.P0, r.Score, Limit))
	}
	return nil
}

// take counts an outcome.
func (r *Record) take(o Outcome) {
	if len(o.Error) > 200 {
		o.Error = o.Error[:200]
	}
	r.Finished++
	if o.Result != Good {
		r.Failed++
	}
	if o.Result == Harm {
		r.Harmed++
	}
	if len(r.Last) == kept {
		copy(r.Last, r.Last[1:])
		r.Last = r.Last[:kept-1]
	}
	r.Last = append(r.Last, o)
}

// harmful says whether the harm that was done halts this scope: the first halts model and
// site, the second the way.
func (r *Record) harmful() bool { return r.Scope.Kind != OfWay || r.Harmed >= 2 }

// ring takes in an outcome of a model, and opens the next ring when this one is through.
func (r *Record) ring(o Outcome) *Halt {
	rings := Rings()
	if r.Ring >= len(rings) {
		return nil
	}
	r.InRing++
	if o.Result != Good {
		r.RingBad++
	}
	switch {
	case r.Halt != nil, r.InRing < rings[r.Ring]:
		return nil
	case r.Ring == 0 && r.RingBad == r.InRing:
		return r.halt(o.At, fmt.Sprintf("all of the first %d failed", r.InRing))
	}
	r.Ring, r.InRing, r.RingBad = r.Ring+1, 0, 0
	return nil
}

func (r *Record) halt(at time.Time, why string) *Halt {
	r.Halt = &Halt{Scope: r.Scope, Score: r.Score, At: at, Why: r.Scope.String() + ": " + why + "; " + r.evidence()}
	return r.Halt
}

// evidence tells of the last outcomes, and the commonest error among them.
func (r *Record) evidence() string {
	text := fmt.Sprintf("last %d, oldest first:", len(r.Last))
	count, most := map[string]int{}, ""
	for _, o := range r.Last {
		text += fmt.Sprintf(" %s %s,", o.Host, o.Result)
		if o.Error == "" {
			continue
		}
		if count[o.Error]++; count[o.Error] > count[most] {
			most = o.Error
		}
	}
	text = text[:len(text)-1]
	if most != "" {
		text += fmt.Sprintf("; most often: %s (%d times)", most, count[most])
	}
	return text
}

// Halts returns what is halted, in the order in which it was.
func (m *Monitor) Halts() []Halt {
	var all []Halt
	for _, r := range m.Records {
		all = appendHalt(all, r.Halt)
	}
	slices.SortStableFunc(all, func(a, b Halt) int { return a.At.Compare(b.At) })
	return all
}

// Cap returns how many hosts of a way and model may be in treatment at once now: 0 if that is
// halted, negative if there is no cap.
func (m *Monitor) Cap(way, model string) int {
	for _, s := range []Scope{{Kind: OfModel, Way: way, Model: model}, {Kind: OfWay, Way: way}, {Kind: OfConnector, Connector: way}} {
		if m.halted(s) {
			return 0
		}
	}
	r, rings := m.find(Scope{Kind: OfModel, Way: way, Model: model}), Rings()
	switch {
	case r == nil:
		return rings[0]
	case r.Ring >= len(rings):
		return -1
	}
	return max(0, rings[r.Ring]-r.InRing)
}

// ErrNobody says that a halt can be ended by a named person alone.
var ErrNobody = errors.New("a halt is ended by a person, with a name")

// Resume ends the halt of a scope. Its score starts anew, and a way and model go on with the
// second ring.
func (m *Monitor) Resume(s Scope, by string, at time.Time) error {
	switch {
	case by == "":
		return ErrNobody
	case !m.halted(s):
		return fmt.Errorf("%s is not halted", s)
	}
	r := m.find(s)
	r.Resumed = append(r.Resumed, Resume{By: by, At: at, Was: r.Halt.Why})
	r.Halt, r.Score, r.Harmed = nil, 0, 0
	switch s.Kind {
	case OfRung:
		r.Finished, r.Failed = 0, 0
	case OfModel:
		r.Ring, r.InRing, r.RingBad = resumedRing, 0, 0
	case OfWay: // all its models go on with care
		for _, other := range m.Records {
			if other.Scope.Kind == OfModel && other.Scope.Way == s.Way {
				other.Ring, other.InRing, other.RingBad = min(other.Ring, resumedRing), 0, 0
			}
		}
	}
	return nil
}
