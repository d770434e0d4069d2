// Package bitlocker finds the recovery key of exactly one volume, and accounts for every key
// that leaves it.
//
// A key is found by the id of its protector, never by host name alone: a host may have had
// many. [Broker.Release] writes the release on the ledger, durably, before the key goes out;
// if the ledger cannot be written, no key leaves.
package bitlocker

import (
	"context"
	"errors"
	"time"
)

// ErrNoKey means that an escrow was reached and has no such key. Any other error of a
// [Source] means that nothing is known: another escrow may still have it.
var ErrNoKey = errors.New("no recovery key on record")

// A Query asks for the key of one protector. Host narrows it where the escrow files keys
// under hosts, and is what the ledger shows; it never replaces ID.
type Query struct {
	ID   KeyID  `json:"key_id,omitzero"`
	Host string `json:"host,omitempty"`
}

// A Source is one escrow of keys. One that is a fmt.Stringer is called so on the ledger and in
// errors.
type Source interface {
	// Lookup returns the key, or an error wrapping ErrNoKey if the escrow was reached and
	// has none. An escrow that files the key under hosts, none of which is q.Host by
	// SameHost, returns a *WrongHostError. Errors carry no digit of any key.
	Lookup(ctx context.Context, q Query) (Key, error)
}

// An Indexer is a Source that can say which protectors it holds keys of, without reading any
// key. Optional.
type Indexer interface {
	// Index returns the entries of a host by SameHost, or all entries if host is empty. It
	// fails if none is of the host and some are of no known host.
	Index(ctx context.Context, host string) ([]Entry, error)
}

// A Prober is a Source that can say, before anything depends on it, whether it would give out
// keys. Optional.
type Prober interface {
	// Probe reaches the escrow and checks what it lets this account do. It reads no key. Its
	// error names what is missing.
	Probe(ctx context.Context) error
}

// ErrNoRotation means that an escrow cannot have protectors of this host replaced, however often
// it is asked: nobody manages the host.
var ErrNoRotation = errors.New("cannot be replaced from here")

// A Rotator is a Source that can have a protector replaced on the host itself. Optional.
type Rotator interface {
	// Rotate asks for a new protector in the place of q.ID, which has to be one of q.Host: if
	// the escrow has it under another, nothing is asked and the error is a *WrongHostError.
	// It returns when that is asked, long before the host does it: the new protector shows in
	// the Index. The host removes the old one after it has escrowed the new one. Asking twice
	// is harmless. The error wraps ErrNoRotation if asking again will not help.
	Rotate(ctx context.Context, q Query) error
}

// An Entry is what an escrow says of one key without showing it.
type Entry struct {
	ID      KeyID     `json:"id"`
	Host    string    `json:"host,omitempty"`
	Source  string    `json:"source"`
	Created time.Time `json:"created,omitzero"` // when it was escrowed, where the escrow says
	Valid   bool      `json:"valid"`            // the key's format was checked and is right
	Reason  string    `json:"reason,omitempty"` // why not: no digits in it
}

// A Recipient is who gets a key, for what: it goes on the ledger beside the key's id.
type Recipient struct {
	Actor   string `json:"actor"`             // who asks: "agent of HOST", "alice"
	Purpose string `json:"purpose"`           // "repair", "shown to a person"
	Run     string `json:"run,omitempty"`     // the run it belongs to
	Sealed  string `json:"sealed,omitempty"`  // fingerprint of the public key it is sealed to
	Address string `json:"address,omitempty"` // where the request came from

	// Of a person alone.
	Person  bool   `json:"person,omitempty"`  // a human being sees the key
	Claims  string `json:"claims,omitempty"`  // the name that Actor goes by, unproved
	Reason  string `json:"reason,omitempty"`  // why, in the person's own words
	Request string `json:"request,omitempty"` // hash of the approved request that it is part of
}

// SealedInBundle begins the purpose of a release into a sealed bundle. Its key was seen by
// nobody: the bundle's opening is a release of its own.
const SealedInBundle = "sealed in the bundle"

// A Recorder keeps releases.
type Recorder interface {
	// Record returns after the release is on stable storage, or with an error.
	Record(ctx context.Context, r Release) error
}
