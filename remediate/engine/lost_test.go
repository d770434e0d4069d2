package engine

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"unbrick/remediate"
)

// When the engine loses an attempt at any point, the next one puts back first what is to be
// put back, as it stood before the first, and the verdict is the same.
func TestLostAttempt(t *testing.T) {
	state := template(t)
	for _, stage := range remediate.Stages() {
		for _, when := range []string{"before", "recorded"} {
			t.Run(when+" "+string(stage), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, names(faults())...)
				s := openTest(t, crashState(t, state))
				e := testEngine(s, w.serve(t))
				var lost sync.Map
				e.at = func(at, host string, s remediate.Stage) {
					if _, again := lost.LoadOrStore(host, true); at == when && s == stage && !again {
						panic("lost")
					} else if !again {
						lost.Delete(host)
					}
				}
				settle(t, e)
				got := verdicts(t, s)
				same(t, got, faults())
				w.check(t, got)
			})
		}
	}
}

func runs(t testing.TB, e Engine) Summary {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	sum, err := New(e).Run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// A host whose attempts are lost again and again is put back and given up.
func TestLostAlways(t *testing.T) {
	w := newWorld(t, "none")
	s := openTest(t, filepath.Join(t.TempDir(), "unbrick.db"))
	begin(t, s, "none")
	e := testEngine(s, w.serve(t))
	e.at = func(at, _ string, s remediate.Stage) {
		if at == "recorded" && s == remediate.Enter {
			panic("lost")
		}
	}
	runs(t, e)
	got := verdicts(t, s)
	same(t, got, map[string]remediate.Verdict{"none": remediate.Failed})
	w.check(t, got)
	if n := w.calls["enter none"]; n != maxLost {
		t.Errorf("entered %d times, want %d", n, maxLost)
	}
}
