package bitlocker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

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
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		stuck := make(chan struct{})
		defer close(stuck)
		first := escrow{name: "a", err: errors.New("interrupted"), ask: cancel}
		second := escrow{name: "b", ask: func() { <-stuck }} // heeds no context
		b := bitlocker.Broker{Sources: []bitlocker.Source{first, second}, Ledger: &recorder{}}
		if _, err := b.Release(ctx, bitlocker.Query{ID: filing("PC1").ID}, bitlocker.Recipient{}); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want context.Canceled", err)
		}
	})
}

// slow is an escrow that answers after a while, whatever its context says.
func slow(e escrow, after time.Duration) escrow {
	e.ask = func() { time.Sleep(after) }
	return e
}

func TestReleaseIsBounded(t *testing.T) {
	pc1 := filing("PC1")
	has, other := escrow{name: "a", keys: []keytest.Filing{pc1}}, escrow{name: "b", keys: []keytest.Filing{{ID: pc1.ID, Key: filing("PC2").Key}}}
	none := escrow{name: "n"}
	for _, test := range []struct {
		name    string
		sources []bitlocker.Source
		took    time.Duration
		err     string // a part of it; empty: the key
	}{
		{"both answer", []bitlocker.Source{slow(has, time.Second), none}, time.Second, ""},
		{"a silent escrow does not hold up a key for longer than the grace", []bitlocker.Source{slow(none, time.Hour), slow(has, time.Second)}, 3 * time.Second, ""},
		{"within the grace it may contradict", []bitlocker.Source{has, slow(other, time.Second)}, time.Second, "a against b"},
		{"the grace counts from the first key", []bitlocker.Source{slow(has, 19*time.Second), slow(has, 20*time.Second), slow(none, time.Hour)}, 21 * time.Second, ""},
		{"silence is not absence", []bitlocker.Source{none, slow(has, time.Hour)}, 20 * time.Second, "cannot ask a: it gave no answer within 20s"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				defer time.Sleep(2 * time.Hour) // the silent ones end
				start := time.Now()
				b := bitlocker.Broker{Sources: test.sources, Ledger: &recorder{}}
				key, err := b.Release(t.Context(), bitlocker.Query{ID: pc1.ID}, bitlocker.Recipient{})
				if took := time.Since(start); took != test.took {
					t.Errorf("took %v, want %v", took, test.took)
				}
				if test.err == "" && (err != nil || !key.Equal(pc1.Key)) {
					t.Errorf("not the key: %v", err)
				}
				if test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err) || errors.Is(err, bitlocker.ErrNoKey)) {
					t.Errorf("error %v, want %s", err, test.err)
				}
			})
		})
	}
}

func TestDisagreement(t *testing.T) {
	pc1, wrong := filing("PC1"), filing("PC2").Key
	a := escrow{name: "directory", keys: []keytest.Filing{pc1}}
	b := escrow{name: "old.csv", keys: []keytest.Filing{{ID: pc1.ID, Host: "PC1", Key: wrong}}}
	c := escrow{name: "bundle", keys: []keytest.Filing{pc1}}
	q := bitlocker.Query{ID: pc1.ID, Host: "PC1"}

	for _, firstWins := range []bool{false, true} {
		ledger := &recorder{}
		broker := bitlocker.Broker{Sources: []bitlocker.Source{a, b, c}, Ledger: ledger, FirstWins: firstWins}
		key, err := broker.Release(t.Context(), q, bitlocker.Recipient{Actor: "agent of PC1"})
		if len(ledger.releases) != 1 {
			t.Fatalf("first wins %v: ledger %+v", firstWins, ledger.releases)
		}
		r := ledger.releases[0]
		if r.Withheld == firstWins || r.Source != "directory" || len(r.Disagree) != 2 || strings.Join(r.Disagree[0], ",") != "directory,bundle" || r.Disagree[1][0] != "old.csv" {
			t.Errorf("first wins %v: ledger %+v", firstWins, r)
		}
		if firstWins {
			if err != nil || !key.Equal(pc1.Key) {
				t.Errorf("not the key of the first: %v", err)
			}
			continue
		}
		var split *bitlocker.DisagreementError
		want := "escrows hold different keys for protector " + pc1.ID.String() + ": directory and bundle against old.csv; correct the wrong one, or let the first of them win"
		if !errors.As(err, &split) || err.Error() != want || !key.IsZero() || errors.Is(err, bitlocker.ErrNoKey) {
			t.Errorf("error %v\n want %s", err, want)
		}
		if keytest.Leaks(pc1.Key, err.Error()) || keytest.Leaks(wrong, err.Error()) {
			t.Error("the error shows a key")
		}
	}

	t.Run("on a ledger that verifies", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "ledger")
		l, err := bitlocker.OpenLedger(path)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		for range 2 {
			broker := bitlocker.Broker{Sources: []bitlocker.Source{a, b}, Ledger: l}
			if _, err := broker.Release(t.Context(), q, bitlocker.Recipient{Actor: "alice"}); err == nil {
				t.Error("a key was released")
			}
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if n, _, err := bitlocker.VerifyLedger(bytes.NewReader(text)); n != 2 || err != nil {
			t.Errorf("%d records, %v", n, err)
		}
		if !strings.Contains(string(text), `"disagree":[["directory"],["old.csv"]],"withheld":true,"again":1`) || keytest.Leaks(pc1.Key, string(text)) || keytest.Leaks(wrong, string(text)) {
			t.Errorf("ledger:\n%s", text)
		}
	})
	t.Run("a ledger that cannot be written", func(t *testing.T) {
		refused := errors.New("refused")
		broker := bitlocker.Broker{Sources: []bitlocker.Source{a, b}, Ledger: &recorder{err: refused}, FirstWins: true}
		key, err := broker.Release(t.Context(), q, bitlocker.Recipient{})
		var split *bitlocker.DisagreementError
		if !key.IsZero() || !errors.Is(err, refused) || !errors.As(err, &split) {
			t.Errorf("error %v", err)
		}
	})
}

// BenchmarkCheck200k is a triage of 200,000 hosts against two escrows in memory.
func BenchmarkCheck200k(b *testing.B) {
	const n = 200_000
	r := rand.NewPCG(1, 2)
	keys, hosts := make([]keytest.Filing, n), make([]string, n)
	for i := range n {
		hosts[i] = fmt.Sprintf("PC-%06d.corp.example", i)
		keys[i] = keytest.Filing{ID: keytest.NewKeyID(r), Host: hosts[i]}
	}
	broker := bitlocker.Broker{Sources: []bitlocker.Source{escrow{name: "a", keys: keys}, escrow{name: "b", keys: keys[:n/2]}}}
	b.ReportAllocs()
	for b.Loop() {
		all, err := broker.Check(b.Context(), hosts)
		if err != nil || len(all) != n || len(all[0].Entries) != 2 || len(all[n-1].Entries) != 1 {
			b.Fatalf("%d holdings, %v", len(all), err)
		}
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
