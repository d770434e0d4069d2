package drivertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"unbrick/remediate"
	"unbrick/remediate/lab/testenv/faults"
)

// A World holds hosts that are not there, for a [Fake] to work on. It is a [Memory], or one in
// another process: see [ServeWorld].
type World interface {
	// Do does one thing to one host, and returns how the host stands afterwards. It may do
	// it and return an error all the same, as a reply can be lost.
	Do(ctx context.Context, op Op) (HostState, error)
}

// A Verb is something that can be done to a host.
type Verb string

// The verbs.
const (
	Look          Verb = "look" // changes nothing
	PowerOff      Verb = "power off"
	PowerOn       Verb = "power on"
	InsertMedia   Verb = "insert"
	EjectMedia    Verb = "eject"
	SetOverride   Verb = "set override"
	ClearOverride Verb = "clear override"
	Repair        Verb = "repair" // by the rescue image that runs on it
)

// An Op is one thing to do.
type Op struct {
	Host   string          `json:"host"`
	Verb   Verb            `json:"verb"`
	Image  string          `json:"image,omitempty"`  // of an insert or a repair
	Stage  remediate.Stage `json:"stage,omitempty"`  // in which it is done
	Caller string          `json:"caller,omitempty"` // one call of one method
}

// A HostState is how a host stands, and what was done to it.
type HostState struct {
	On       bool   `json:"on"`
	Inserted string `json:"inserted,omitempty"` // URL of the image in its slot
	Override bool   `json:"override,omitempty"` // the next start boots the slot
	Running  string `json:"running,omitempty"`  // what runs: Windows, Looping, Image, nothing
	Broken   bool   `json:"broken,omitempty"`   // Windows does not start

	Booted     []string `json:"booted,omitempty"`  // images, in order
	Starts     int      `json:"starts,omitempty"`  // power on
	Repairs    int      `json:"repairs,omitempty"` // that removed the file
	Violations []string `json:"violations,omitempty"`

	callers []string // in the order in which they first changed something
}

// What can run on a host.
const (
	Windows = "windows"
	Looping = "looping" // Windows that crashes, again and again
	Rescue  = "image"
)

// Tidy says that nothing was left behind: no media, no override, and power.
func (s HostState) Tidy() bool { return s.On && s.Inserted == "" && !s.Override }

// A Memory is a World in memory. A host that was never set is broken, and loops.
type Memory struct {
	// Hook, if not nil, is called before each Op is done, with its number from 0. It may
	// kill the process that asked.
	Hook func(n int, op Op)
	// Delay is how long everything takes.
	Delay time.Duration

	mu     sync.Mutex
	n      int
	hosts  map[string]*HostState
	faults faults.Book[Fault]
}

// Set changes how a host stands.
func (m *Memory) Set(host string, change func(*HostState)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(m.host(host))
}

// State returns how a host stands.
func (m *Memory) State(host string) HostState {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.host(host).copy()
}

// States returns how every host stands that was ever named.
func (m *Memory) States() map[string]HostState {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := map[string]HostState{}
	for name, h := range m.hosts {
		all[name] = h.copy()
	}
	return all
}

func (h *HostState) copy() HostState {
	s := *h
	s.Booted, s.Violations = slices.Clone(h.Booted), slices.Clone(h.Violations)
	return s
}

func (m *Memory) host(name string) *HostState {
	if m.hosts == nil {
		m.hosts = map[string]*HostState{}
	}
	h := m.hosts[name]
	if h == nil {
		h = &HostState{On: true, Running: Looping, Broken: true}
		m.hosts[name] = h
	}
	return h
}

// Do implements World.
func (m *Memory) Do(ctx context.Context, op Op) (HostState, error) {
	m.mu.Lock()
	n := m.n
	m.n++
	fault, failing := m.meet(op)
	m.mu.Unlock()

	if m.Hook != nil {
		m.Hook(n, op)
	}
	if m.Delay > 0 {
		select {
		case <-time.After(m.Delay):
		case <-ctx.Done():
			return HostState{}, ctx.Err()
		}
	}
	if failing && fault.Kind != LostReply {
		return HostState{}, fault.fail(ctx)
	}
	m.mu.Lock()
	h := m.host(op.Host)
	err := h.do(op)
	s := h.copy()
	m.mu.Unlock()
	if failing {
		return HostState{}, fault.fail(ctx)
	}
	return s, err
}

// do is what the hardware does.
func (h *HostState) do(op Op) error {
	if op.Verb != Look {
		h.watch(op)
	}
	switch op.Verb {
	case Look:
	case PowerOff:
		h.On, h.Running = false, ""
	case PowerOn:
		if !h.On {
			h.start()
		}
	case InsertMedia:
		if h.Inserted != "" {
			return errors.New("cannot insert: the slot is full")
		}
		h.Inserted = op.Image
	case EjectMedia:
		h.Inserted = ""
	case SetOverride:
		h.Override = true
	case ClearOverride:
		h.Override = false
	case Repair:
		return h.repair(op)
	default:
		return fmt.Errorf("no verb %q", op.Verb)
	}
	return nil
}

// watch notes what must never be done, however a call was cut off and repeated.
func (h *HostState) watch(op Op) {
	if op.Verb == PowerOff && h.Running == Windows {
		h.violate("Windows was up and was powered off at %s", op.Stage)
	}
	if op.Verb == PowerOff && h.Running == Rescue && op.Stage == remediate.Enter && op.Image == h.Inserted {
		h.violate("the image was booted and powered off at enter")
	}
	if op.Verb == InsertMedia && h.Inserted == op.Image {
		h.violate("the image was inserted and inserted again")
	}
	if op.Caller == "" {
		return
	}
	if i := slices.Index(h.callers, op.Caller); i < 0 {
		h.callers = append(h.callers, op.Caller)
	} else if i < len(h.callers)-1 {
		h.violate("two callers worked on the host at once (%s at %s)", op.Verb, op.Stage)
	}
}

func (h *HostState) violate(format string, args ...any) {
	h.Violations = append(h.Violations, fmt.Sprintf(format, args...))
}

func (h *HostState) start() {
	h.On = true
	h.Starts++
	switch {
	case h.Override && h.Inserted != "":
		if slices.Contains(h.Booted, h.Inserted) {
			h.violate("the image %s was booted twice", h.Inserted)
		}
		h.Booted = append(h.Booted, h.Inserted)
		h.Running = Rescue
	case h.Broken:
		h.Running = Looping
	default:
		h.Running = Windows
	}
	h.Override = false
}

func (h *HostState) repair(op Op) error {
	if h.Running != Rescue || h.Inserted != op.Image {
		return errNotBooted
	}
	if h.Repairs > 0 {
		h.violate("the file was removed twice")
	}
	h.Repairs++
	h.Broken = false
	return nil
}

var errNotBooted = errors.New("cannot repair: the host does not run the image")
