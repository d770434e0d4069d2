package windows

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// A console writes log records as lines that begin with "[unbrick", as the Linux image does:
// what a BMC's screen shows.
type console struct {
	start time.Time
	mu    *sync.Mutex
	w     io.Writer
	attrs string
}

func newConsole(w io.Writer) *console { return &console{start: time.Now(), mu: &sync.Mutex{}, w: w} }

func (c *console) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

func (c *console) Handle(_ context.Context, r slog.Record) error {
	var phase, rest string
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "phase" {
			phase = " " + a.Value.String()
		} else {
			rest += fmt.Sprintf(" %s=%v", a.Key, a.Value)
		}
		return true
	})
	line := strings.Join(strings.Fields(r.Message), " ")
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := fmt.Fprintf(c.w, "[unbrick %.1fs%s] %s%s%s\r\n", time.Since(c.start).Seconds(), phase, line, c.attrs, rest)
	return err
}

func (c *console) WithAttrs(attrs []slog.Attr) slog.Handler {
	out := *c
	for _, a := range attrs {
		out.attrs += fmt.Sprintf(" %s=%v", a.Key, a.Value)
	}
	return &out
}

func (c *console) WithGroup(string) slog.Handler { return c }
