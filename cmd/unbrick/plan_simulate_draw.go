package main

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"unbrick/remediate/schedule/simulate"
)

// A drawnSimulation is what the page of a simulation is made of.
type drawnSimulation struct {
	simulation
	From   string
	Panels []panel
	Table  [][]string // the first line is its head
}

// A panel is one figure of all rules, over the load.
type panel struct {
	Title         string
	Width, Height int
	Left, Right   float64
	Lines         []ruleLine
	Across, Up    []tick // axes
}

// A ruleLine is one rule in a panel.
type ruleLine struct {
	Rule, Class, Path string
	EndX, EndY, Y     float64 // of its last point, and of its name
}

func (s simulation) drawn() drawnSimulation {
	d := drawnSimulation{simulation: s, From: simulate.Start().Format("2 January 2006 15:04")}
	share := func(of func(simulate.Row) float64) func(simulate.Row) (float64, bool) {
		return func(r simulate.Row) (float64, bool) { return of(r), true }
	}
	d.Panels = []panel{
		s.panel("hosts in time, % by weight", 100, share(func(r simulate.Row) float64 { return r.Weighted })),
		s.panel("sites with 95 % of all but the low tier in time, %", 100, func(r simulate.Row) (float64, bool) { return r.Core, r.Rule != simulate.Bound }),
		s.panel("weighted tardiness, thousand host-hours", 0, func(r simulate.Row) (float64, bool) { return r.Tardiness, r.Rule != simulate.Bound }),
	}
	head := []string{"rule"}
	for _, load := range s.Loads {
		head = append(head, fmt.Sprintf("load %g", load))
	}
	d.Table = append(d.Table, head)
	for _, rule := range s.rules() {
		line := []string{rule}
		for _, load := range s.Loads {
			line = append(line, s.cell(rule, load))
		}
		d.Table = append(d.Table, line)
	}
	return d
}

// panel draws one figure; top is the end of its axis, or 0 for the largest value.
func (s simulation) panel(title string, top float64, value func(simulate.Row) (float64, bool)) panel {
	p := panel{Title: title, Width: 720, Height: 300, Left: 52, Right: 500}
	for _, r := range s.Rows {
		if v, ok := value(r); ok && v > top {
			top = v
		}
	}
	top = round(top)
	low, high := slices.Min(s.Loads), slices.Max(s.Loads)
	px := func(load float64) float64 { return p.Left + (load-low)/max(high-low, 1e-9)*(p.Right-p.Left) }
	py := func(v float64) float64 { return 270 - v/max(top, 1e-9)*236 }
	for _, load := range s.Loads {
		p.Across = append(p.Across, tick{X: px(load), Text: fmt.Sprintf("%g", load)})
	}
	for i := range 5 {
		v := top * float64(i) / 4
		p.Up = append(p.Up, tick{X: py(v), Text: fmt.Sprintf("%.0f", v)})
	}
	loads := slices.Sorted(slices.Values(s.Loads))
	for i, rule := range s.rules() {
		l := ruleLine{Rule: rule, Class: fmt.Sprintf("r%d", i)}
		switch rule {
		case simulate.Ours:
			l.Class = "ours"
		case simulate.Bound:
			l.Class = "bound"
		}
		var path strings.Builder
		for k, load := range loads {
			v, ok := value(s.row(rule, load))
			if !ok {
				break
			}
			l.EndX, l.EndY = px(load), py(v)
			fmt.Fprintf(&path, "%s%.1f %.1f", letter(k), l.EndX, l.EndY)
		}
		if l.Path = path.String(); l.Path != "" {
			l.Y = l.EndY
			p.Lines = append(p.Lines, l)
		}
	}
	p.spread()
	return p
}

// round returns the next number that an axis of four parts can end at.
func round(v float64) float64 {
	unit := math.Pow(10, math.Floor(math.Log10(max(v, 1e-9))))
	for _, k := range []float64{1, 2, 4, 6, 8} {
		if k*unit >= v {
			return k * unit
		}
	}
	return 10 * unit
}

// spread moves the names apart that would lie on each other.
func (p *panel) spread() {
	slices.SortStableFunc(p.Lines, func(a, b ruleLine) int { return int(math.Copysign(1, a.Y-b.Y)) })
	const least = 15
	for i := range p.Lines {
		if i > 0 {
			p.Lines[i].Y = max(p.Lines[i].Y, p.Lines[i-1].Y+least)
		}
	}
	for i, bottom := len(p.Lines)-1, 280.0; i >= 0 && p.Lines[i].Y > bottom; i, bottom = i-1, bottom-least {
		p.Lines[i].Y = bottom
	}
}
