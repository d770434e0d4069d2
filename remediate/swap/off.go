package swap

import (
	"fmt"
	"time"

	"unbrick/inventory"
	"unbrick/remediate"
)

// A WasOff says what becomes of instances that are off when they are found.
type WasOff string

// What may become of them. The zero WasOff lets the incident decide.
const (
	StartOff WasOff = "start" // they are repaired and started
	LeaveOff WasOff = "leave" // they are skipped
)

// idle says what becomes of an instance that is off, or skips it. What was off when the incident
// began cannot have it: to start it, a replica for instance, may do harm. What was switched off
// since is one that crashed, as a rule. Windows cannot be seen up where it is off, so that none
// is repaired and left off.
func (d *Driver) idle(h inventory.Host, s State) (said string, err error) {
	last, who := lastOn(h, s)
	from := d.opt.Incident.From
	switch {
	case d.opt.WasOff == LeaveOff:
		return "", &remediate.SkipError{Why: "it is off, and what is off is to be left so (swap: {was_off: leave} in unbrick.yaml)"}
	case d.opt.WasOff == StartOff:
		return "it was found off, and is started as swap: {was_off: start} says", nil
	case from.IsZero() || last.IsZero():
		return "it was found off, nobody knows since when, and is started (swap: {was_off: leave} in unbrick.yaml would leave it off)", nil
	case last.Before(from):
		return "", &remediate.SkipError{Why: fmt.Sprintf("it is off, and was when the incident began: %s %s (swap: {was_off: start} in unbrick.yaml has it repaired and started)", who, last.UTC().Format(time.RFC3339))}
	}
	return fmt.Sprintf("it was found off, but was not when the incident began (%s %s), and is started", who, last.UTC().Format(time.RFC3339)), nil
}

// lastOn returns until when an instance may have been on, and who says so; zero if nobody does.
func lastOn(h inventory.Host, s State) (last time.Time, who string) {
	if !s.Stopped.IsZero() {
		return s.Stopped, "its platform stopped it at"
	}
	for _, o := range h.From {
		if seen := o.Seen.Add(o.Lag); !o.Seen.IsZero() && seen.After(last) {
			last, who = seen, o.Source+" last saw it, or may have missed it until"
		}
	}
	return last, who
}
