package bitlocker

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// A Broker releases keys from several escrows, asked in order.
type Broker struct {
	Sources []Source
	Ledger  Recorder
}

// A WrongHostError says that the escrow files the key under other hosts than the one that
// asks for it. No other escrow is asked: either the question or the escrow is wrong.
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

// Release returns the key after its release is on the ledger. Where the ledger cannot be
// written, no key leaves.
//
// An error wraps [ErrNoKey] only if every escrow was reached and none has the key. If one could
// not be asked, the error says which, and the key may still be there.
func (b *Broker) Release(ctx context.Context, q Query, to Recipient) (Key, error) {
	if q.ID.IsZero() {
		return Key{}, errors.New("cannot release a key without the id of its protector")
	}
	if b.Ledger == nil {
		return Key{}, errors.New("cannot release a key without a ledger")
	}
	key, from, err := b.find(ctx, q)
	if err != nil {
		return Key{}, err
	}
	if err := b.Ledger.Record(ctx, Release{Query: q, Recipient: to, Source: from}); err != nil {
		return Key{}, fmt.Errorf("cannot write the ledger, so key %s stays here: %w", q.ID, err)
	}
	return key, nil
}

// find asks the escrows in order, and returns the key and the name of the escrow that had it.
func (b *Broker) find(ctx context.Context, q Query) (Key, string, error) {
	if len(b.Sources) == 0 {
		return Key{}, "", errors.New("cannot look for keys: no escrow is configured")
	}
	var without []string // escrows that have no such key, each with why
	var unasked []error
	for _, s := range b.Sources {
		key, err := s.Lookup(ctx, q)
		if err == nil && !key.IsZero() {
			return key, name(s), nil
		}
		if ctx.Err() != nil {
			return Key{}, "", fmt.Errorf("cannot look for key %s: %w", q.ID, context.Cause(ctx))
		}
		var wrong *WrongHostError
		switch {
		case err == nil: // neither a key nor a reason: nothing is known
			unasked = append(unasked, fmt.Errorf("cannot ask %s: it answered nothing", name(s)))
		case errors.As(err, &wrong):
			return Key{}, "", fmt.Errorf("%s: %w", name(s), err)
		case errors.Is(err, ErrNoKey):
			without = append(without, fmt.Sprintf("%s: %v", name(s), err))
		default:
			unasked = append(unasked, fmt.Errorf("cannot ask %s: %w", name(s), err))
		}
	}
	if len(unasked) == 0 {
		return Key{}, "", fmt.Errorf("%w: %s (%s)", ErrNoKey, describe(q), strings.Join(without, "; "))
	}
	return Key{}, "", fmt.Errorf("not known whether there is a key: %s: %w", describe(q), errors.Join(unasked...))
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
