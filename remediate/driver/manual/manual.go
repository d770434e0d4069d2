// Package manual is the way of a person who goes to the host: with a card, or with a stick.
//
// The driver does nothing to the host itself. Enter has the card printed and announces the
// host at the [Desk], where sticks are let in; Repair takes, in this order, the report of the
// agent on a stick and the person's word, and waits as long as there is neither. A host that
// waits holds no place in the run.
package manual

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"unbrick/playbooks"
	"unbrick/remediate"
)

// A Desk is where hosts are announced that wait for a person with a stick. rescue.Server is
// one.
type Desk interface {
	// Await lets sticks in at the target from now on. Twice is the same as once; what the
	// first call says it waits for counts.
	Await(ctx context.Context, t remediate.Target, what string) error
	// RepairByStick returns the report of the agent on a stick. Its error is a
	// *remediate.WaitError for what Await was told if nobody came, or came and fell silent.
	RepairByStick(ctx context.Context, t remediate.Target, pb *playbooks.Playbook) (remediate.Report, error)
	// Dismiss lets no stick in any more. Twice is the same as once, also without Await.
	Dismiss(ctx context.Context, t remediate.Target) error
}

// Options say what the way needs. Desk must be there.
type Options struct {
	Desk Desk
	// Card prints the card of the host, or finds that it was printed, and says where it is;
	// the empty string where there is none, as for a host without BitLocker. The same host
	// has the same card, so that a key goes out once. Nil: no cards.
	Card func(ctx context.Context, t remediate.Target) (where string, err error)
}

// A Driver is the way by a person. An address is where in its site the host stands, in words
// for the person; "yes" and "-" say nothing.
type Driver struct{ opt Options }

var (
	_ remediate.Driver   = (*Driver)(nil)
	_ remediate.Repairer = (*Driver)(nil)
)

// New returns a driver.
func New(o Options) *Driver { return &Driver{o} }

// Observe implements remediate.Driver. Nobody can see from here how the host stands.
func (d *Driver) Observe(context.Context, remediate.Target) (remediate.Posture, error) {
	return remediate.Posture{Power: "unknown"}, nil
}

// Enter implements remediate.Driver: the card is printed, and sticks are let in. Booting, and
// from what, is up to the person.
func (d *Driver) Enter(ctx context.Context, t remediate.Target, _ remediate.Image) error {
	what := place(t)
	if d.opt.Card != nil {
		where, err := d.opt.Card(ctx, t)
		if err != nil {
			return fmt.Errorf("cannot print the card of %s: %w", t.Host.Name, err)
		}
		if where != "" {
			what += ": card " + where
		}
	}
	return d.opt.Desk.Await(ctx, t, what)
}

// place says who is to go where.
func place(t remediate.Target) string {
	var b strings.Builder
	b.WriteString("a person at the host")
	if t.Host.Site != "" {
		b.WriteString(" in " + t.Host.Site)
	}
	if a := strings.TrimSpace(t.Route.Address); a != "" && a != "-" && !strings.EqualFold(a, "yes") {
		b.WriteString(", " + a)
	}
	if t.Host.Technician != "" {
		fmt.Fprintf(&b, " (technician %s)", t.Host.Technician)
	}
	return b.String()
}

// reportLimit is how long Repair looks for a report where a person has spoken: it is there or
// it is not.
const reportLimit = 10 * time.Second

// Repair implements remediate.Repairer. A report that shows the host repaired outweighs any
// word; without one, the person's last word counts, unless a remark after it asks to look
// again. "done" is a claim: the report names the person in Word and no file, and the host has
// to be seen up before it is called fixed.
func (d *Driver) Repair(ctx context.Context, t remediate.Target, pb *playbooks.Playbook) (remediate.Report, error) {
	word, spoken := lastWord(t.Notes)
	if !spoken {
		return d.opt.Desk.RepairByStick(ctx, t, pb)
	}
	limited, cancel := context.WithTimeout(ctx, reportLimit)
	defer cancel()
	rep, err := d.opt.Desk.RepairByStick(limited, t, pb)
	var wait *remediate.WaitError
	switch {
	case ctx.Err() != nil:
		return remediate.Report{}, context.Cause(ctx)
	case err == nil:
		return rep, nil
	case !errors.As(err, &wait) && word.What == remediate.Done:
		// What the stick found stays known, and the person went on after it.
		word.Text = strings.TrimSpace(word.Text + " (before that: " + err.Error() + ")")
	}
	said := strings.TrimSuffix(fmt.Sprintf("%s at %s: %s", word.By, word.At.UTC().Format("2006-01-02 15:04 UTC"), word.Text), ": ")
	if word.What == remediate.GaveUp {
		return rep, fmt.Errorf("the person at the host gave up: %s", said)
	}
	return remediate.Report{Result: playbooks.Result{Playbook: pb.Name}, Agent: word.By + " (by word)", Word: said}, nil
}

// lastWord returns the last note of a person, if that says how it ended.
func lastWord(notes []remediate.Note) (n remediate.Note, ended bool) {
	for _, note := range notes {
		if note.What != remediate.Seen {
			n = note
		}
	}
	return n, n.What == remediate.Done || n.What == remediate.GaveUp
}

// Leave implements remediate.Driver. There is nothing to put back: who starts Windows is the
// person.
func (d *Driver) Leave(ctx context.Context, t remediate.Target, _ remediate.Posture) error {
	return d.opt.Desk.Dismiss(ctx, t)
}
