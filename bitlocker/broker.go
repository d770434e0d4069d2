package bitlocker

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// A Broker releases keys from several escrows, all asked at once by the id of the protector.
type Broker struct {
	Sources []Source // where several have a key, the ledger names the first of them
	Ledger  Recorder

	// Wait is how long escrows have to answer while none has given the key; zero is 20 s.
	// Grace is how long the others have to contradict once one has; zero is 2 s. An escrow
	// that is silent for longer counts as one that could not be asked.
	Wait, Grace time.Duration

	// FirstWins releases the key of the first of Sources that has one even where another
	// holds different digits. Otherwise nothing is released then.
	FirstWins bool
}

const (
	defaultWait  = 20 * time.Second
	defaultGrace = 2 * time.Second
)

// A WrongHostError says that the escrow files the key under other hosts than the one that
// asks for it. Nothing is released then, whatever other escrows say: either the question or
// the escrow is wrong.
type WrongHostError struct {
	ID    KeyID
	Host  string   // the one that asks
	Filed []string // where the escrow has it
}

// Error names both hosts and what to do.
func (e *WrongHostError) Error() string {
	return fmt.Sprintf("key %s is not of host %s: the escrow files it under %s; correct whichever of the two is wrong",
		e.ID, e.Host, strings.Join(e.Filed, ", "))
}

// A DisagreementError says that escrows hold different keys for one protector. At most one of
// them opens the volume, and nothing here can tell which.
type DisagreementError struct {
	ID      KeyID
	Holders [][]string // the escrows; those within a group hold the same key
}

// Error names the escrows and what to do. It has no digit of any key.
func (e *DisagreementError) Error() string {
	groups := make([]string, len(e.Holders))
	for i, g := range e.Holders {
		groups[i] = strings.Join(g, " and ")
	}
	return fmt.Sprintf("escrows hold different keys for protector %s: %s; correct the wrong one, or let the first of them win",
		e.ID, strings.Join(groups, " against "))
}

// Release returns the key after its release is on the ledger. Where the ledger cannot be
// written, no key leaves.
//
// Where escrows hold different keys for the id, the error is a *[DisagreementError] unless the
// first wins; either way the ledger has it. An error wraps [ErrNoKey] only if every escrow was
// reached and none has the key. If one could not be asked, the error says which, and the key
// may still be there.
func (b *Broker) Release(ctx context.Context, q Query, to Recipient) (Key, error) {
	if q.ID.IsZero() {
		return Key{}, errors.New("cannot release a key without the id of its protector")
	}
	if b.Ledger == nil {
		return Key{}, errors.New("cannot release a key without a ledger")
	}
	if len(b.Sources) == 0 {
		return Key{}, errors.New("cannot look for keys: no escrow is configured")
	}
	answers := b.ask(ctx, q)
	if ctx.Err() != nil {
		return Key{}, fmt.Errorf("cannot look for key %s: %w", q.ID, context.Cause(ctx))
	}
	first, split, err := b.judge(q, answers)
	if err != nil {
		return Key{}, err
	}
	r := Release{Query: q, Recipient: to, Source: name(b.Sources[first])}
	if split != nil {
		r.Disagree = split.Holders
		r.Withheld = !b.FirstWins
	}
	if err := b.Ledger.Record(ctx, r); err != nil {
		err = fmt.Errorf("cannot write the ledger, so key %s stays here: %w", q.ID, err)
		if split != nil {
			err = errors.Join(split, err)
		}
		return Key{}, err
	}
	if r.Withheld {
		return Key{}, split
	}
	return answers[first].key, nil
}

// judge returns which source's key counts, and who contradicts it, or why there is none.
func (b *Broker) judge(q Query, answers []answer) (first int, split *DisagreementError, err error) {
	var without []string // escrows that have no such key, each with why
	var unasked []error
	var holders []int
	for i, a := range answers {
		from := name(b.Sources[i])
		var wrong *WrongHostError
		switch {
		case a.err == nil && !a.key.IsZero():
			holders = append(holders, i)
		case a.err == nil: // neither a key nor a reason: nothing is known
			unasked = append(unasked, fmt.Errorf("cannot ask %s: it answered nothing", from))
		case errors.As(a.err, &wrong):
			return 0, nil, fmt.Errorf("%s: %w", from, a.err)
		case errors.Is(a.err, ErrNoKey):
			without = append(without, fmt.Sprintf("%s: %v", from, a.err))
		default:
			unasked = append(unasked, fmt.Errorf("cannot ask %s: %w", from, a.err))
		}
	}
	switch {
	case len(holders) > 0:
		return holders[0], b.compare(q.ID, holders, answers), nil
	case len(unasked) == 0:
		return 0, nil, fmt.Errorf("%w: %s (%s)", ErrNoKey, describe(q), strings.Join(without, "; "))
	}
	return 0, nil, fmt.Errorf("not known whether there is a key: %s: %w", describe(q), errors.Join(unasked...))
}

// compare groups the holders by their keys, and returns nil if that is one group.
func (b *Broker) compare(id KeyID, holders []int, answers []answer) *DisagreementError {
	var keys []Key
	e := &DisagreementError{ID: id}
next:
	for _, i := range holders {
		for g, k := range keys {
			if k.Equal(answers[i].key) {
				e.Holders[g] = append(e.Holders[g], name(b.Sources[i]))
				continue next
			}
		}
		keys = append(keys, answers[i].key)
		e.Holders = append(e.Holders, []string{name(b.Sources[i])})
	}
	if len(keys) == 1 {
		return nil
	}
	return e
}

// describe names what was asked for.
func describe(q Query) string {
	if q.Host == "" {
		return "id " + q.ID.String()
	}
	return "id " + q.ID.String() + " of host " + q.Host
}

// name says which escrow s is.
func name(s Source) string {
	if n, ok := s.(fmt.Stringer); ok {
		return n.String()
	}
	return fmt.Sprintf("%T", s)
}

// SameHost says whether two names are of one host: pc1, PC1 and pc1.corp.example are, because
// escrows, directories and inventories rarely agree on the domain. IP addresses are compared
// whole. An empty name is that of no host.
func SameHost(a, b string) bool { return a != "" && b != "" && FoldHost(a) == FoldHost(b) }

// FoldHost returns what SameHost compares: the first label in lower case, or an IP address.
func FoldHost(name string) string {
	if ip, err := netip.ParseAddr(name); err == nil {
		return ip.Unmap().String()
	}
	label, _, _ := strings.Cut(name, ".")
	return strings.ToLower(label)
}
