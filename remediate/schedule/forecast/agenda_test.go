package forecast

import (
	"math/rand/v2"
	"testing"
)

// An agenda gives the first of its events, however many wait in bins, and of one moment the one
// that came in first.
func TestAgenda(t *testing.T) {
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var a agenda
		seq, now, last := uint32(0), 0.0, event{}
		push := func() {
			at := now + rng.ExpFloat64()
			switch rng.IntN(20) {
			case 0:
				at = now // at once
			case 1:
				at = float64(int(now)+1+rng.IntN(3)) + 1e-6 // many of one moment
			case 2:
				at = binnedHours + 1e9*rng.Float64()
			}
			seq++
			a.push(event{at: at, seq: seq})
		}
		for range 3 * nearEvents {
			push()
		}
		for n := 0; a.len() > 0; n++ {
			want := a.len() - 1
			e := a.pop()
			if n > 0 && !last.before(e) {
				t.Fatalf("seed %d: %v after %v", seed, e, last)
			}
			if a.len() != want {
				t.Fatalf("seed %d: %d left, want %d", seed, a.len(), want)
			}
			if last, now = e, e.at; n < 50_000 && now < binnedHours {
				push()
			}
		}
		if int(seq) < 50_000 {
			t.Errorf("seed %d: %d events", seed, seq)
		}
	}
}
