package policy_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"unbrick/bitlocker"
	"unbrick/bitlocker/keytest"
	"unbrick/bitlocker/policy"
)

// A desk is a guard whose clock the test turns. The ledger writes its own time, so the clock
// is that of the machine and what the test adds.
type desk struct {
	*policy.Guard
	t     *testing.T
	later time.Duration
}

func newDesk(t *testing.T, path string) *desk {
	t.Helper()
	l, err := bitlocker.OpenLedger(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	d := &desk{t: t}
	d.Guard = &policy.Guard{Ledger: l, Limits: policy.Default(), Now: func() time.Time { return time.Now().Add(d.later) },
		Special: func(host string) string {
			if strings.HasPrefix(host, "DC") {
				return host + " is of the dependency tier"
			}
			return ""
		}}
	return d
}

func query(host string) bitlocker.Query {
	n := uint64(0)
	for _, c := range host {
		n = n*31 + uint64(c)
	}
	return bitlocker.Query{ID: keytest.NewKeyID(rand.NewPCG(n, n)), Host: host}
}

func wish(actor string, hosts ...string) bitlocker.Request {
	r := bitlocker.Request{Actor: actor, Purpose: "shown", Reason: "INC1"}
	for _, h := range hosts {
		r.Keys = append(r.Keys, query(h))
	}
	return r
}

// give records the release of a key of a wish.
func (d *desk) give(r bitlocker.Request, hash string, host string) error {
	return d.Record(d.t.Context(), bitlocker.Release{Query: query(host), Source: "x",
		Recipient: bitlocker.Recipient{Actor: r.Actor, Person: true, Purpose: r.Purpose, Reason: r.Reason, Request: hash}})
}

// admit expects that the wish is admitted, as part of a request or not.
func (d *desk) admit(r bitlocker.Request) string {
	d.t.Helper()
	hash, err := d.Admit(d.t.Context(), r)
	if err != nil {
		d.t.Fatal(err)
	}
	return hash
}

// wait expects that the wish needs a second person.
func (d *desk) wait(r bitlocker.Request, why string) string {
	d.t.Helper()
	_, err := d.Admit(d.t.Context(), r)
	var w *policy.WaitError
	if !errors.As(err, &w) || !strings.Contains(w.Why, why) {
		d.t.Fatalf("error %v, want to wait because %s", err, why)
	}
	return w.Hash
}

func (d *desk) approve(hash, actor string) {
	d.t.Helper()
	if err := d.Approve(d.t.Context(), bitlocker.Approval{Request: hash, Actor: actor}); err != nil {
		d.t.Fatal(err)
	}
}

// refused expects an error that says so.
func (d *desk) refused(err error, says string) {
	d.t.Helper()
	if err == nil || !strings.Contains(err.Error(), says) {
		d.t.Errorf("error %v, want %q", err, says)
	}
}

func hosts(n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf("PC%d", i))
	}
	return all
}

func TestWhoNeedsASecondPerson(t *testing.T) {
	d := newDesk(t, filepath.Join(t.TempDir(), "ledger"))
	if hash := d.admit(wish("alice", "PC1")); hash != "" {
		t.Error("one host of one person needed a request")
	}
	d.admit(wish("alice", hosts(25)...))
	d.wait(wish("alice", hosts(26)...), "26 keys at once are more than 25")
	d.wait(wish("alice", "PC1", "DC1"), "DC1 is of the dependency tier")
	_, err := d.Admit(t.Context(), wish("alice", hosts(251)...))
	d.refused(err, "at most 250")
	r := wish("alice", "PC1")
	r.Reason = ""
	_, err = d.Admit(t.Context(), r)
	d.refused(err, "a reason is needed")
	d.refused(d.give(r, "", "PC1"), "a reason is needed")
	d.refused(d.give(wish("alice", "DC1"), "", "DC1"), "a second person has to approve it")
	d.refused(d.give(wish("alice", "PC1"), "nonsense", "PC1"), "not on the ledger")

	for _, h := range hosts(30) {
		if err := d.give(wish("alice", h), "", h); err != nil {
			t.Fatal(err)
		}
	}
	d.wait(wish("alice", "PC1"), "alice has had so many that 0 are left")
	d.refused(d.give(wish("alice", "PC1"), "", "PC1"), "0 are left")
	d.admit(wish("bob", "PC1"))
	machine := bitlocker.Release{Query: query("DC1"), Recipient: bitlocker.Recipient{Actor: "agent of DC1", Purpose: "repair"}}
	if err := d.Record(t.Context(), machine); err != nil {
		t.Errorf("a program with its token was refused: %v", err)
	}
}

