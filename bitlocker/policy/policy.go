// Package policy decides which person may be given which recovery key. It reads what happened
// before from the ledger itself, so that neither a restart nor a second process forgets it.
//
// A key that goes to a program (an agent with its token, sealed to its public key) is no matter
// for it: those are recorded and nothing more. A person gives a reason, and may have so many
// keys an hour and a day. For more, for many at once and for hosts that others depend on, a
// second person approves exactly that request.
//
// These rules bind those who come through this program. Whoever may read the escrow, or write
// the ledger and the clock, needs no permission: the rules are worth what keeps people from
// those.
package policy

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode"

	"unbrick/bitlocker"
)

// Limits are what one person may have without another.
type Limits struct {
	Hour, Day int           // keys: this many at once, after that one every hour/Hour and day/Day
	AtOnce    int           // keys in one request
	Open      time.Duration // how long a request waits for its approval
	Approval  time.Duration // how long an approval may be used
}

// Default returns the limits that hold where nobody set others.
func Default() Limits {
	return Limits{Hour: 30, Day: 150, AtOnce: 25, Open: time.Hour, Approval: 15 * time.Minute}
}

// MaxKeys is the most that one request may ask for: the person who approves reads all of them.
const MaxKeys = 250

// maxReason is in bytes.
const maxReason = 300

// keyLike is two groups of a recovery key side by side. A ticket number is shorter.
var keyLike = regexp.MustCompile(`\d{6}\W{0,3}\d{6}`)

// CheckReason says what is wrong with a reason. It goes on the ledger and from there into other
// systems, so it must not be a key that somebody pasted into the wrong place.
func CheckReason(reason string) error {
	switch {
	case strings.TrimSpace(reason) == "":
		return errors.New("a reason is needed: it goes on the ledger")
	case len(reason) > maxReason:
		return fmt.Errorf("the reason is longer than %d bytes", maxReason)
	case keyLike.MatchString(reason):
		return errors.New("the reason has digits like those of a recovery key in it; the ledger must not hold any")
	case strings.ContainsFunc(reason, unicode.IsControl):
		return errors.New("the reason has control characters in it")
	}
	return nil
}

// Tokens returns how many keys actor may have now without another person, after the past. Keys
// of approved requests and keys that were withheld do not count. A record from the future, left by a clock that was wrong,
// counts as one of now.
func (l Limits) Tokens(past []bitlocker.Event, actor string, now time.Time) int {
	hour := bucket{size: float64(l.Hour), refill: time.Hour}
	day := bucket{size: float64(l.Day), refill: 24 * time.Hour}
	for _, e := range past {
		if e.Release == nil || !e.Person || e.Withheld || e.Release.Request != "" || !SamePerson(e.Actor, actor) {
			continue
		}
		at := e.Time
		if at.After(now) {
			at = now
		}
		hour.take(at)
		day.take(at)
	}
	return int(min(hour.at(now), day.at(now)) + 1e-9) // a third of a token three times is one
}

// A bucket starts full and fills up again from empty in refill.
type bucket struct {
	size, missing float64
	refill        time.Duration
	last          time.Time
}

// at returns the tokens in the bucket at t.
func (b *bucket) at(t time.Time) float64 {
	back := 0.0
	if t.After(b.last) && !b.last.IsZero() {
		back = b.size * float64(t.Sub(b.last)) / float64(b.refill)
	}
	return b.size - max(0, b.missing-back)
}

// take takes a token at t. Of an unsorted past the latest time so far counts.
func (b *bucket) take(t time.Time) {
	b.missing = b.size - b.at(t) + 1
	if t.After(b.last) {
		b.last = t
	}
}

// SamePerson says whether two account names are of one person. Windows does not tell ALICE
// from alice, and the same account may come with its domain or without.
func SamePerson(a, b string) bool { return bare(a) == bare(b) }

func bare(account string) string {
	if i := strings.LastIndexAny(account, `\`); i >= 0 {
		account = account[i+1:]
	}
	account, _, _ = strings.Cut(account, "@")
	return strings.ToLower(account)
}
