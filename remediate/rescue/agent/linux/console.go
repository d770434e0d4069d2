//go:build linux

package linux

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A console writes log records as lines that begin with "[unbrick", on every console of the
// kernel: the screen that a BMC shows and the serial line that a lab reads.
type console struct {
	start time.Time
	fds   []int
	attrs string
}

// openConsole opens the consoles that the kernel writes to; without any, lines go nowhere.
func openConsole() *console {
	c := &console{start: time.Now()}
	b, err := os.ReadFile("/sys/class/tty/console/active")
	if err != nil {
		b = []byte("console")
	}
	for _, name := range strings.Fields(string(b)) {
		// Never waiting: a serial line that nobody reads must not hold up a repair.
		fd, err := unix.Open("/dev/"+name, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		if err == nil {
			c.fds = append(c.fds, fd)
		}
	}
	return c
}

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
	line := fmt.Sprintf("[unbrick %.1fs%s] %s%s%s\r\n", time.Since(c.start).Seconds(), phase, oneLine(r.Message), c.attrs, rest)
	for _, fd := range c.fds {
		writeSome(fd, line)
	}
	return nil
}

// writeSome writes a line, and gives up on a console that takes nothing for a second.
func writeSome(fd int, line string) {
	for patience := 50; len(line) > 0 && patience > 0; {
		n, err := unix.Write(fd, []byte(line))
		if n > 0 {
			line = line[n:]
			continue
		}
		if err != unix.EAGAIN && err != unix.EINTR {
			return
		}
		patience--
		time.Sleep(20 * time.Millisecond)
	}
}

func (c *console) WithAttrs(attrs []slog.Attr) slog.Handler {
	out := *c
	for _, a := range attrs {
		out.attrs += fmt.Sprintf(" %s=%v", a.Key, a.Value)
	}
	return &out
}

func (c *console) WithGroup(string) slog.Handler { return c }
