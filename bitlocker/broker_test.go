package bitlocker_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"unbrick/bitlocker"
	"unbrick/bitlocker/keytest"
)

// escrow is a source and index in memory.
type escrow struct {
	name string
	keys []keytest.Filing
	err  error // of every question
	ask  func()
}

func (e escrow) String() string { return e.name }

func (e escrow) Lookup(_ context.Context, q bitlocker.Query) (bitlocker.Key, error) {
	if e.ask != nil {
		e.ask()
	}
	if e.err != nil {
		return bitlocker.Key{}, e.err
	}
	for _, f := range e.keys {
		switch {
		case f.ID != q.ID:
		case f.Host != "" && q.Host != "" && !bitlocker.SameHost(f.Host, q.Host):
			return bitlocker.Key{}, &bitlocker.WrongHostError{ID: q.ID, Host: q.Host, Filed: []string{f.Host}}
		default:
			return f.Key, nil
		}
	}
	return bitlocker.Key{}, bitlocker.ErrNoKey
}

func (e escrow) Index(_ context.Context, host string) (all []bitlocker.Entry, err error) {
	for _, f := range e.keys {
		if host == "" || bitlocker.SameHost(f.Host, host) {
			all = append(all, bitlocker.Entry{ID: f.ID, Host: f.Host, Source: e.name, Valid: true})
		}
	}
	return all, e.err
}

// recorder keeps releases in memory, or fails.
type recorder struct {
	releases []bitlocker.Release
	err      error
}

func (r *recorder) Record(_ context.Context, rel bitlocker.Release) error {
	if r.err == nil {
		r.releases = append(r.releases, rel)
	}
	return r.err
}

// filing returns a key of the host, the same one every time.
func filing(host string) keytest.Filing {
	r := seed(host)
	return keytest.Filing{ID: keytest.NewKeyID(&r), Host: host, Key: keytest.NewKey(&r)}
}

type seed string

func (s *seed) Uint64() (n uint64) {
	for _, c := range []byte(*s) {
		n = n*1099511628211 ^ uint64(c)
	}
	*s += "."
	return n
}

func TestRelease(t *testing.T) {
	pc1 := filing("PC1")
	has := func(name string) escrow { return escrow{name: name, keys: []keytest.Filing{pc1}} }
	none := func(name string) escrow { return escrow{name: name} }
	down := func(name string) escrow { return escrow{name: name, err: errors.New("connection refused")} }
	other := escrow{name: "wrong", keys: []keytest.Filing{{ID: pc1.ID, Host: "PC7", Key: pc1.Key}}}
	id := pc1.ID.String()

	for _, test := range []struct {
		name    string
		sources []bitlocker.Source
		from    string // the escrow that had it; empty: none
		noKey   bool   // the error wraps ErrNoKey
		err     string
	}{
		{"the first has it", []bitlocker.Source{has("a"), has("b")}, "a", false, ""},
		{"the second has it", []bitlocker.Source{none("a"), has("b")}, "b", false, ""},
		{"the first is down", []bitlocker.Source{down("a"), has("b")}, "b", false, ""},
		{"nobody has it", []bitlocker.Source{none("a"), none("b")}, "", true,
			"no recovery key on record: id " + id + " of host pc1.corp (a: no recovery key on record; b: no recovery key on record)"},
		{"one has none, one is down", []bitlocker.Source{none("a"), down("b")}, "", false,
			"not known whether there is a key: id " + id + " of host pc1.corp: cannot ask b: connection refused"},
		{"both are down", []bitlocker.Source{down("a"), down("b")}, "", false,
			"not known whether there is a key: id " + id + " of host pc1.corp: cannot ask a: connection refused\ncannot ask b: connection refused"},
		{"filed under another host", []bitlocker.Source{none("a"), other, has("b")}, "", false,
			"wrong: key " + id + " is not of host pc1.corp: the escrow files it under PC7; correct whichever of the two is wrong"},
		{"a source that answers nothing", []bitlocker.Source{escrow{name: "a", keys: []keytest.Filing{{ID: pc1.ID}}}}, "", false,
			"not known whether there is a key: id " + id + " of host pc1.corp: cannot ask a: it answered nothing"},
		{"no source", nil, "", false, "cannot look for keys: no escrow is configured"},
	} {
		t.Run(test.name, func(t *testing.T) {
			ledger := &recorder{}
			b := bitlocker.Broker{Sources: test.sources, Ledger: ledger}
			key, err := b.Release(t.Context(), bitlocker.Query{ID: pc1.ID, Host: "pc1.corp"}, bitlocker.Recipient{Actor: "agent of PC1", Purpose: "repair"})
			if test.from == "" {
				if err == nil || err.Error() != test.err || errors.Is(err, bitlocker.ErrNoKey) != test.noKey {
					t.Errorf("error %v\n want %s", err, test.err)
				}
				if !key.IsZero() || len(ledger.releases) != 0 {
					t.Error("a key left, or the ledger says so")
				}
				return
			}
			if err != nil || !key.Equal(pc1.Key) {
				t.Fatalf("not the key: %v", err)
			}
			if len(ledger.releases) != 1 || ledger.releases[0].Source != test.from || ledger.releases[0].Actor != "agent of PC1" || ledger.releases[0].ID != pc1.ID {
				t.Errorf("ledger: %+v", ledger.releases)
			}
		})
	}
}

