package swap

import "time"

// A Power says whether an instance runs.
type Power string

// The powers.
const (
	On       Power = "on"
	Off      Power = "off"
	Changing Power = "changing" // starting or stopping: look again
)

// A Place is where a volume is.
type Place string

// The places.
const (
	Own       Place = "own"       // on its instance, or still a part of what it runs with
	Free      Place = "free"      // attached to nothing
	Lent      Place = "lent"      // on a helper
	Moving    Place = "moving"    // being attached or detached: look again
	Elsewhere Place = "elsewhere" // on an instance that is neither: hands off
)

// A State is how an instance and its volume stand.
type State struct {
	Power  Power
	Volume Place
	On     string // what has it, when it is Lent or Elsewhere

	Snapshot bool // the one that the entry asks for is there

	// Stopped is when an instance that is off was switched off; zero if the platform does not tell.
	Stopped time.Time
}

// A Step is one change.
type Step string

// The steps. All but Lend and Recover are done to the instance.
const (
	Stop    Step = "stop"    // without asking Windows, which does not answer
	Snap    Step = "snap"    // make a snapshot of the volume, called as the entry's mark
	Release Step = "release" // take the volume off its instance
	Lend    Step = "lend"    // hang it on the helper, with the mark of the entry
	Recover Step = "recover" // take it off the helper
	Return  Step = "return"  // hang it back as the slot says
	Start   Step = "start"
)

// What is no step.
const (
	done Step = "done"
	wait Step = "wait"
	halt Step = "halt" // nobody knows what this is
)

// A rule says what to do when a volume is in a place and its instance has a power.
type rule struct {
	volume Place
	power  Power // empty: any
	step   Step
}

// unsafe says that a step has to wait for a snapshot that is asked for and not there.
func (e Entry) unsafe(step Step, s State) bool { return step == Release && e.Snapshot && !s.Snapshot }

// entering leads to a volume that hangs on a helper.
var entering = []rule{
	{Lent, "", done},
	{Free, "", Lend}, // an instance that somebody started without its volume does it no harm
	{Own, On, Stop},
	{Own, Off, Release},
	{Own, Changing, wait},
	{Moving, "", wait},
}

// leaving leads to an instance that runs with its volume.
var leaving = []rule{
	{Own, On, done},
	{Own, Off, Start},
	{Own, Changing, wait},
	{Lent, "", Recover},
	{Free, On, Stop}, // it runs without the volume: that is no Windows
	{Free, Off, Return},
	{Free, Changing, wait},
	{Moving, "", wait},
}

// next returns the step of a table for a state.
func next(table []rule, e Entry, s State) Step {
	for _, r := range table {
		switch {
		case r.volume != s.Volume || r.power != "" && r.power != s.Power:
		case e.unsafe(r.step, s):
			return Snap
		default:
			return r.step
		}
	}
	return halt
}
