package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/remediate"
)

func waits(e Event) bool { return e.Verdict == remediate.Waiting }

// ends says that a host has its last verdict.
func ends(e Event) bool { return e.Verdict != "" && !waits(e) }

// A host that waits for a person takes no place, is seen to wait, and goes on where it was
// when the person says a word: of it the driver is told.
func TestWait(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct {
		stage, op string
		said      string
		again     int // how often the stage runs
		want      remediate.Verdict
	}{
		{"check", "observe", remediate.Done, 2, remediate.Fixed},
		{"enter", "enter", remediate.Done, 2, remediate.Fixed},
		{"repair", "repair", remediate.Done, 2, remediate.Fixed},
		{"repair", "repair", remediate.GaveUp, 2, remediate.Failed},
		{"leave", "leave", remediate.Done, 2, remediate.Fixed},
	} {
		t.Run(c.stage+" "+c.said, func(t *testing.T) {
			t.Parallel()
			y := newYard(c.op + " manual: waits")
			path, s := yardStore(t, "h", "i")
			e := y.engine(s, "manual")
			e.Wait, e.Limits.Hosts, e.Look = time.Minute, 1, time.Hour
			r := start(t, path, e)
			for range 2 { // with one place both come to wait
				r.until(waits)
			}
			eventually(t, "both wait", func() bool {
				st, err := r.other.Status(ctx, "")
				return err == nil && st.Verdicts[remediate.Waiting] == 2 && st.Running == 0 &&
					len(st.Waits) == 1 && st.Waits[0].For == "a person" && st.Waits[0].Hosts == 2 && !st.Waits[0].Since.IsZero()
			})
			if h := result(t, r.other, "h"); h.State != "waiting" || string(h.Stage) != c.stage || h.Reason != "a person" {
				t.Errorf("%+v", h)
			}
			if err := r.other.Wake(ctx, "", "h", remediate.Note{By: "kim", What: remediate.Remarked}); err != nil { // which is no answer
				t.Fatal(err)
			}
			r.until(waits)
			for _, h := range []string{"h", "i"} {
				if err := r.other.Wake(ctx, "", h, remediate.Note{By: "kim", What: c.said, Text: "with\na stick"}); err != nil {
					t.Fatal(err)
				}
				r.until(ends)
			}
			sum, err := r.end()
			if err != nil || sum.Verdicts[c.want] != 2 || sum.Ended.IsZero() {
				t.Errorf("%+v, %v", sum, err)
			}
			n := 0
			for _, call := range y.calls {
				if call == c.op+" manual" {
					n++
				}
			}
			if n != 5 { // h thrice, i twice
				t.Errorf("%s ran %d times: %s", c.stage, n, y.calls)
			}
			last := y.said[len(y.said)-1]
			if last.By != "kim" || last.What != c.said || last.Text != "with a stick" || time.Since(last.At) > time.Minute {
				t.Errorf("the driver was told %+v", y.said)
			}
			if err := s.Wake(ctx, "", "h", last); err == nil || !strings.Contains(err.Error(), "has ended as "+string(c.want)) {
				t.Errorf("a word on a host that has ended: %v", err)
			}
			if err := s.Wake(ctx, "", "nobody", last); err == nil {
				t.Error("a word on a host that is not there was taken")
			}
		})
	}
}

// Persons have no more hosts in hand than the rung of their way says, those that wait included;
// the run ends, or waits for them, when nothing else is left.
func TestCardsInHand(t *testing.T) {
	ctx := context.Background()
	y := newYard("repair manual: waits")
	path, s := yardStore(t, "a", "b", "c", "d", "e")
	e := y.engine(s, "manual")
	e.Ladder[0].Hosts, e.Look = 2, time.Hour
	for range 2 {
		if sum := runs(t, e); sum.Verdicts[remediate.Waiting] != 2 || sum.Todo() != 3 || !sum.Ended.IsZero() {
			t.Fatalf("%+v", sum)
		}
	}
	e.Wait = time.Minute
	r := start(t, path, e)
	for n := 2; ; { // each that comes back lets the next one out
		for res, err := range r.other.Results(ctx, "", "waiting") {
			if err != nil {
				t.Fatal(err)
			}
			if err := r.other.Wake(ctx, "", res.Host, remediate.Note{By: "kim", What: remediate.Remarked}); err != nil { // which is no answer
				t.Fatal(err)
			}
			r.until(waits)
			if err := r.other.Wake(ctx, "", res.Host, remediate.Note{By: "kim", What: remediate.Done}); err != nil {
				t.Fatal(err)
			}
			break
		}
		if n++; n > 5 {
			break
		}
		eventually(t, "the next card is out", func() bool {
			st, err := r.other.Status(ctx, "")
			if err != nil || st.Verdicts[remediate.Waiting] > 2 {
				t.Fatalf("%+v, %v", st.Count, err)
			}
			return st.Verdicts[remediate.Fixed] == n-2 && st.Verdicts[remediate.Waiting] == 2
		})
	}
	for res := range r.other.Results(ctx, "", "waiting") {
		if err := r.other.Wake(ctx, "", res.Host, remediate.Note{By: "kim", What: remediate.Done}); err != nil {
			t.Fatal(err)
		}
	}
	if sum, err := r.end(); err != nil || !sum.Done() {
		t.Errorf("%+v, %v", sum, err)
	}
}

