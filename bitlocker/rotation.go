package bitlocker

import (
	"context"
	"io"
)

// A RotationStep is how far the replacement of one protector has come.
type RotationStep string

const (
	RotationAsked    RotationStep = "asked"    // about to be asked for
	RotationFailed   RotationStep = "failed"   // could not be asked for
	RotationAdded    RotationStep = "added"    // the host says that it has New, beside the old one
	RotationEscrowed RotationStep = "escrowed" // an escrow has New
	RotationDead     RotationStep = "dead"     // the old one opens nothing any more
)

// A Rotation is a step of the replacement of a protector whose key went out. It is on the ledger
// so that it survives whatever the release survives. It holds no key.
type Rotation struct {
	Query
	Step RotationStep `json:"step"`
	By   string       `json:"by"`           // what replaces it: an escrow, a way to run commands, or the person who does it
	New  KeyID        `json:"new,omitzero"` // of added and escrowed

	// Of asked: the escrows that could say what they have, and the protectors of the host that
	// any of them had. A new one has to show in one of these escrows.
	Escrows []string `json:"escrows,omitempty"`
	Known   []KeyID  `json:"known,omitempty"`
}

// RecordRotation writes how far a rotation is and returns once that is on stable storage.
func (l *Ledger) RecordRotation(ctx context.Context, r Rotation) error {
	return l.locked(ctx, func() error {
		if err := l.catchUp(); err != nil {
			return err
		}
		return l.append(Event{Rotation: &r})
	})
}

// Each hands every record to f, in order, while nobody else writes. An error of f ends it.
func (l *Ledger) Each(ctx context.Context, f func(Event) error) error {
	return l.locked(ctx, func() error {
		if err := l.catchUp(); err != nil {
			return err
		}
		_, _, err := ReadLedger(io.NewSectionReader(l.f, 0, l.tail.size), func(e Event, _ string) error { return f(e) })
		return err
	})
}
