package engine

import (
	"context"
	"database/sql"
	"slices"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/remediate"
	"unbrick/remediate/schedule"
)

// shiftStore has hosts "name@site": London is nine or eight hours behind Tokyo, and nobody knows
// where the site XXX is.
func shiftStore(t testing.TB, hosts ...string) (path string, s *Store) {
	t.Helper()
	path = t.TempDir() + "/unbrick.db"
	s = openTest(t, path)
	_, err := s.Begin(context.Background(), Run{FleetDigest: "f"}, func(yield func(Planned) bool) {
		for i, name := range hosts {
			p := yardHost(i, name)
			p.Host.Tier = inventory.Normal
			p.Host.TimeZone = map[string]string{"LON": "Europe/London", "TYO": "Asia/Tokyo"}[p.Host.Site]
			if !yield(p) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return path, s
}

// tokyoNow is a shift that is on in Tokyo now, for an hour or more, and off in London.
func tokyoNow(t testing.TB) schedule.Shift {
	t.Helper()
	zone, err := time.LoadLocation("Asia/Tokyo")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().In(zone)
	since := time.Duration(now.Hour()) * time.Hour
	const day = 24 * time.Hour
	return schedule.Shift{From: (since + day - 2*time.Hour) % day, To: (since + 2*time.Hour) % day}
}

func withShift(e Engine, s schedule.Shift) Engine {
	e.Plan, e.Replan = planOf(e), 5*time.Millisecond
	e.Plan.Limits.Shift = s
	return e
}

// A host whose next way is a person is not handed out while the technicians of its site are off,
// nor after the run was taken up again; a claim of somebody who is there is taken all the same, and
// the shift itself begins without anybody's doing. What is done from afar, and sites of which
// nobody knows the hour, do not wait.
func TestShift(t *testing.T) {
	ctx := context.Background()
	y := newYard("enter manual: waits")
	path, s := shiftStore(t, "a@LON", "b@LON", "c@LON", "d@TYO", "e@XXX")
	e := withShift(y.engine(s, "manual"), tokyoNow(t))
	stands := func(s *Store, want map[string]string) bool {
		for h, state := range want {
			if result(t, s, h).State != state {
				return false
			}
		}
		return true
	}
	off := map[string]string{"a": "todo", "b": "todo", "c": "todo", "d": "waiting", "e": "waiting"}
	for range 2 { // the second time it is taken up again
		if sum := runs(t, e); sum.Todo() != 3 || !sum.Ended.IsZero() || !stands(s, off) {
			t.Fatalf("%+v", sum)
		}
	}
	st, err := s.Status(ctx, "")
	if err != nil || st.Sites[0].Shift == nil || st.Sites[1].Shift != nil || st.Sites[2].Shift != nil {
		t.Fatalf("%+v, %v", st.Sites, err)
	}
	if got := st.Sites[0].Shift; got.Hosts != 3 || got.From.Location().String() != "Europe/London" || !got.From.After(time.Now()) {
		t.Errorf("%+v", got)
	}
	e.Wait = time.Minute
	r := start(t, path, e)
	if err := r.other.Wake(ctx, "", "b", remediate.Note{By: "kim", What: remediate.Done}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the claim is taken", func() bool { return result(t, r.other, "b").Verdict == remediate.Fixed })
	if !stands(r.other, map[string]string{"a": "todo", "c": "todo"}) {
		t.Error("more than the claim was taken")
	}
	if _, err := r.other.db().Exec(`UPDATE sites SET off = $1 WHERE site = 'LON'`, time.Now().UnixMilli()); err != nil {
		t.Fatal(err)
	}
	for _, h := range []string{"a", "c", "d", "e"} {
		eventually(t, h+" waits", func() bool { return result(t, r.other, h).State == "waiting" })
		if err := r.other.Wake(ctx, "", h, remediate.Note{What: remediate.Done}); err != nil {
			t.Fatal(err)
		}
	}
	if sum, err := r.end(); err != nil || !sum.Done() {
		t.Errorf("%+v, %v", sum, err)
	}
}

// Whoever waits for a shift holds no place and no other site, though these need what it serves;
// and a run that is taken up without shifts does not keep those of before.
func TestShiftHoldsNobody(t *testing.T) {
	y := newYard()
	_, s := shiftStore(t, "a@LON", "b@TYO")
	if _, err := s.db().Exec(`UPDATE hosts SET serves = 1 WHERE host = 'a'`); err != nil {
		t.Fatal(err)
	}
	e := withShift(y.engine(s, "manual"), tokyoNow(t))
	e.Limits.Hosts = 1
	if sum := runs(t, e); sum.Verdicts[remediate.Fixed] != 1 || sum.Todo() != 1 || result(t, s, "a").State != "todo" {
		t.Fatalf("%+v", sum)
	}
	e.Plan = nil
	if sum := runs(t, e); !sum.Done() {
		t.Errorf("%+v", sum)
	}
	st, err := s.Status(context.Background(), "")
	if err != nil || slices.ContainsFunc(st.Sites, func(s SiteStatus) bool { return s.Shift != nil }) {
		t.Errorf("%+v, %v", st.Sites, err)
	}
}

// The state follows the clock of each site: also that of a run that was begun before anybody asked
// where its sites are.
func TestWriteShifts(t *testing.T) {
	ctx := context.Background()
	_, s := shiftStore(t, "a@LON", "d@TYO", "e@XXX")
	if _, err := s.db().Exec(`UPDATE sites SET country = NULL, zone = NULL`); err != nil {
		t.Fatal(err)
	}
	r, err := s.Run(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	e := withShift(Engine{Store: s}, schedule.Shift{From: 6 * time.Hour, To: 22 * time.Hour})
	w := newWorker(New(e), r)
	if err := w.placeSites(ctx); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ now, london, tokyo, next string }{
		{"2026-07-06T12:00:00Z", "", "", "2026-07-06T12:01:00Z"},
		{"2026-07-06T12:59:30Z", "", "", "2026-07-06T13:00:00Z"},
		{"2026-07-06T13:00:00Z", "", "2026-07-06T21:00:00Z", "2026-07-06T13:01:00Z"},
		{"2026-07-06T21:00:00Z", "2026-07-07T05:00:00Z", "", "2026-07-06T21:01:00Z"},
	} {
		now, _ := time.Parse(time.RFC3339, tc.now)
		var next time.Time
		err := s.tx(ctx, func(tx *sql.Tx) error {
			next, err = w.writeShifts(ctx, tx, now)
			return err
		})
		if err != nil || next.UTC().Format(time.RFC3339) != tc.next {
			t.Errorf("%s: next is %v, want %s, %v", tc.now, next, tc.next, err)
		}
		for site, want := range map[string]string{"LON": tc.london, "TYO": tc.tokyo, "XXX": ""} {
			var off int64
			if err := s.db().QueryRow(`SELECT off FROM sites WHERE site = $1`, site).Scan(&off); err != nil {
				t.Fatal(err)
			}
			got := ""
			if off > 0 {
				got = moment(off).Format(time.RFC3339)
			}
			if got != want {
				t.Errorf("%s at %s: off until %q, want %q", site, tc.now, got, want)
			}
		}
	}
}

// Hosts whose people are all off are not sought again at each look: that rests for as long as it took
// many times over, and then those are found whose shift has begun.
func TestHandsRest(t *testing.T) {
	ctx := context.Background()
	_, s := shiftStore(t, "a@LON", "b@LON", "c@LON")
	off := func(until time.Time) {
		t.Helper()
		if _, err := s.db().Exec(`UPDATE hosts SET way = 'manual'`); err != nil {
			t.Fatal(err)
		}
		if _, err := s.db().Exec(`UPDATE sites SET off = $1`, until.UnixMilli()); err != nil {
			t.Fatal(err)
		}
	}
	r, err := s.Run(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorker(New(Engine{Store: s}), r)
	taken := func() (n int) {
		t.Helper()
		err := s.tx(ctx, func(tx *sql.Tx) error {
			p, err := w.position(ctx, tx)
			if err == nil {
				p.watch, err = w.count(ctx, tx)
			}
			if err != nil {
				return err
			}
			list, _, err := w.candidates(ctx, tx, p)
			n = len(list)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	off(time.Now().Add(time.Hour))
	began := time.Now()
	if n := taken(); n != 0 || !w.hands.After(began) || w.hands.After(time.Now().Add(mostRest)) {
		t.Fatalf("%d taken, rests until %v", n, w.hands)
	}
	off(time.Time{})
	w.hands = time.Now().Add(time.Minute)
	if n := taken(); n != 0 {
		t.Errorf("%d taken while they rest", n)
	}
	w.hands = time.Time{}
	if n := taken(); n != 3 || !w.hands.IsZero() {
		t.Errorf("%d taken, rests until %v", n, w.hands)
	}
}
