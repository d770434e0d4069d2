package calendar

import "time"

// searchDays is how far ahead an opening is sought: the longest rows of holidays and weekends
// have a fortnight, and a shop that opens on one day a week may miss two.
const searchDays = 40

// next returns the first moment at or after now at which zone's clock shows the given minute
// of a day that is not closed. It asks about dates in their order, at noon UTC.
func next(now time.Time, zone *time.Location, minute int, closed func(date time.Time) bool) (time.Time, bool) {
	y, m, d := now.In(zone).Date()
	for i := range searchDays {
		// Days are stepped in the calendar, never by 24 hours: some have 23 or 25.
		date := time.Date(y, m, d+i, 12, 0, 0, 0, time.UTC)
		at, ok := instant(date, minute, zone)
		if !ok || at.Before(now) || closed(date) {
			continue
		}
		return at, true
	}
	return time.Time{}, false
}

// instant returns the moment at which zone's clock shows minute on the date of day. In a gap
// of the clock it is the first moment after it; of two such moments it is the earlier. It is
// false if the date does not exist there.
//
// time.Date alone will not do: in a gap it lands after it for Berlin and before it, even on
// the previous date, for New York and Santiago.
func instant(day time.Time, minute int, zone *time.Location) (time.Time, bool) {
	y, m, d := day.Date()
	t := time.Date(y, m, d, minute/60, minute%60, 0, 0, zone)
	start, end := t.ZoneBounds()
	if wall(t).Equal(wallAt(day, minute)) {
		if start.IsZero() {
			return t, true
		}
		_, now := t.Zone()
		_, was := start.Add(-1).Zone()
		if first := t.Add(time.Duration(now-was) * time.Second); first.Before(start) {
			return first, true
		}
		return t, true
	}
	at := start
	if wall(t).Before(wallAt(day, minute)) {
		at = end
	}
	ay, am, ad := at.Date()
	return at, ay == y && am == m && ad == d
}

// wall returns what the clock shows at t, as a time that can be compared.
func wall(t time.Time) time.Time {
	y, m, d := t.Date()
	return time.Date(y, m, d, t.Hour(), t.Minute(), t.Second(), 0, time.UTC)
}

// wallAt is what the clock shows at minute on the date of day.
func wallAt(day time.Time, minute int) time.Time {
	y, m, d := day.Date()
	return time.Date(y, m, d, minute/60, minute%60, 0, 0, time.UTC)
}
