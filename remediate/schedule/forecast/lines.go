package forecast

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// lines makes the lines of the sites and sums them up.
func (l *look) lines(f *Forecast) {
	sums := []map[string]*sum{{}, {}, {}}
	values := make([]float64, len(l.results))
	for i := range l.places {
		line := l.site(i, values)
		f.Sites = append(f.Sites, line)
		for why, n := range line.Held {
			f.Held[why] += n
		}
		for k, name := range []string{"", l.places[i].Zone, l.places[i].Region} {
			s := sums[k][name]
			if s == nil {
				s = &sum{Line: Line{Name: name}, runs: make([]float64, len(l.results))}
				sums[k][name] = s
			}
			s.add(l, i, &line)
		}
	}
	byDue := func(a, b Line) int {
		if a.UTC.IsZero() != b.UTC.IsZero() {
			return cmp.Compare(b.UTC.Unix(), a.UTC.Unix()) // unknown last
		}
		return cmp.Or(a.UTC.Compare(b.UTC), cmp.Compare(a.Name, b.Name))
	}
	slices.SortFunc(f.Sites, byDue)
	for k, to := range []*[]Line{nil, &f.Zones, &f.Regions} {
		for _, name := range slices.Sorted(maps.Keys(sums[k])) {
			s := sums[k][name]
			s.OnTime = band(s.runs)
			if to == nil {
				f.All = s.Line
				continue
			}
			*to = append(*to, s.Line)
		}
		if to != nil {
			slices.SortFunc(*to, byDue)
		}
	}
}

// A sum is lines added up.
type sum struct {
	Line
	runs []float64
}

func (s *sum) add(l *look, site int, line *Line) {
	s.Hosts += line.Hosts
	s.NoDue += line.NoDue
	s.Lost += line.Lost
	s.Halted += line.Halted
	for t, n := range line.ToDo {
		s.ToDo[t] += n
	}
	for r := range s.runs {
		s.runs[r] += float64(int(l.results[r].onTime[site]) + l.o.Back[l.places[site].Site].OnTime)
	}
	if !line.UTC.IsZero() && (s.UTC.IsZero() || line.UTC.Before(s.UTC)) {
		s.UTC, s.Due = line.UTC, line.Due
	}
	if line.Ready.After(s.Ready) {
		s.Ready = line.Ready
	}
	if !line.Latest.IsZero() && (s.Latest.IsZero() || line.Latest.Before(s.Latest)) {
		s.Latest = line.Latest
	}
}

// site makes the line of one site. values is scratch.
func (l *look) site(i int, values []float64) Line {
	p, t := &l.places[i], &l.sites[i]
	clock := p.Clock
	if clock == nil {
		clock = time.UTC
	}
	back := l.o.Back[p.Site]
	line := Line{Name: p.Site, Hosts: t.known + back.Hosts, NoDue: t.noDue, ToDo: t.tiers, Held: p.Held, Halted: t.halted, Stopped: t.stopped}
	if !math.IsInf(t.first, 1) {
		line.Due = l.d.At(t.first).In(clock)
		line.UTC = line.Due.UTC()
	}
	column := func(of func(*result) float64) []float64 {
		for r := range l.results {
			values[r] = of(&l.results[r])
		}
		slices.Sort(values)
		return values
	}
	line.OnTime = band(column(func(r *result) float64 { return float64(int(r.onTime[i]) + back.OnTime) }))
	line.Lost = int(math.Round(quantile(column(func(r *result) float64 { return float64(r.lost[i]) }), 0.5)))
	if ready := quantile(column(func(r *result) float64 { return float64(r.ready[i]) }), 0.5); ready > l.now {
		line.Ready = l.d.At(ready).In(clock)
	}
	l.limit(i, &line, quantile(column(func(r *result) float64 { return float64(r.gate[i]) }), 0.5))
	if !line.Latest.IsZero() {
		line.Latest = line.Latest.In(clock)
	}
	return line
}

// String is the line as an operator reads it.
func (l Line) String() string {
	var b strings.Builder
	b.WriteString(cmp.Or(l.Name, "(none)"))
	if !l.Due.IsZero() {
		fmt.Fprintf(&b, " (%s, %s UTC)", l.Due.Format("15:04 Mon"), l.UTC.Format("Mon 15:04"))
	}
	fmt.Fprintf(&b, ": %d of %d by opening (P10–P90 %d–%d)", l.OnTime.P50, l.Hosts, l.OnTime.P10, l.OnTime.P90)
	if l.Slots > 0 {
		fmt.Fprintf(&b, " with %d slots", l.Slots)
	}
	b.WriteString(".")
	if n := l.Need; n != nil {
		fmt.Fprintf(&b, " Needs %d, %d with margin (%s).", n.Least, n.Margin, n.Text)
	}
	if l.Limit != "" {
		fmt.Fprintf(&b, " Limit: %s.", l.Limit)
	}
	if !l.Latest.IsZero() {
		fmt.Fprintf(&b, " Start by %s local.", l.Latest.Format("Mon 15:04"))
	}
	if l.Halted > 0 {
		fmt.Fprintf(&b, " %d hosts are halted.", l.Halted)
	}
	if l.Lost > 0 {
		fmt.Fprintf(&b, " For about %d every way fails.", l.Lost)
	}
	for _, why := range slices.Sorted(maps.Keys(l.Held)) {
		fmt.Fprintf(&b, " %d not in the plan: %s.", l.Held[why], why)
	}
	return b.String()
}
