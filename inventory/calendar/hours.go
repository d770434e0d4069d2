package calendar

import (
	"strconv"
	"strings"
	"time"

	"unbrick/inventory"
)

// Hours are when a place opens.
type Hours struct {
	Always bool                  // round the clock
	Days   map[time.Weekday]bool // nil: the working days of the country
	Minute int                   // of the day, 0 to 1439

	Holidays bool // open on public holidays too
}

// defaultMinute is when a place opens that did not say: 08:00.
const defaultMinute = 8 * 60

// ParseHours reads "08:00", "Mon-Sat 07:30", "Mon,Thu 6:00" or "24x7"; the empty text is
// 08:00 on working days. Days are English, three letters or whole; a span may wrap ("Sat-Wed").
// "holidays" at the end means open on public holidays too.
// The error is a *inventory.ValueError.
func ParseHours(s string) (Hours, error) {
	bad := &inventory.ValueError{Reason: "not an opening hour", Want: `"08:00", "Mon-Sat 07:30", "07:30 holidays" or "24x7"`}
	f := strings.Fields(strings.ToLower(s))
	if len(f) == 0 {
		return Hours{Minute: defaultMinute}, nil
	}
	if len(f) == 1 && (f[0] == "24x7" || f[0] == "24/7") {
		return Hours{Always: true}, nil
	}
	var h Hours
	var ok bool
	if h.Holidays = len(f) > 1 && f[len(f)-1] == "holidays"; h.Holidays {
		f = f[:len(f)-1]
	}
	if h.Minute, ok = parseClock(f[len(f)-1]); !ok || len(f) > 2 {
		return Hours{}, bad
	}
	if len(f) == 2 {
		if h.Days, ok = parseDays(f[0]); !ok {
			return Hours{}, bad
		}
	}
	return h, nil
}

// parseClock reads "7:30", "07:30", and "07:30:00", which spreadsheets make of it.
func parseClock(s string) (minute int, ok bool) {
	p := strings.Split(strings.TrimSuffix(s, ":00"), ":")
	if len(p) == 1 { // the ":00" was the minutes
		p = append(p, "00")
	}
	if len(p) != 2 || len(p[0]) == 0 || len(p[0]) > 2 || len(p[1]) != 2 || !strings.Contains(s, ":") {
		return 0, false
	}
	hour, err := strconv.ParseUint(p[0], 10, 8)
	minutes, err2 := strconv.ParseUint(p[1], 10, 8)
	if err != nil || err2 != nil || hour > 23 || minutes > 59 {
		return 0, false
	}
	return int(hour)*60 + int(minutes), true
}

// parseDays reads "mon-fri" or "mon,wed-fri".
func parseDays(s string) (map[time.Weekday]bool, bool) {
	days := map[time.Weekday]bool{}
	for part := range strings.SplitSeq(s, ",") {
		first, last, span := strings.Cut(part, "-")
		if !span {
			last = first
		}
		from, ok := parseDay(first)
		to, ok2 := parseDay(last)
		if !ok || !ok2 {
			return nil, false
		}
		for d := from; ; d = (d + 1) % 7 {
			days[d] = true
			if d == to {
				break
			}
		}
	}
	return days, true
}

// parseDay reads "mon" or "monday".
func parseDay(s string) (time.Weekday, bool) {
	for d := time.Sunday; d <= time.Saturday; d++ {
		name := strings.ToLower(d.String())
		if s == name || s == name[:3] {
			return d, true
		}
	}
	return 0, false
}
