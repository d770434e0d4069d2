package remediate

// A Stage is one durable step in the treatment of a host.
type Stage string

// The stages, in their order.
const (
	Check   Stage = "check"   // still down? may it be touched? how does it stand? Changes nothing
	Enter   Stage = "enter"   // bring its system volume within reach of the fixer
	Repair  Stage = "repair"  // the fixer applies the playbook and reports
	Leave   Stage = "leave"   // put the host back as check found it and start Windows
	Confirm Stage = "confirm" // proof that Windows is up and stays up
	End     Stage = ""        // a verdict is reached
)

// Stages lists the stages in their order.
func Stages() []Stage { return []Stage{Check, Enter, Repair, Leave, Confirm} }

// A Verdict is how a host ended.
type Verdict string

// The verdicts.
const (
	Fixed       Verdict = "fixed"       // repaired, put back, and seen up
	Healthy     Verdict = "healthy"     // came back by itself: nothing was done to it
	Skipped     Verdict = "skipped"     // must not be touched
	Failed      Verdict = "failed"      // not repaired, and put back as it was
	Stranded    Verdict = "stranded"    // not put back: somebody must go
	Unconfirmed Verdict = "unconfirmed" // repaired and put back, but no sign of life
	Waiting     Verdict = "waiting"     // a person holds it
)

// Verdicts lists the verdicts, best first.
func Verdicts() []Verdict {
	return []Verdict{Fixed, Healthy, Waiting, Unconfirmed, Skipped, Failed, Stranded}
}

// Done says that nobody needs to look at the host any more.
func (v Verdict) Done() bool { return v == Fixed || v == Healthy }

// An Outcome is how a stage ended.
type Outcome string

// The outcomes. Every stage but Check ends in OK, Up or Ill.
const (
	OK   Outcome = "ok"   // the stage did its work
	Up   Outcome = "up"   // Windows was seen up: nothing more is to be done to the host
	Skip Outcome = "skip" // the host must not be touched (check alone)
	Ill  Outcome = "ill"  // the stage failed
)

// A Move is where a host goes next. Verdict is the one in force from here on: a later stage
// may overrule it (a host that was to be Failed but could not be put back is Stranded).
type Move struct {
	Next    Stage
	Verdict Verdict // empty: as it was
}

// moves is the state table of the product: what follows each outcome of each stage.
// Nothing else decides where a host goes.
var moves = map[Stage]map[Outcome]Move{
	Check: {
		OK:   {Enter, ""},
		Up:   {End, Healthy},
		Skip: {End, Skipped},
		Ill:  {End, Failed}, // nothing was touched: there is nothing to put back
	},
	Enter: {
		OK:  {Repair, ""},
		Up:  {Leave, Healthy},
		Ill: {Leave, Failed},
	},
	Repair: {
		OK:  {Leave, Fixed},
		Up:  {Leave, Healthy},
		Ill: {Leave, Failed},
	},
	Leave: {
		OK:  {Confirm, ""},
		Ill: {End, Stranded},
	},
	Confirm: {
		OK:  {End, ""},
		Ill: {End, Unconfirmed},
	},
}

// Next returns where a host whose verdict so far is v goes after stage s ended in o.
//
// Three rules stand beside the table: a host that failed is put back and not confirmed, since
// it is not expected up; one that came up by itself and did not stay up has failed, since
// nothing was done to it; and an outcome the table does not know is Ill.
func Next(s Stage, o Outcome, v Verdict) Move {
	row := moves[s]
	m, ok := row[o]
	if !ok {
		m = row[Ill]
	}
	if m.Verdict == "" {
		m.Verdict = v
	}
	if s == Leave && m.Next == Confirm && v == Failed {
		m.Next = End
	}
	if s == Confirm && m.Verdict == Unconfirmed && v == Healthy {
		m.Verdict = Failed
	}
	return m
}
