package main

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// A timeline is the openings of a plan: a row for each zone, time from left to right.
type timeline struct {
	Width, Height, Left, Top int
	Rows                     []zoneRow
	Ticks                    []tick
	End                      float64 // x of when the last host is back
	EndText                  string
	More                     int // zones that are not drawn
}

// A zoneRow is a zone with its openings.
type zoneRow struct {
	Zone  string
	Y     float64
	Marks []mark
}

// A mark is one opening of a zone, for all its sites that open then.
type mark struct {
	X, Start float64 // of the opening, and of the latest safe start of its sites
	Path     string
	State    string // ok, risk or late: told by shape too
	Label    string // empty where there is no room for it
	LabelX   float64
	Title    string
	sites    int
	hosts    int
	back     int // half of the time
	due      time.Time
	latest   time.Time
	always   bool
}

// A tick is a moment on an axis.
type tick struct {
	X    float64
	Text string
	Day  bool
}

const (
	pageWidth = 1080
	zoneWidth = 170
	rowHeight = 30
)

func newTimeline(f planForecast, from time.Time) timeline {
	t := timeline{Width: pageWidth, Left: zoneWidth, Top: 34}
	until := f.Ends[2]
	zones := map[string]map[string]*mark{}
	for _, s := range f.Sites {
		if s.Due.IsZero() {
			continue
		}
		if s.Due.After(until) {
			until = s.Due
		}
		zone := s.Due.Location().String()
		if zones[zone] == nil {
			zones[zone] = map[string]*mark{}
		}
		key := fmt.Sprint(s.UTC.Unix(), s.Always)
		m := zones[zone][key]
		if m == nil {
			m = &mark{due: s.Due, latest: s.Latest, always: s.Always}
			zones[zone][key] = m
		}
		m.add(s)
	}
	until = until.Add(until.Sub(from) / 20)
	x := scale(from, until, zoneWidth, pageWidth-20)
	for zone, marks := range zones {
		row := zoneRow{Zone: zone}
		for _, key := range slices.SortedFunc(maps.Keys(marks), func(a, b string) int { return marks[a].due.Compare(marks[b].due) }) {
			row.Marks = append(row.Marks, *marks[key])
		}
		t.Rows = append(t.Rows, row)
	}
	slices.SortFunc(t.Rows, func(a, b zoneRow) int {
		return cmp.Or(a.Marks[0].due.Compare(b.Marks[0].due), strings.Compare(a.Zone, b.Zone))
	})
	if len(t.Rows) > drawnZones {
		t.Rows, t.More = t.Rows[:drawnZones], len(t.Rows)-drawnZones
	}
	for i := range t.Rows {
		t.Rows[i].place(float64(t.Top+i*rowHeight+rowHeight/2), x, from)
	}
	t.Height = t.Top + len(t.Rows)*rowHeight + 14
	t.Ticks = ticks(from, until, x, 14)
	t.End, t.EndText = x(f.End), "last host back "+f.End.UTC().Format("Mon 15:04")
	return t
}

// add counts a site in.
func (m *mark) add(s planSite) {
	m.sites++
	m.hosts, m.back = m.hosts+s.Hosts, m.back+s.OnTime.P50
	if !s.Latest.IsZero() && (m.latest.IsZero() || s.Latest.Before(m.latest)) {
		m.latest = s.Latest
	}
}

// place puts the marks of a row where they belong.
func (r *zoneRow) place(y float64, x func(time.Time) float64, from time.Time) {
	r.Y = y
	taken := 0.0
	for i := range r.Marks {
		m := &r.Marks[i]
		m.X, m.State = x(m.due), state(m.hosts, m.back)
		m.Start = m.X
		if !m.latest.IsZero() {
			m.Start = max(x(m.latest), zoneWidth)
		}
		m.Path = shape(m.State, m.X, y, min(11, 3.5+math.Sqrt(float64(m.hosts))/8))
		what := "opens"
		if m.always {
			what = "open round the clock, wanted by"
		}
		m.Title = fmt.Sprintf("%s: %d sites, %s %s (%s UTC); %d of %d hosts back by then; work to begin by %s UTC", r.Zone, m.sites, what,
			m.due.Format(clockLayout+" MST"), m.due.UTC().Format("Mon 15:04"), m.back, m.hosts, m.latest.UTC().Format("Mon 15:04"))
		label := fmt.Sprintf("%d of %d", m.back, m.hosts)
		width := 7 * float64(len(label))
		m.LabelX = m.X + 15
		if m.LabelX+width > pageWidth {
			m.LabelX = m.X - 15 - width
		}
		if m.LabelX > taken {
			m.Label, taken = label, m.LabelX+width+18
		}
	}
}

