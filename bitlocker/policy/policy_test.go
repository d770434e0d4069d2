package policy_test

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"unbrick/bitlocker"
	"unbrick/bitlocker/keytest"
	"unbrick/bitlocker/policy"
)

var start = time.Date(2024, 7, 19, 5, 0, 0, 0, time.UTC)

// shown are records of n keys shown to actor at a time.
func shown(actor string, n int, after time.Duration) (past []bitlocker.Event) {
	for range n {
		past = append(past, bitlocker.Event{Time: start.Add(after), Release: &bitlocker.Release{
			Recipient: bitlocker.Recipient{Actor: actor, Person: true, Reason: "INC1"}}})
	}
	return past
}

// approved are records of keys that two persons agreed on.
func approved(actor string, n int, after time.Duration) []bitlocker.Event {
	past := shown(actor, n, after)
	for _, e := range past {
		e.Release.Request = "hash"
	}
	return past
}

func join(parts ...[]bitlocker.Event) (all []bitlocker.Event) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func TestTokens(t *testing.T) {
	machine := shown("alice", 40, 0)
	for _, e := range machine {
		e.Release.Person = false
	}
	withheld := shown("alice", 10, 0)
	for _, e := range withheld {
		e.Release.Withheld = true
	}
	for _, test := range []struct {
		name string
		past []bitlocker.Event
		at   time.Duration
		want int
	}{
		{"nothing before", nil, 0, 30},
		{"one", shown("alice", 1, 0), 0, 29},
		{"all of the hour", shown("alice", 30, 0), 0, 0},
		{"two minutes are a key", shown("alice", 30, 0), 2 * time.Minute, 1},
		{"not quite two", shown("alice", 30, 0), 2*time.Minute - time.Second, 0},
		{"an hour is all", shown("alice", 30, 0), time.Hour, 30},
		{"no more than all", shown("alice", 3, 0), 9 * time.Hour, 30},
		{"another's do not count", shown("bob", 30, 0), 0, 30},
		{"the same account, written otherwise", shown(`CORP\Alice`, 12, 0), 0, 18},
		{"those that two agreed on do not count", approved("alice", 40, 0), 0, 30},
		{"those that never left do not count", withheld, 0, 30},
		{"those of programs do not count", machine, 0, 30},
		{"the day ends before the hour", join(shown("alice", 30, 0), shown("alice", 30, time.Hour), shown("alice", 30, 2*time.Hour),
			shown("alice", 30, 3*time.Hour), shown("alice", 30, 4*time.Hour)), 5 * time.Hour, 30}, // 150 - 150 + 5/24 of 150 = 31
		{"the day is over", join(shown("alice", 30, 0), shown("alice", 30, time.Hour), shown("alice", 30, 2*time.Hour), shown("alice", 30, 3*time.Hour),
			shown("alice", 30, 4*time.Hour), shown("alice", 30, 5*time.Hour)), 5*time.Hour + 30*time.Minute, 4}, // the hour alone: 15
		{"a clock that was ahead counts as now", shown("alice", 30, 48*time.Hour), 0, 0},
	} {
		if got := policy.Default().Tokens(test.past, "alice", start.Add(test.at)); got != test.want {
			t.Errorf("%s: %d, want %d", test.name, got, test.want)
		}
	}
}

// The law: however the requests fall, nobody gets more than a full bucket and what runs into it.
func TestTokensAreNeverMore(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	l := policy.Default()
	for range 20 {
		var past []bitlocker.Event
		at := time.Duration(0)
		for range 200 {
			at += time.Duration(r.Int64N(int64(6 * time.Minute)))
			if l.Tokens(past, "alice", start.Add(at)) > 0 {
				past = append(past, shown("alice", 1, at)...)
			}
			hours := at.Hours()
			if n := len(past); float64(n) > 30+30*hours+1e-6 || float64(n) > 150+150*hours/24+1e-6 {
				t.Fatalf("%d keys within %v", n, at)
			}
		}
	}
}

func TestCheckReason(t *testing.T) {
	key := keytest.NewKey(rand.NewPCG(1, 1)).Reveal()
	for _, test := range []struct{ reason, err string }{
		{"INC0012345, desk 4", ""},
		{"ticket 123456 of 20240719", ""},
		{" \t", "a reason is needed"},
		{strings.Repeat("why ", 100), "longer than"},
		{"key " + key, "like those of a recovery key"},
		{strings.ReplaceAll(key, "-", ""), "like those of a recovery key"},
		{strings.ReplaceAll(key, "-", " - "), "like those of a recovery key"},
		{key[:13], "like those of a recovery key"},
		{"a\nb", "control characters"},
		{"\x1b[2J", "control characters"},
	} {
		err := policy.CheckReason(test.reason)
		if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
			t.Errorf("a reason of %d bytes: %v, want %q", len(test.reason), err, test.err)
		}
	}
}

func TestSamePerson(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want bool
	}{
		{"alice", "alice", true}, {"alice", "ALICE", true}, {"alice", `CORP\alice`, true}, {"alice@corp.example", "alice", true},
		{"alice", "bob", false}, {"alice", "alice2", false}, {`alice\bob`, "alice", false},
	} {
		if got := policy.SamePerson(test.a, test.b); got != test.want {
			t.Errorf("%s and %s: %v", test.a, test.b, got)
		}
	}
}
