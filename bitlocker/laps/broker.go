package laps

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"unbrick/bitlocker"
)

// A Broker releases passwords from several directories.
type Broker struct {
	Sources []Source
	Ledger  bitlocker.Recorder
	Wait    time.Duration // how long a directory has to answer; zero is 20 s
}

const defaultWait = 20 * time.Second

// unnamed is the account on the ledger where the directory names none.
const unnamed = "local administrator"

// Release returns the passwords of the host, newest first, after one release of all of them is
// on the ledger. Where the ledger cannot be written, none leaves. An error wraps [ErrNone] only
// if every directory was reached and has none. A directory that could not be asked does not
// keep the passwords of another back: err then says so beside them.
func (b *Broker) Release(ctx context.Context, host string, to bitlocker.Recipient) (all []Password, err error) {
	switch {
	case host == "":
		return nil, errors.New("cannot look for a password without the name of the host")
	case b.Ledger == nil:
		return nil, errors.New("cannot release a password without a ledger")
	case len(b.Sources) == 0:
		return nil, errors.New("cannot look for a password: no directory is configured")
	}
	all, unasked := b.ask(ctx, host)
	if ctx.Err() != nil {
		return nil, fmt.Errorf("cannot look for the password of %s: %w", host, context.Cause(ctx))
	}
	if len(all) == 0 && unasked == nil {
		return nil, fmt.Errorf("%w: host %s", ErrNone, host)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("not known whether there is a password of host %s: %w", host, unasked)
	}
	slices.SortStableFunc(all, func(p, q Password) int { return q.Updated.Compare(p.Updated) })
	r := bitlocker.Release{Query: bitlocker.Query{Host: host}, Recipient: to,
		Account: distinct(all, func(p Password) string { return cmp.Or(p.Account, unnamed) }),
		Source:  distinct(all, func(p Password) string { return p.Source })}
	if err := b.Ledger.Record(ctx, r); err != nil {
		return nil, fmt.Errorf("cannot write the ledger, so the password of %s stays here: %w", host, err)
	}
	return all, unasked
}

// ask asks all at once, and returns what they have and what went wrong beside that.
func (b *Broker) ask(ctx context.Context, host string) (all []Password, err error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(b.Wait, defaultWait))
	defer cancel()
	found, errs := make([][]Password, len(b.Sources)), make([]error, len(b.Sources))
	var wg sync.WaitGroup
	for i, s := range b.Sources {
		wg.Go(func() { found[i], errs[i] = s.LocalPasswords(ctx, host) })
	}
	wg.Wait()
	for i, s := range b.Sources {
		switch {
		case errs[i] == nil:
			all = append(all, found[i]...)
		case !errors.Is(errs[i], ErrNone):
			err = errors.Join(err, fmt.Errorf("%s: %w", name(s), errs[i]))
		}
	}
	return all, err
}

func name(s Source) string {
	if n, ok := s.(fmt.Stringer); ok {
		return n.String()
	}
	return fmt.Sprintf("%T", s)
}

// distinct joins what of returns, each once.
func distinct(all []Password, of func(Password) string) string {
	var seen []string
	for _, p := range all {
		if s := of(p); !slices.Contains(seen, s) {
			seen = append(seen, s)
		}
	}
	return strings.Join(seen, ", ")
}
