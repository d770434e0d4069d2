package engine

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"unbrick/inventory"
	"unbrick/remediate"
	"unbrick/remediate/schedule"
)

// Technicians work in shifts, by the clock of their site. A host whose next way is a person is not
// taken while they are off: its card would take a place, and their time, when nobody reads it. The
// state says until when they are, so that all processes go by the same, and the moment itself lets
// the hosts go. What waits already goes on waiting.

// offShift is the condition that nobody is sent to a host h of a site s now. A host that somebody
// spoke of is not meant: whoever does that is there.
func offShift(now int64) string {
	return fmt.Sprintf(`h.state = 'todo' AND h.way = '%s' AND h.notes = '' AND s.off > %d`, remediate.Manual, now)
}

// shiftEvery is how often shifts are looked at if none begins or ends: where a site is may become
// known.
const shiftEvery = time.Minute

// changeShifts writes down at which sites of this process technicians are off, and until when.
func (w *worker) changeShifts(ctx context.Context) error {
	if time.Now().Before(w.shifts) {
		return nil
	}
	err := w.Store.tx(ctx, func(tx *sql.Tx) error {
		if err := w.Store.exclusive(ctx, tx); err != nil {
			return err
		}
		now, err := w.Store.now(ctx, tx)
		if err != nil {
			return err
		}
		next, err := w.writeShifts(ctx, tx, moment(now))
		if err == nil {
			w.shifts = time.Now().Add(next.Sub(moment(now)))
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot write down the shifts of technicians: %w", err)
	}
	return nil
}

// A siteShift is what the state has of a site.
type siteShift struct {
	place schedule.Place
	clock string
	off   int64
}

// writeShifts writes down what changes at a moment, and returns when to look again.
func (w *worker) writeShifts(ctx context.Context, tx *sql.Tx, now time.Time) (next time.Time, err error) {
	next = now.Add(shiftEvery)
	in, args := w.atSites("site", w.run.ID)
	rows, err := tx.QueryContext(ctx, `SELECT site, COALESCE(country, ''), COALESCE(zone, ''), clock, off FROM sites WHERE run = $1`+in, args...)
	if err != nil {
		return next, err
	}
	var all []siteShift
	for rows.Next() {
		var s siteShift
		if err := rows.Scan(&s.place.Site, &s.place.Country, &s.place.Zone, &s.clock, &s.off); err != nil {
			rows.Close()
			return next, err
		}
		all = append(all, s)
	}
	if err := rows.Close(); err != nil {
		return next, err
	}
	var plan schedule.Options // without shifts people work round the clock
	if w.hasShifts() {
		plan = *w.Plan
		plan.Start = now
	}
	for _, was := range all {
		clock, off, until := "", int64(0), time.Time{}
		if zone := shiftClock(&plan, was.place); zone != nil {
			on := false
			if on, until = plan.Limits.Shift.At(now, zone); !on {
				off = millis(until)
			}
			clock = zone.String()
		}
		if !until.IsZero() && until.Before(next) {
			next = until
		}
		if clock == was.clock && off == was.off {
			continue
		}
		_, err := tx.ExecContext(ctx, `UPDATE sites SET clock = $1, off = $2 WHERE run = $3 AND site = $4`, clock, off, w.run.ID, was.place.Site)
		if err != nil {
			return next, err
		}
	}
	return next, nil
}

// shiftClock returns the clock of a site if its people work in shifts, and it is known.
func shiftClock(plan *schedule.Options, p schedule.Place) *time.Location {
	if plan.Limits.Shift == (schedule.Shift{}) {
		return nil
	}
	return plan.Clock(p)
}

func (w *worker) hasShifts() bool {
	return w.Plan != nil && w.Plan.Limits.Shift != (schedule.Shift{})
}

// mostRest is how long hosts are not sought at most that people may be sent to.
const mostRest = 10 * time.Second

// withHands returns the lines to look at, and of these those of people: none if they rest. There may
// be millions of hosts whose people are all off, or have all they can do: to find that out again at
// each look would be all that the process does.
func (w *worker) withHands(lines []*line) (all, hands []*line) {
	rest := time.Now().Before(w.hands)
	for _, l := range lines {
		switch {
		case l.way != remediate.Manual:
		case rest:
			continue
		default:
			hands = append(hands, l)
		}
		all = append(all, l)
	}
	return all, hands
}

// restHands has the lines of people rest after they were read to their end and none was taken.
func (w *worker) restHands(hands []*line, taken []candidate) {
	spent := time.Duration(0)
	for _, l := range hands {
		if !l.end || len(l.page) > 0 {
			return
		}
		spent += l.spent
	}
	if !slices.ContainsFunc(taken, func(c candidate) bool { return c.way == remediate.Manual }) && len(hands) > 0 {
		w.hands = time.Now().Add(min(20*spent, mostRest))
	}
}

// anyOff says whether hosts of this process wait for the shift of a technician.
func (w *worker) anyOff(ctx context.Context, tx *sql.Tx, now int64) (bool, error) {
	in, args := w.atSites("h.site", w.run.ID)
	n := 0
	err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM (SELECT 1 FROM sites s JOIN hosts h ON h.run = s.run AND h.site = s.site
		WHERE s.run = $1 AND `+offShift(now)+in+` LIMIT 1) AS held`, args...).Scan(&n)
	if err != nil {
		return false, fmt.Errorf("cannot look for hosts that wait for a shift: %w", err)
	}
	return n > 0, nil
}

// A Shift is what hosts wait for whose next way is a person.
type Shift struct {
	From  time.Time `json:"from"`  // by the clock of the site
	Hosts int       `json:"hosts"` // that wait for it
}

// addShifts says at which sites hosts wait for a shift.
func (s *Store) addShifts(ctx context.Context, st *Status) error {
	rows, err := s.db().QueryContext(ctx, `SELECT s.site, s.clock, s.off, COUNT(*) FROM sites s JOIN hosts h ON h.run = s.run AND h.site = s.site
		WHERE s.run = $1 AND `+offShift(time.Now().UnixMilli())+` GROUP BY s.site, s.clock, s.off`, st.Run.ID)
	if err != nil {
		return fmt.Errorf("cannot look for hosts of run %s that wait for a shift: %w", st.Run.ID, err)
	}
	defer rows.Close()
	places := map[string]*SiteStatus{}
	for i := range st.Sites {
		places[st.Sites[i].Site] = &st.Sites[i]
	}
	for rows.Next() {
		var site, clock string
		var off int64
		var shift Shift
		if err := rows.Scan(&site, &clock, &off, &shift.Hosts); err != nil {
			return err
		}
		shift.From = moment(off)
		if zone, err := time.LoadLocation(clock); err == nil {
			shift.From = shift.From.In(zone)
		}
		if here := places[site]; here != nil {
			here.Shift = &shift
		}
	}
	return rows.Err()
}

// placesOf is where sites are, as their hosts have it.
type placesOf map[string]*schedule.Place

func (all placesOf) join(h inventory.Host) {
	p := all[h.Site]
	if p == nil {
		p = &schedule.Place{Site: h.Site}
		all[h.Site] = p
	}
	p.Join(schedule.Place{Country: h.Country, Zone: h.TimeZone})
}

func (all placesOf) store(ctx context.Context, tx *sql.Tx, run string) error {
	for site, p := range all {
		if _, err := tx.ExecContext(ctx, `UPDATE sites SET country = $1, zone = $2 WHERE run = $3 AND site = $4`, p.Country, p.Zone, run, site); err != nil {
			return err
		}
	}
	return nil
}

// placeSites finds out where the sites are of a run that was begun by an unbrick that did not ask.
func (w *worker) placeSites(ctx context.Context) error {
	n := 0
	err := w.Store.db().QueryRowContext(ctx, `SELECT COUNT(*) FROM sites WHERE run = $1 AND zone IS NULL`, w.run.ID).Scan(&n)
	if err != nil || n == 0 || !w.hasShifts() {
		return err
	}
	all := placesOf{}
	for after, n := "", planPage; n == planPage && err == nil; {
		n, after, err = w.placePage(ctx, all, after)
	}
	if err == nil {
		err = w.Store.tx(ctx, func(tx *sql.Tx) error { return all.store(ctx, tx, w.run.ID) })
	}
	if err != nil {
		return fmt.Errorf("cannot find out where the sites of run %s are: %w", w.run.ID, err)
	}
	return nil
}

func (w *worker) placePage(ctx context.Context, all placesOf, after string) (n int, last string, err error) {
	rows, err := w.Store.db().QueryContext(ctx, `SELECT host, data FROM hosts WHERE run = $1 AND host > $2`+
		fmt.Sprintf(` ORDER BY host LIMIT %d`, planPage), w.run.ID, after)
	if err != nil {
		return 0, after, err
	}
	defer rows.Close()
	for last = after; rows.Next(); n++ {
		var data string
		var h inventory.Host
		err := rows.Scan(&last, &data)
		if err == nil {
			err = unmarshal(data, &h)
		}
		if err != nil {
			return n, last, err
		}
		all.join(h)
	}
	return n, last, rows.Err()
}
