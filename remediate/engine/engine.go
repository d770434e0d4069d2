// Package engine carries out runs: it takes hosts in their order within the limits, treats
// each in a durable workflow whose steps are the stages of package remediate, and loses
// nothing when it is killed.
//
// It is the only package that imports DBOS, and DBOS holds the hosts in flight alone: the
// others are rows of a table. What is true of a host at any time:
//
//   - A row that is "running" has one workflow, named run/host/attempt; both come to be in one
//     transaction.
//   - Before a driver's Enter is called the row says what has to be put back, and goes on
//     saying it until Leave has done so. An attempt that finds this from an earlier one puts
//     the host back before anything else.
//   - A stage is a step: it ran and its output is recorded, or it runs again. Its output says
//     how it went, errors included; an error of the step itself is the engine's, means that
//     nobody knows, and ends the attempt on the spot.
//   - remediate.Next alone decides what follows.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"unbrick/playbooks"
	"unbrick/remediate"
	"unbrick/remediate/schedule"
	"unbrick/remediate/schedule/halt"
)

// ErrInterrupted says that a run was stopped before it ended: the same run goes on where it was.
var ErrInterrupted = errors.New("interrupted before the run ended; run it again to go on")

// An Engine carries out one run. Store, Playbook and Drivers must be there.
type Engine struct {
	Store    *Store
	RunID    string // empty: the latest
	Playbook *playbooks.Playbook

	Drivers map[string]remediate.Driver // by the name that routes have
	Medic   remediate.Medic             // nil if every driver is a Repairer
	Prober  remediate.Prober            // nil: no host is ever seen up
	Voucher remediate.Voucher           // nil: nobody asks a Windows that answers how it stands
	Witness remediate.Witness           // nil: nobody is asked of a host that does not answer
	Gates   []remediate.Gate
	Ladder  remediate.Ladder // nil: the ways that the inventory names, in its order

	Limits Limits
	// PerHour is how many hosts are begun by a way in an hour at most, for platforms that count
	// calls, by all processes of the run together: evenly, not all at once. A way that is not in
	// it has no rate. What is to be put back is.
	PerHour  map[string]int
	Timeouts Timeouts
	Soak     time.Duration // how long a host must stay up
	Every    time.Duration // how often signs of life are looked for; 5 s if 0
	Tries    int           // how often a stage calls what answers with a RetryError; 5 if 0
	// Attempts is how often a way is tried whose rung does not say so: an image that did not
	// start this time may start the next. It is also how often a host is repaired that goes
	// down again. 1 if 0.
	Attempts int

	// Wait is how long the run goes on for the sake of hosts that wait for a person, each from
	// when it began to; the budget of a rung says so for its way. 0: not at all, they go on
	// waiting in the state, and go on from there when the run does.
	Wait  time.Duration
	Watch time.Duration // how long hosts that were fixed are looked after; 0: not at all
	Look  time.Duration // how often hosts that wait, or are looked after, are looked at; 1 min if 0

	// Plan is what the order of hosts is made anew from while the run goes on, if it is there:
	// its Start is that of the run. Otherwise it stays as it is.
	Plan   *schedule.Options
	Replan time.Duration // how often; 30 s if 0
	// Baselines are the shares of failures that ways are known for. If they are there, hosts of
	// one way and model are begun in rings, and what fails together is halted: see package halt.
	Baselines map[string]float64
	// Halt is asked before hosts are taken, if it is there. It says why no more should be.
	Halt func(Outcomes) (reason string, halt bool)
	// Keep keeps what a host shows at the end of its treatment, and says where, if it is there.
	Keep func(t remediate.Target, png []byte) (where string, err error)
	// Events is told of every step, if it is there. It must not block.
	Events func(Event)
	Log    *slog.Logger

	// Command is how this process was begun, for whoever has to give it again.
	Command Command
	// Executor names this process among those that work on the same state; the name of the
	// machine if empty. Two processes never work under one name.
	Executor string
	Sites    []string      // take hosts of these alone; empty: of all
	Lease    time.Duration // how long a process may be silent before others take its hosts; 15 s if 0
	Poll     time.Duration // how often work is looked for; 200 ms if 0

	unable map[string]error // by way: why it cannot carry out the playbook
	stop   chan struct{}
	at     func(when, host string, s remediate.Stage) // tests end the process here
}

// Limits say how much may be done at once. What is 0, Hosts apart, has no limit. Those that
// the state counts hold for all processes of a run together. A host that waits for a person
// counts for its technician alone. One that is to be put back, or was taken up again after it
// waited, is not held up by what its way needs.
type Limits struct {
	Hosts          int // in treatment by this process; 64 if 0
	PerSite        int // in treatment at one site
	PerSubnet      int // whose controllers are in one network: see remediate.Subnet
	ImagesPerSite  int // at one site that may be fetching the rescue image: see remediate.Streams
	PerTechnician  int // that one person goes to; of those whom nobody is named for, at one site
	PowerPerMinute int // switched on at one site; what restart switches asks Store.PowerOn
}

// Timeouts bound the stages. What is 0 is 2, 10, 45, 15 and 20 minutes.
type Timeouts struct {
	Check, Enter, Repair, Leave, Confirm time.Duration
	RepairBy                             map[string]time.Duration // instead of Repair, by ways that need another time
}

