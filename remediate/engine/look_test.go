package engine

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"unbrick/remediate"
)

// A host that was fixed and goes down again while it is looked after is treated again, as often
// as a way has tries. Then it is unconfirmed.
func TestRelapse(t *testing.T) {
	y := newYard()
	path, s := yardStore(t, "h", "i")
	e := y.engine(s, "redfish")
	e.Attempts, e.Watch = 2, time.Hour
	r := start(t, path, e)
	for range 2 {
		r.until(ends)
	}
	r.cancel() // who looks after it is not always the one that fixed it
	r.end()
	r = start(t, path, e)
	y.set("h", false)
	r.until(func(e Event) bool { return e.Host == "h" && ends(e) }) // fixed once more
	y.set("h", false)
	eventually(t, "unconfirmed", func() bool { return result(t, r.other, "h").Verdict == remediate.Unconfirmed })
	r.cancel()
	if _, err := r.end(); !errors.Is(err, ErrInterrupted) {
		t.Error(err)
	}
	h := result(t, s, "h")
	if len(h.Attempts) != 2 || h.Attempts[0].Verdict != remediate.Unconfirmed || !strings.Contains(h.Attempts[0].Reason, "down again") ||
		!strings.Contains(h.Reason, "no sign of life in 3 looks") || h.State != "done" {
		t.Errorf("%+v", h)
	}
	st, err := s.Status(context.Background(), "")
	if err != nil || st.Verdicts[remediate.Unconfirmed] != 1 || st.Verdicts[remediate.Fixed] != 1 || st.OnTime != 1 || st.Run.State != "running" {
		t.Errorf("%+v, %v", st.Count, err)
	}
	// Run again without looking after anybody, it ends.
	e.Watch = 0
	if sum := runs(t, e); sum.Ended.IsZero() || sum.Verdicts[remediate.Unconfirmed] != 1 {
		t.Errorf("%+v", sum)
	}
}

// A run that looks after its hosts ends when it has done so for as long as it is told.
func TestWatchEnds(t *testing.T) {
	y := newYard()
	_, s := yardStore(t, "h")
	e := y.engine(s, "redfish")
	e.Watch = 300 * time.Millisecond
	began := time.Now()
	if sum := runs(t, e); !sum.Done() || time.Since(began) < e.Watch {
		t.Errorf("%+v", sum)
	}
}