// Restarts forget nothing: all of it is read from the ledger.
func TestTwoPersons(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	r := wish("alice", "DC1", "PC2")
	hash := newDesk(t, path).wait(r, "dependency")

	d := newDesk(t, path)
	if again := d.wait(r, "dependency"); again != hash {
		t.Error("asked again it is another request")
	}
	d.refused(d.give(r, hash, "DC1"), "not approved")
	d.refused(d.Approve(t.Context(), bitlocker.Approval{Request: hash, Actor: "ALICE"}), "a second person has to")
	d.refused(d.Approve(t.Context(), bitlocker.Approval{Request: hash[:12], Actor: "bob"}), "no such request")
	s, err := d.Open(t.Context(), hash[:12])
	if err != nil || s.Hash != hash || s.Request.Actor != "alice" || len(s.Request.Keys) != 2 {
		t.Fatalf("%+v, %v", s, err)
	}
	d.approve(hash, "bob")
	d.refused(d.Approve(t.Context(), bitlocker.Approval{Request: hash, Actor: "carol"}), "was approved by bob")

	d = newDesk(t, path)
	if got := d.admit(r); got != hash {
		t.Errorf("admitted as %s", got)
	}
	d.wait(wish("alice", "DC1"), "dependency") // part of it is something else
	other := r
	other.Reason = "INC2"
	d.refused(d.give(other, hash, "DC1"), "for something else")
	other = r
	other.Actor = "bob"
	d.refused(d.give(other, hash, "DC1"), "for something else")
	d.refused(d.give(r, hash, "DC9"), "for something else")
	for _, h := range []string{"DC1", "PC2"} {
		if err := d.give(r, hash, h); err != nil {
			t.Fatal(err)
		}
	}
	d.refused(d.give(r, hash, "DC1"), "its approval was used")
	if again := d.wait(r, "dependency"); again == hash {
		t.Error("an approval that was used is asked for again")
	}
	if n := policy.Default().Tokens(past(t, d), "alice", time.Now()); n != 30 {
		t.Errorf("%d left: what two agreed on counts", n)
	}
}

func past(t *testing.T, d *desk) []bitlocker.Event {
	t.Helper()
	past, err := d.Ledger.Past(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return past
}

func TestApprovalsEnd(t *testing.T) {
	r := wish("alice", "DC1")
	for _, test := range []struct {
		name             string
		approve, release time.Duration // after the request, after the approval
		err              string
	}{
		{"in time", 50 * time.Minute, 0, ""},
		{"asked too long ago", time.Hour, 0, "no longer open"},
		{"approved too long ago", 0, 15 * time.Minute, "its approval held for 15m0s and is over"},
		{"the clock went back", 0, -time.Minute, "is over"},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := newDesk(t, filepath.Join(t.TempDir(), "ledger"))
			hash := d.wait(r, "dependency")
			d.later = test.approve
			if err := d.Approve(t.Context(), bitlocker.Approval{Request: hash, Actor: "bob"}); err != nil {
				d.refused(err, test.err)
				if open, _ := d.Pending(t.Context()); len(open) != 0 {
					t.Error("it is still shown as waiting")
				}
				return
			}
			d.later = test.release
			err := d.give(r, hash, "DC1")
			if test.err == "" && err != nil {
				t.Error(err)
			}
			if test.err != "" {
				d.refused(err, test.err)
				if _, err := d.Admit(t.Context(), r); err == nil {
					t.Error("admitted all the same")
				}
			}
		})
	}
}

// Whoever can write the ledger's file can write an approval of their own request. It counts
// for nothing.
func TestOwnApprovalCountsForNothing(t *testing.T) {
	d := newDesk(t, filepath.Join(t.TempDir(), "ledger"))
	r := wish("alice", "DC1")
	hash := d.wait(r, "dependency")
	err := d.Ledger.RecordIf(t.Context(), bitlocker.Event{Approved: &bitlocker.Approval{Request: hash, Actor: "alice"}}, func([]bitlocker.Event) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	d.refused(d.give(r, hash, "DC1"), "not approved")
}

// Of many processes that want the last keys or the same approval, as many get them as there are.
func TestTheLastTokenIsGivenOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	first := newDesk(t, path)
	first.approve(first.wait(wish("alice", "DC1"), "dependency"), "bob")
	hash := first.admit(wish("alice", "DC1"))
	var mu sync.Mutex
	var plain, two int
	var wg sync.WaitGroup
	for range 8 {
		d := newDesk(t, path)
		wg.Go(func() {
			for range 6 { // 48 in all
				err := d.give(wish("alice", "PC1"), "", "PC1")
				approved := d.give(wish("alice", "DC1"), hash, "DC1")
				mu.Lock()
				if err == nil {
					plain++
				}
				if approved == nil {
					two++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if plain != 30 || two != 1 {
		t.Errorf("%d keys of 30, and %d of 1 that was approved", plain, two)
	}
}

// A broker with a guard for a ledger gives out nothing that the guard refuses.
func TestBrokerKeepsWhatTheGuardRefuses(t *testing.T) {
	d := newDesk(t, filepath.Join(t.TempDir(), "ledger"))
	b := bitlocker.Broker{Sources: []bitlocker.Source{oneKey{}}, Ledger: d.Guard}
	key, err := b.Release(t.Context(), query("DC1"), bitlocker.Recipient{Actor: "alice", Person: true, Reason: "INC1"})
	if !key.IsZero() {
		t.Error("a key left")
	}
	d.refused(err, "a second person has to approve it")
	if n, _ := d.Ledger.Head(); n != 0 {
		t.Error("it is on record")
	}
}

type oneKey struct{}

func (oneKey) Lookup(context.Context, bitlocker.Query) (bitlocker.Key, error) {
	return keytest.NewKey(rand.NewPCG(1, 2)), nil
}