// A word that is said while the stage runs that is about to wait is not lost.
func TestWordInTime(t *testing.T) {
	y := newYard("repair manual: waits")
	y.hold = make(chan struct{})
	path, s := yardStore(t, "h")
	e := y.engine(s, "manual")
	e.Wait, e.Look = time.Minute, time.Hour
	r := start(t, path, e)
	r.until(begins(remediate.Repair))
	if err := r.other.Wake(context.Background(), "", "h", remediate.Note{By: "kim", What: remediate.Done}); err != nil {
		t.Fatal(err)
	}
	close(y.hold)
	if sum, err := r.end(); err != nil || !sum.Done() {
		t.Errorf("%+v, %v", sum, err)
	}
}

// A word is taken where a person is asked, and is no proof of what comes after: not on a host that
// goes another way.
func TestWordTooEarly(t *testing.T) {
	ctx := context.Background()
	y := newYard("enter redfish: fails", "repair manual: waits")
	y.entered = make(chan string)
	path, s := yardStore(t, "h")
	e := y.engine(s, "redfish", "manual")
	e.Wait, e.Look = time.Minute, time.Hour
	said := func(s *Store, what string) error {
		return s.Wake(ctx, "", "h", remediate.Note{By: "kim", What: what})
	}
	var asked *NotAskedError
	if err := said(s, remediate.Done); !errors.As(err, &asked) || asked.State != "todo" {
		t.Errorf("a word on a host in the queue: %v", err)
	}
	r := start(t, path, e)
	eventually(t, "it is treated", func() bool { return result(t, r.other, "h").Stage == remediate.Enter })
	if err := said(r.other, remediate.Done); !errors.As(err, &asked) || asked.State != "running" || asked.Way != "redfish" {
		t.Errorf("a word on a host in treatment: %v", err)
	}
	<-y.entered
	<-y.entered // by hand
	r.until(waits)
	if err := said(r.other, remediate.Done); err != nil {
		t.Fatal(err)
	}
	if sum, err := r.end(); err != nil || !sum.Done() {
		t.Errorf("%+v, %v: %+v", sum, err, result(t, s, "h"))
	}
}

// A host that comes up by itself while it waits is noticed, and left alone.
func TestUpWhileWaiting(t *testing.T) {
	for _, op := range []string{"observe", "enter", "repair"} {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			y := newYard(op + " manual: waits")
			path, s := yardStore(t, "h")
			e := y.engine(s, "manual")
			e.Wait = time.Minute
			r := start(t, path, e)
			r.until(waits)
			y.set("h", true)
			if sum, err := r.end(); err != nil || sum.Verdicts[remediate.Healthy] != 1 {
				t.Errorf("%+v, %v", sum, err)
			}
			y.mu.Lock()
			defer y.mu.Unlock()
			if h := result(t, s, "h"); h.Evidence != "answers" || y.repaired["h"] {
				t.Errorf("%+v", h)
			}
		})
	}
}

// A blinker is a host that crashes again and again: it answers two looks of three.
type blinker struct {
	*yard
	mu     sync.Mutex
	looks  int
	steady bool
}

func (b *blinker) Probe(context.Context, inventory.Host) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.looks++; b.steady || b.looks%3 > 0 {
		return "answers", nil
	}
	return "", nil
}

// A host that crashes again and again while it waits goes on waiting, as from when it began to,
// whether it is looked at as it answers or not.
func TestBlinksWhileWaiting(t *testing.T) {
	ctx := context.Background()
	y := newYard("repair manual: waits")
	path, s := yardStore(t, "h")
	b := &blinker{yard: y}
	e := y.engine(s, "manual")
	e.Prober, e.Wait, e.Soak = b, time.Minute, 300*time.Millisecond
	r := start(t, path, e)
	r.until(waits)
	since := func() (ms int64, notes string) {
		if err := r.other.db().QueryRow(`SELECT since, notes FROM hosts`).Scan(&ms, &notes); err != nil {
			t.Fatal(err)
		}
		return ms, notes
	}
	began, _ := since()
	for range 3 {
		if err := r.other.Wake(ctx, "", "h", remediate.Note{By: appName, What: remediate.Seen}); err != nil {
			t.Fatal(err)
		}
		r.until(waits)
		eventually(t, "it waits", func() bool { return result(t, r.other, "h").State == "waiting" })
	}
	if ms, notes := since(); ms != began || strings.Count(notes, remediate.Seen) != 1 {
		t.Errorf("it waits since %d, not %d; notes %s", ms, began, notes)
	}
	b.mu.Lock()
	b.steady = true
	b.mu.Unlock()
	if sum, err := r.end(); err != nil || sum.Verdicts[remediate.Healthy] != 1 {
		t.Errorf("%+v, %v: %+v", sum, err, result(t, s, "h"))
	}
}