// by returns the time of a stage of a way.
func (t Timeouts) by(s remediate.Stage, way string) time.Duration {
	if d := t.RepairBy[way]; s == remediate.Repair && d > 0 {
		return d
	}
	return t.of(s)
}

func (t Timeouts) of(s remediate.Stage) time.Duration {
	set := map[remediate.Stage][2]time.Duration{
		remediate.Check:   {t.Check, 2 * time.Minute},
		remediate.Enter:   {t.Enter, 10 * time.Minute},
		remediate.Repair:  {t.Repair, 45 * time.Minute},
		remediate.Leave:   {t.Leave, 15 * time.Minute},
		remediate.Confirm: {t.Confirm, 20 * time.Minute},
	}[s]
	if set[0] > 0 {
		return set[0]
	}
	return set[1]
}

// Outcomes are what the stop rule decides by.
type Outcomes struct {
	Count
	Recent []remediate.Verdict // of the hosts that were entered, not cancelled, and ended last, newest first, at most 100; since the run was resumed
}

// An Event is one step of one host, or its verdict.
type Event struct {
	Run     string            `json:"run"`
	Host    string            `json:"host"`
	Site    string            `json:"site"`
	Attempt int               `json:"attempt"`
	Route   string            `json:"route,omitempty"`
	Stage   remediate.Stage   `json:"stage,omitempty"`   // empty beside a verdict
	Outcome remediate.Outcome `json:"outcome,omitempty"` // empty: the stage begins
	Verdict remediate.Verdict `json:"verdict,omitempty"` // Waiting is not the last
	Reason  string            `json:"reason,omitempty"`
	Again   bool              `json:"again,omitempty"` // it was fixed, and went down again; the verdict is empty if it is treated once more
	Halt    *halt.Halt        `json:"halt,omitempty"`  // alone: something was halted
}

// A Summary is what `unbrick run --json` prints.
type Summary struct {
	Run      string                    `json:"run"`
	Playbook string                    `json:"playbook"`
	Hosts    int                       `json:"hosts"`
	Verdicts map[remediate.Verdict]int `json:"verdicts"`
	Halted   string                    `json:"halted"`            // why the stop rule stopped it, or that only hosts of what is halted are left
	Halts    []halt.Record             `json:"halts,omitempty"`   // what is halted beside the whole run
	Running  int                       `json:"running,omitempty"` // hosts in treatment, or left in the middle of it
	Left     *Left                     `json:"left,omitempty"`    // what nobody is at work on any more
	OnTime   int                       `json:"on_time"`
	Late     int                       `json:"late"`
	Started  time.Time                 `json:"started"`
	Ended    time.Time                 `json:"ended,omitzero"`
}

// Done says that every host is fixed or healthy.
func (s Summary) Done() bool {
	return s.Verdicts[remediate.Fixed]+s.Verdicts[remediate.Healthy] == s.Hosts
}

// New returns e with what it left out filled in. An Engine runs once.
func New(e Engine) *Engine {
	fill(&e.Limits.Hosts, 64)
	fill(&e.Every, 5*time.Second)
	fill(&e.Tries, 5)
	fill(&e.Attempts, 1)
	fill(&e.Lease, 15*time.Second)
	fill(&e.Poll, 200*time.Millisecond)
	fill(&e.Look, time.Minute)
	fill(&e.Replan, 30*time.Second)
	if e.Log == nil {
		e.Log = slog.New(slog.DiscardHandler)
	}
	if e.at == nil {
		e.at = func(string, string, remediate.Stage) {}
	}
	e.stop = make(chan struct{}, 1)
	e.unable = map[string]error{}
	for way, d := range e.Drivers {
		if err := remediate.Supports(d, e.Playbook); err != nil {
			e.unable[way] = err
		}
	}
	return &e
}

func fill[T comparable](v *T, otherwise T) {
	if *v == *new(T) {
		*v = otherwise
	}
}

// Stop makes Run take no more hosts, let the stages that are running end, and return. End the
// context of Run to stop at once.
func (e *Engine) Stop() {
	select {
	case e.stop <- struct{}{}:
	default:
	}
}

// Run carries out the run until every host has a verdict, the stop rule stops it, or Stop or
// ctx ends it; then the error is ErrInterrupted. While the run is paused it waits. The Summary
// is right in every case. Any other error is the engine's own; the run can go on after it.
func (e *Engine) Run(ctx context.Context) (Summary, error) {
	r, err := e.Store.Run(ctx, e.RunID)
	if err != nil {
		return Summary{}, err
	}
	w := newWorker(e, r)
	if r.State == "running" {
		err = w.work(ctx)
	}
	// The answer is wanted also when ctx is over.
	st, statusErr := e.Store.Status(context.WithoutCancel(ctx), r.ID)
	if err == nil {
		err = statusErr
	}
	halted := st.Run.Halted
	if err == nil && halted == "" && len(st.Halts) > 0 && st.Todo > 0 {
		halted = fmt.Sprintf("%d hosts are left to do, and what treats them is halted: %s", st.Todo, st.Halts[0].Halt.Why)
	}
	return Summary{
		Run: r.ID, Playbook: r.Playbook, Hosts: st.Hosts, Verdicts: st.Verdicts, Halted: halted, Halts: st.Halts,
		Running: st.Running, Left: st.Left, OnTime: st.OnTime, Late: st.Late, Started: r.Started, Ended: st.Run.Ended,
	}, err
}
