package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

// readings shows, on a terminal, how far the reading of each source has come: a large CMDB
// takes minutes. Elsewhere it is silent.
type readings struct {
	w     io.Writer
	begun time.Time

	mu    sync.Mutex
	order []string
	line  map[string]string
	stop  chan struct{}
	ended sync.WaitGroup
}

func newReadings(w io.Writer) *readings {
	r := &readings{w: w, begun: time.Now(), line: map[string]string{}, stop: make(chan struct{})}
	if terminal(w) {
		r.ended.Go(r.animate)
	}
	return r
}

// count says that so many hosts of a source have come.
func (r *readings) count(name string, hosts int) { r.set(name, fmt.Sprintf("%d", hosts)) }

// end says that a source has ended.
func (r *readings) end(name string, err error) {
	if err != nil {
		r.set(name, "cannot be read")
	}
}

func (r *readings) set(name, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Contains(r.order, name) {
		r.order = append(r.order, name)
	}
	r.line[name] = text
}

// animate draws one line until close.
func (r *readings) animate() {
	tick := time.NewTicker(redraw)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			fmt.Fprintf(r.w, "\r\x1b[K%s", r.text())
		case <-r.stop:
			fmt.Fprint(r.w, "\r\x1b[K")
			return
		}
	}
}

func (r *readings) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var parts []string
	for _, name := range r.order {
		parts = append(parts, name+" "+r.line[name])
	}
	text := fmt.Sprintf("reading, %s: %s", time.Since(r.begun).Round(time.Second), strings.Join(parts, ", "))
	const most = 78 // a line that wraps cannot be drawn over
	if runes := []rune(text); len(runes) > most {
		text = string(runes[:most-1]) + "…"
	}
	return text
}

func (r *readings) close() {
	close(r.stop)
	r.ended.Wait()
}