// fullDisk is a ledger on a device where every write finds the disk full.
type fullDisk struct{ *os.File }

func (f fullDisk) Record(_ context.Context, r bitlocker.Release) error {
	return json.NewEncoder(f).Encode(r)
}

func TestNoLedgerNoKey(t *testing.T) {
	pc1 := filing("PC1")
	refused := errors.New("input/output error")
	ledgers := map[string]struct {
		bitlocker.Recorder
		want error
	}{
		"fails": {&recorder{err: refused}, refused},
		"none":  {nil, nil},
	}
	if runtime.GOOS == "linux" {
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer full.Close()
		ledgers["full disk"] = struct {
			bitlocker.Recorder
			want error
		}{fullDisk{full}, syscall.ENOSPC}
	}
	for name, l := range ledgers {
		t.Run(name, func(t *testing.T) {
			b := bitlocker.Broker{Sources: []bitlocker.Source{escrow{keys: []keytest.Filing{pc1}}}, Ledger: l.Recorder}
			key, err := b.Release(t.Context(), bitlocker.Query{ID: pc1.ID}, bitlocker.Recipient{})
			if err == nil || !key.IsZero() {
				t.Fatal("a key left that is not on the ledger")
			}
			if l.want != nil && !errors.Is(err, l.want) || errors.Is(err, bitlocker.ErrNoKey) || keytest.Leaks(pc1.Key, err.Error()) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestReleaseNeedsAnID(t *testing.T) {
	l := &recorder{}
	b := bitlocker.Broker{Sources: []bitlocker.Source{escrow{keys: []keytest.Filing{{Key: filing("PC1").Key}}}}, Ledger: l}
	if key, err := b.Release(t.Context(), bitlocker.Query{Host: "PC1"}, bitlocker.Recipient{}); err == nil || !key.IsZero() || len(l.releases) > 0 {
		t.Error("a key was released by host name alone")
	}
}

func TestReleaseEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	first := escrow{name: "a", err: errors.New("interrupted"), ask: cancel}
	second := escrow{name: "b", ask: func() { t.Error("the second escrow was asked after the context had ended") }}
	b := bitlocker.Broker{Sources: []bitlocker.Source{first, second}, Ledger: &recorder{}}
	if _, err := b.Release(ctx, bitlocker.Query{ID: filing("PC1").ID}, bitlocker.Recipient{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
}

func TestSameHost(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want bool
	}{
		{"pc1", "PC1", true},
		{"pc1", "PC1.corp.example", true},
		{"pc1.a.example", "pc1.b.example", true},
		{"pc1", "pc11", false},
		{"pc1", "", false},
		{"", "", false},
		{"10.1.2.3", "10.1.2.3", true},
		{"10.1.2.3", "10.9.9.9", false},
		{"fe80::1", "FE80:0::1", true},
	} {
		if got := bitlocker.SameHost(test.a, test.b); got != test.want {
			t.Errorf("SameHost(%q, %q) is %v", test.a, test.b, got)
		}
	}
}

// lister hides the index of an escrow.
type lookupOnly struct{ bitlocker.Source }

func TestCheck(t *testing.T) {
	pc1, pc2, homeless := filing("PC1"), filing("pc2.corp"), filing("")
	a := escrow{name: "a", keys: []keytest.Filing{pc1}}
	b := escrow{name: "b", keys: []keytest.Filing{pc1, pc2}}
	down := escrow{name: "down", err: errors.New("connection refused")}

	for _, test := range []struct {
		name    string
		sources []bitlocker.Source
		has     string // of PC1, PC2, PC3: y, n or ? for not known
	}{
		{"one", []bitlocker.Source{a}, "ynn"},
		{"both", []bitlocker.Source{a, b}, "yyn"},
		{"one is down", []bitlocker.Source{a, down}, "y??"},
		{"one cannot list", []bitlocker.Source{b, lookupOnly{a}}, "yy?"},
		{"keys under no host", []bitlocker.Source{a, escrow{name: "c", keys: []keytest.Filing{homeless}}}, "y??"},
	} {
		t.Run(test.name, func(t *testing.T) {
			broker := bitlocker.Broker{Sources: test.sources} // no ledger: nothing is released
			hosts := []string{"pc1.corp", "PC2", "PC3"}
			all, err := broker.Check(t.Context(), hosts)
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			for i, h := range all {
				if h.Host != hosts[i] {
					t.Errorf("holding %d is of %s", i, h.Host)
				}
				switch {
				case h.OnRecord():
					got.WriteByte('y')
				case len(h.Unknown) > 0:
					got.WriteByte('?')
				default:
					got.WriteByte('n')
				}
			}
			if got.String() != test.has {
				t.Errorf("on record: %s, want %s; %+v", got.String(), test.has, all)
			}
		})
	}
}

func TestHas(t *testing.T) {
	a := escrow{name: "a", keys: []keytest.Filing{filing("PC1")}}
	down := escrow{name: "down", err: errors.New("connection refused")}
	for _, test := range []struct {
		host    string
		sources []bitlocker.Source
		has     bool
		err     string
	}{
		{"pc1", []bitlocker.Source{a}, true, ""},
		{"pc1", []bitlocker.Source{down, a}, true, ""},
		{"pc2", []bitlocker.Source{a}, false, ""},
		{"pc2", []bitlocker.Source{a, down}, false, "not known whether there is a key of host pc2: down: connection refused"},
	} {
		b := bitlocker.Broker{Sources: test.sources}
		has, err := b.Has(t.Context(), test.host)
		if has != test.has || (err == nil) != (test.err == "") || err != nil && err.Error() != test.err {
			t.Errorf("%s: %v, %v; want %v, %s", test.host, has, err, test.has, test.err)
		}
	}
}

func TestOnRecord(t *testing.T) {
	for _, test := range []struct {
		entry bitlocker.Entry
		want  bool
	}{
		{bitlocker.Entry{Valid: true}, true},
		{bitlocker.Entry{}, true}, // listed by an escrow that does not show the key to check it
		{bitlocker.Entry{Reason: "not a recovery key"}, false},
	} {
		if got := (bitlocker.Holding{Entries: []bitlocker.Entry{test.entry}}).OnRecord(); got != test.want {
			t.Errorf("%+v: %v", test.entry, got)
		}
	}
}