// shape returns the path of a mark: a disc, a disc with a hole, or a diamond.
func shape(state string, x, y, r float64) string {
	disc := func(r float64) string {
		return fmt.Sprintf("M%.1f %.1fa%.1f %.1f 0 1 0 %.1f 0a%.1f %.1f 0 1 0 %.1f 0z", x-r, y, r, r, 2*r, r, r, -2*r)
	}
	switch state {
	case "late":
		r *= 1.25
		return fmt.Sprintf("M%.1f %.1fL%.1f %.1fL%.1f %.1fL%.1f %.1fz", x-r, y, x, y-r, x+r, y, x, y+r)
	case "risk":
		return disc(r) + disc(r*0.45)
	}
	return disc(r)
}

// scale returns where a moment lies between two places.
func scale(from, until time.Time, left, right float64) func(time.Time) float64 {
	return func(t time.Time) float64 {
		share := t.Sub(from).Hours() / max(until.Sub(from).Hours(), 1e-9)
		return left + share*(right-left)
	}
}

// ticks returns at most so many round moments, in UTC.
func ticks(from, until time.Time, x func(time.Time) float64, most int) []tick {
	step := time.Hour
	for _, hours := range []int{1, 2, 3, 6, 12, 24, 48, 96, 24 * 7, 24 * 28, 24 * 365} {
		if step = time.Duration(hours) * time.Hour; int(until.Sub(from)/step) < most {
			break
		}
	}
	var list []tick
	for t := from.UTC().Truncate(step).Add(step); t.Before(until); t = t.Add(step) {
		k := tick{X: x(t), Text: t.Format("15:04"), Day: t.Hour() == 0}
		if k.Day {
			k.Text = t.Format("Mon 2 Jan")
		}
		list = append(list, k)
	}
	return list
}

// A chart is a curve as it is drawn.
type chart struct {
	curve
	Width, Height, Left, Right, Top, Base int
	Band, Line                            string
	DueX                                  float64 // 0: none
	Ticks                                 []tick
	Text                                  string
	Most                                  string // at the top of the axis
}

func newChart(c curve, from time.Time) chart {
	g := chart{curve: c, Width: 340, Height: 190, Left: 46, Right: 330, Top: 26, Base: 166, Most: few(c.Hosts)}
	x := scale(from, c.Until, float64(g.Left), float64(g.Right))
	px := func(i int) float64 {
		return float64(g.Left) + float64(i)/curvePoints*float64(g.Right-g.Left)
	}
	py := func(v float64) float64 {
		return float64(g.Base) - v/max(float64(c.Hosts), 1)*float64(g.Base-g.Top)
	}
	var band, line strings.Builder
	for i, v := range c.Mid {
		fmt.Fprintf(&line, "%s%.1f %.1f", letter(i), px(i), py(v))
		fmt.Fprintf(&band, "%s%.1f %.1f", letter(i), px(i), py(c.High[i]))
	}
	for i := len(c.Low) - 1; i >= 0; i-- {
		fmt.Fprintf(&band, "L%.1f %.1f", px(i), py(c.Low[i]))
	}
	g.Line, g.Band, g.Ticks = line.String(), band.String()+"z", ticks(from, c.Until, x, 5)
	for i := range g.Ticks {
		if g.Ticks[i].X > float64(g.Right-18) {
			g.Ticks[i].Text = "" // half of it would be outside
		}
	}
	if !c.Due.IsZero() {
		g.DueX = x(c.Due)
		g.Text = "opens " + c.Due.Format("Mon 15:04 MST")
	}
	return g
}

// few writes a number of hosts in at most five letters: "99999", "850k", "1.2M".
func few(n int) string {
	switch {
	case n < 100_000:
		return fmt.Sprint(n)
	case n < 999_500:
		return fmt.Sprintf("%.0fk", float64(n)/1e3)
	case n < 9_950_000:
		return fmt.Sprintf("%.1fM", float64(n)/1e6)
	}
	return fmt.Sprintf("%.0fM", float64(n)/1e6)
}

// letter begins a path, or goes on with it.
func letter(i int) string {
	if i == 0 {
		return "M"
	}
	return "L"
}