// The run waits for persons as long as it is told, and then ends with hosts that wait; run
// again, it goes on with them.
func TestWaitNoLonger(t *testing.T) {
	for _, c := range []struct {
		name         string
		wait, budget time.Duration
	}{{"not at all", 0, time.Hour}, {"for a while", 30 * time.Millisecond, 0}, {"as the rung says", time.Hour, time.Second}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			y := newYard("enter manual: waits")
			path, s := yardStore(t, "h", "i")
			e := y.engine(s, "manual")
			e.Wait, e.Ladder[0].Budget = c.wait, c.budget
			e.Limits.PerTechnician = 1 // i has its turn after h
			for range 2 {
				sum := runs(t, e)
				if sum.Verdicts[remediate.Waiting] != 1 || sum.Done() || !sum.Ended.IsZero() {
					t.Fatalf("%+v", sum)
				}
			}
			e.Wait = time.Hour
			e.Ladder[0].Budget = 0
			r := start(t, path, e)
			for _, h := range []string{"h", "i"} {
				eventually(t, h+" waits", func() bool { return result(t, r.other, h).State == "waiting" })
				if err := r.other.Wake(context.Background(), "", h, remediate.Note{What: remediate.Done}); err != nil {
					t.Fatal(err)
				}
			}
			if sum, err := r.end(); err != nil || !sum.Done() || sum.Ended.IsZero() {
				t.Errorf("%+v, %v", sum, err)
			}
		})
	}
}

// No more hosts wait for a person than they can do, at their sites or under their names.
func TestTechnicians(t *testing.T) {
	y := newYard("enter manual: waits")
	var hosts []string
	for i := range 12 {
		hosts = append(hosts, fmt.Sprintf("h%02d@%s", i, []string{"SYD", "MEL", "PER"}[i%3]))
	}
	path, s := yardStore(t, hosts...)
	if _, err := s.db().Exec(`UPDATE hosts SET data = replace(data, '"site":"PER"', '"site":"PER","technician":"kim"')`); err != nil {
		t.Fatal(err)
	}
	e := y.engine(s, "manual")
	e.Wait, e.Limits.PerTechnician = time.Minute, 2
	r := start(t, path, e)
	for range 6 {
		r.until(waits)
	}
	for range 5 { // looks of the dispatcher
		time.Sleep(r.Poll)
		if st, err := r.other.Status(context.Background(), ""); err != nil || st.Verdicts[remediate.Waiting] != 6 || st.Todo != 6 {
			t.Fatalf("%+v, %v", st.Count, err)
		}
	}
	for i := range 12 {
		name, _, _ := strings.Cut(hosts[i], "@")
		eventually(t, name+" waits", func() bool { return result(t, r.other, name).State == "waiting" })
		if err := r.other.Wake(context.Background(), "", name, remediate.Note{What: remediate.Done}); err != nil {
			t.Fatal(err)
		}
	}
	if sum, err := r.end(); err != nil || !sum.Done() {
		t.Errorf("%+v, %v", sum, err)
	}
}

// A host that waits can be cancelled, which puts it back, or treated again from the start.
func TestCancelWaiting(t *testing.T) {
	ctx := context.Background()
	y := newYard("repair manual: waits")
	_, s := yardStore(t, "h", "i")
	e := y.engine(s, "manual")
	runs(t, e)
	if n, err := s.Cancel(ctx, "", "ops", "h"); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if n, err := s.Retry(ctx, "", []remediate.Verdict{remediate.Waiting}); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	y.does, y.calls = map[string]string{}, nil
	sum := runs(t, e)
	if h := result(t, s, "h"); h.Verdict != remediate.Failed || h.Reason != "cancelled by ops" {
		t.Errorf("%+v", h)
	}
	if i := result(t, s, "i"); i.Verdict != remediate.Fixed {
		t.Errorf("%+v", i)
	}
	if sum.Ended.IsZero() || y.now["manual"] != 0 {
		t.Errorf("%+v, %d not put back", sum, y.now["manual"])
	}
}

// Killed at any step of hosts that go on after they waited, the run ends as if it had not been.
func TestKilledAfterWaiting(t *testing.T) {
	waiting := []string{"check waits#1", "enter waits#2", "repair waits#3", "person gives up#4", "person gave up, second#5"}
	for _, point := range points() {
		if point == "parked" {
			continue // nobody waits twice
		}
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			path, s, w, url := setup(t, waiting...)
			runs(t, testEngine(s, url))
			if n := speak(t, s); n != len(waiting) {
				t.Fatalf("%d hosts wait", n)
			}
			s.Close()
			cmd := startChild(t, path, url, point, "")
			cmd.Wait()
			if got := cmd.ProcessState.String(); got != "signal: killed" {
				t.Fatalf("the child ended with %s: %s", got, cmd.Stderr)
			}
			s = openTest(t, path)
			sum := settle(t, testEngine(s, url))
			got := verdicts(t, s)
			for name, v := range got {
				fault, _, _ := strings.Cut(name, "#")
				if v != faults()[fault] {
					t.Errorf("%s ended %q, want %q", name, v, faults()[fault])
				}
			}
			w.check(t, got)
			if sum.Ended.IsZero() {
				t.Errorf("%+v", sum)
			}
		})
	}
}
