package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"

	"unbrick/remediate"
	"unbrick/remediate/engine"
)

// A progress shows a run while it goes on: on a terminal a bar with a line per site above
// it, otherwise a line per host that ended.
type progress struct {
	w     io.Writer
	clock func() time.Time

	mu    sync.Mutex
	total int
	done  int
	sites map[string]*siteLine
	bar   *progressbar.ProgressBar // nil: lines
	drawn int                      // lines of the picture on the screen
	stop  chan struct{}
	ended sync.WaitGroup
}

// A siteLine is one site as it is drawn.
type siteLine struct {
	name     string
	hosts    int
	running  map[string]string // host → stage
	verdicts map[remediate.Verdict]int
	done     int
	shift    time.Time // that hosts wait for, as it was said
}

const (
	redraw   = 250 * time.Millisecond
	siteRows = 12 // sites drawn at once: those where something happens
)

// newProgress begins with how the run stands.
func newProgress(w io.Writer, st engine.Status, clock func() time.Time) *progress {
	p := &progress{w: w, clock: clock, sites: map[string]*siteLine{}, stop: make(chan struct{})}
	p.refresh(st)
	if terminal(w) {
		p.bar = progressbar.NewOptions(max(p.total, 1), progressbar.OptionSetWriter(io.Discard), progressbar.OptionShowCount(),
			progressbar.OptionSetWidth(30), progressbar.OptionSetPredictTime(true), progressbar.OptionSetElapsedTime(true))
		p.bar.Set(p.done)
		p.ended.Go(p.animate)
	}
	return p
}

// follow takes over how the run stands, until done is closed: other processes work on it, and
// hosts that ended or waited are taken up again.
func (p *progress) follow(status func() (engine.Status, error), done <-chan struct{}) {
	tick := time.NewTicker(8 * redraw)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if st, err := status(); err == nil {
				p.refresh(st)
			}
		case <-done:
			return
		}
	}
}

// refresh sets the counts to how the run stands, and says once for which shifts it waits.
func (p *progress) refresh(st engine.Status) {
	for _, text := range p.count(st) {
		p.line(text)
	}
}

// count sets the counts, and returns what is to be said of it.
func (p *progress) count(st engine.Status) (news []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total, p.done = st.Hosts, 0
	for _, s := range st.Sites {
		line := p.sites[s.Site]
		if line == nil {
			line = &siteLine{name: s.Site, running: map[string]string{}}
			p.sites[s.Site] = line
		}
		line.hosts, line.verdicts = s.Hosts, s.Verdicts
		line.done = s.Hosts - s.Todo - s.Running - s.Verdicts[remediate.Waiting]
		p.done += line.done
		if s.Shift != nil && !s.Shift.From.Equal(line.shift) {
			line.shift = s.Shift.From
			news = append(news, shiftLine(s))
		}
	}
	if p.bar != nil {
		p.bar.Set(min(p.done, p.total))
	}
	return news
}

// event takes what the engine says. It does not block on the terminal.
func (p *progress) event(e engine.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.sites[e.Site]
	if s == nil {
		s = &siteLine{name: e.Site, running: map[string]string{}, verdicts: map[remediate.Verdict]int{}}
		p.sites[e.Site] = s
	}
	if e.Again { // what was counted as fixed is not
		s.verdicts[remediate.Fixed]--
		s.done--
		p.done--
	}
	if e.Again && e.Verdict == "" {
		if p.bar == nil {
			fmt.Fprintf(p.w, "%s %d/%d %s is treated again%s\n", p.clock().Format("15:04:05"), p.done, p.total, e.Host, because(e.Reason))
		}
		return
	}
	if e.Verdict == "" {
		if e.Outcome == "" {
			s.running[e.Host] = string(e.Stage)
		}
		return
	}
	delete(s.running, e.Host)
	s.verdicts[e.Verdict]++
	if e.Verdict != remediate.Waiting { // it will have another
		s.done++
		p.done++
	}
	if p.bar != nil {
		p.bar.Set(min(p.done, p.total))
		return
	}
	fmt.Fprintf(p.w, "%s %d/%d %s %s%s%s\n", p.clock().Format("15:04:05"), p.done, p.total, e.Host, e.Verdict, by(e.Route), because(e.Reason))
}

// line says something that is about no host.
func (p *progress) line(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.drawn > 0 { // the picture goes on below
		fmt.Fprintf(p.w, "\x1b[%dA\x1b[J", p.drawn)
		p.drawn = 0
	}
	fmt.Fprintln(p.w, p.clock().Format("15:04:05"), text)
}

func by(route string) string {
	if route == "" {
		return ""
	}
	return " by " + route
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + oneLine(reason)
}

// close draws the last picture.
func (p *progress) close() {
	close(p.stop)
	p.ended.Wait()
}

func (p *progress) animate() {
	tick := time.NewTicker(redraw)
	defer tick.Stop()
	for {
		p.draw()
		select {
		case <-tick.C:
		case <-p.stop:
			p.draw()
			return
		}
	}
}

// draw writes the picture over the last one.
func (p *progress) draw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	lines := p.siteLines()
	lines = append(lines, p.bar.String())
	var b strings.Builder
	if p.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", p.drawn)
	}
	for _, l := range lines {
		fmt.Fprintf(&b, "\r\x1b[K%s\n", strings.TrimSpace(l))
	}
	b.WriteString("\x1b[J")
	p.drawn = len(lines)
	io.WriteString(p.w, b.String())
}

// siteLines returns the sites where most happens, and a line for the others.
func (p *progress) siteLines() []string {
	all := make([]*siteLine, 0, len(p.sites))
	for _, s := range p.sites {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *siteLine) int {
		if d := len(b.running) - len(a.running); d != 0 {
			return d
		}
		return strings.Compare(a.name, b.name)
	})
	rest := 0
	if len(all) > siteRows {
		rest = len(all) - siteRows
		all = all[:siteRows]
	}
	slices.SortFunc(all, func(a, b *siteLine) int { return strings.Compare(a.name, b.name) })
	lines := make([]string, 0, len(all)+1)
	for _, s := range all {
		lines = append(lines, s.String())
	}
	if rest > 0 {
		lines = append(lines, fmt.Sprintf("and %d more sites", rest))
	}
	return lines
}

// String is one site in a line: "SYD  4/12  fixed 3, failed 1  (enter 2, repair 1)".
func (s *siteLine) String() string {
	var ended, now []string
	for _, v := range remediate.Verdicts() {
		if n := s.verdicts[v]; n > 0 {
			ended = append(ended, fmt.Sprintf("%s %d", v, n))
		}
	}
	stages := map[string]int{}
	for _, stage := range s.running {
		stages[stage]++
	}
	for _, stage := range remediate.Stages() {
		if n := stages[string(stage)]; n > 0 {
			now = append(now, fmt.Sprintf("%s %d", stage, n))
		}
	}
	line := fmt.Sprintf("%-8s %4d/%-4d %s", s.name, s.done, s.hosts, strings.Join(ended, ", "))
	if len(now) > 0 {
		line += "  (" + strings.Join(now, ", ") + ")"
	}
	return line
}
