package playbooks

import (
	"strings"
)

// What Hives.Replay may be.
const (
	ReplayDamaged = "damaged" // hives that are not whole
	ReplayDirty   = "dirty"   // also those that Windows would bring up to date itself
)

// Hives is the step that sees whether registry hives can be loaded, and restores those that
// cannot by replaying their transaction logs. A hive that is whole and only behind its logs is
// how every crash leaves it: it is good, and Windows replays the logs at its next start.
type Hives struct {
	Names  []string // files in System32/config; SYSTEM and SOFTWARE if none
	Replay string   // ReplayDamaged if empty
}

func (*Hives) step() {}

func (h *Hives) names() []string {
	if len(h.Names) == 0 {
		return []string{"SYSTEM", "SOFTWARE"}
	}
	return h.Names
}

// String says what the step looks for, on one line.
func (h *Hives) String() string {
	s := "hives " + strings.Join(h.names(), ", ") + ": replay the logs of those that are damaged"
	if h.Replay == ReplayDirty {
		s += " or dirty"
	}
	return s
}

// Check implements [Step].
func (h *Hives) Check(v Volume, root string) (Finding, error) {
	return Finding{Root: root, Step: h.String(), Verdict: Unreadable, Error: errUnfinished.Error()}, errUnfinished
}

// Apply implements [Step].
func (h *Hives) Apply(Volume, *Finding, Keeper) error { return errUnfinished }
