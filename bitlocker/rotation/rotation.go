// Package rotation replaces the protectors whose keys went out, once their hosts are well
// again: a key that a person or a program has seen opens the disk for as long as its protector
// is there.
//
// What is to be replaced is read from the ledger (each release, less what was replaced since),
// so there is no queue that could be lost. For each protector:
//
//	disclosed ─ its host is well for the soak ─► asked ─ a new one shows in escrow ─► escrowed ─ the old one is gone ─► dead
//
// The old one is never removed before an escrow has the new one. Escrows do not say on which
// volume of a host a protector is; so one is replaced at a time per host, and commands that
// remove one look first whether the new one is on the same volume. A host that Intune replaces
// protectors of does that by itself, and is taken at its word. Two hosts of one name look like
// one here, as they do in the escrows.
package rotation

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"unbrick/bitlocker"
)

// Disclosed is the step of a protector whose replacement nobody has asked for.
const Disclosed bitlocker.RotationStep = "disclosed"

// An Item is a protector whose key went out, and how far its replacement is.
type Item struct {
	bitlocker.Query
	Released time.Time              `json:"released"` // the last time
	Releases int                    `json:"releases"`
	Step     bitlocker.RotationStep `json:"step"`
	Since    time.Time              `json:"since"` // of the step
	By       string                 `json:"by,omitempty"`
	Asked    int                    `json:"asked"` // how often
	New      bitlocker.KeyID        `json:"new,omitzero"`

	known   []bitlocker.KeyID // before it was asked for
	escrows []string          // that said so
	first   time.Time         // when
}

// Done says whether the protector opens nothing any more.
func (it Item) Done() bool { return it.Step == bitlocker.RotationDead }

type itemKey struct {
	id   bitlocker.KeyID
	host string // folded
}

// A Queue is what the ledger says of all protectors whose keys went out.
type Queue struct{ items map[itemKey]*Item }

// Add takes the next record of the ledger. Keys that were withheld or sealed in a bundle and
// passwords do not count: the former did not go out, the latter have no protector.
func (q *Queue) Add(e bitlocker.Event) {
	if q.items == nil {
		q.items = map[itemKey]*Item{}
	}
	switch {
	case e.Release != nil && !e.Withheld && !e.ID.IsZero() && !strings.HasPrefix(e.Purpose, bitlocker.SealedInBundle):
		k := itemKey{e.ID, bitlocker.FoldHost(e.Host)}
		it := q.items[k]
		if it == nil || it.Done() { // dead and asked for again: somebody has brought it back
			it = &Item{Query: e.Query, Step: Disclosed, Since: e.Time}
			q.items[k] = it
		}
		it.Released = e.Time
		it.Releases++
	case e.Rotation != nil:
		if it := q.items[itemKey{e.Rotation.ID, bitlocker.FoldHost(e.Rotation.Host)}]; it != nil {
			it.apply(*e.Rotation, e.Time)
		}
	}
}

// apply moves the item to the step of r. Where it is asked again, what was known the first time
// stays: a protector that came since is a new one.
func (it *Item) apply(r bitlocker.Rotation, at time.Time) {
	it.Step, it.Since, it.By = r.Step, at, r.By
	if r.Step == bitlocker.RotationAsked {
		it.Asked++
	}
	if len(r.Escrows) > 0 {
		it.known, it.escrows, it.first = r.Known, r.Escrows, at
	}
	if !r.New.IsZero() {
		it.New = r.New
	}
}

// Items returns all of them, by the time when they went out. A release that names no host is
// left out where another of the same protector names one.
func (q *Queue) Items() []*Item {
	placed := map[bitlocker.KeyID]bool{}
	for k := range q.items {
		placed[k.id] = placed[k.id] || k.host != ""
	}
	var all []*Item
	for k, it := range q.items {
		if k.host != "" || !placed[k.id] {
			all = append(all, it)
		}
	}
	slices.SortFunc(all, func(a, b *Item) int {
		return cmp.Or(a.Released.Compare(b.Released), cmp.Compare(a.Host, b.Host), slices.Compare(a.ID[:], b.ID[:]))
	})
	return all
}
