package probe_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"unbrick/inventory"
	"unbrick/remediate/probe"
)

// life is a prober whose host is up (U), down (D) or out of sight (E) in each of its seconds.
// The last letter goes on for ever.
type life struct {
	story string
	begun time.Time
}

func (l life) Probe(context.Context, inventory.Host) (string, error) {
	second := min(int(time.Since(l.begun)/time.Second), len(l.story)-1)
	switch l.story[second] {
	case 'U':
		return "up", nil
	case 'E':
		return "", errors.New("no network")
	}
	return "", nil
}

func TestStays(t *testing.T) {
	for _, test := range []struct {
		name, story string
		after       time.Duration // when it is believed
		err         string
	}{
		{"up all along", "U", 5 * time.Second, ""},
		{"after a while", "DDDU", 8 * time.Second, ""},
		{"in the second round", "DUUDDU", 10 * time.Second, ""},
		{"out of sight for a moment", "UUEEU", 5 * time.Second, ""},
		{"out of sight at the end of the soak", "UUUUEEEU", 7 * time.Second, ""},
		{"down for a moment", "UUUUDU", 10 * time.Second, ""},
		{"never", "D", 0, "no sign of life"},
		{"out of sight", "E", 0, "no sign of life: no network"},
		{"went down for good", "DUUUD", 0, "came up, and was down again after 3s"},
		{"up too late", "DDDDDDDDDDDDDDDDDDU", 0, "came up, but was not seen to stay up for 5s"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), 20500*time.Millisecond)
				defer cancel()
				evidence, err := probe.Stays(ctx, life{test.story, begun}, inventory.Host{}, 5*time.Second, time.Second)
				if test.err != "" {
					if err == nil || err.Error() != test.err || evidence != "" {
						t.Errorf("%q, error %v, want %s", evidence, err, test.err)
					}
					return
				}
				if err != nil || evidence != "up" || time.Since(begun) != test.after {
					t.Errorf("%q, error %v after %s, want it after %s", evidence, err, time.Since(begun), test.after)
				}
			})
		})
	}
}
