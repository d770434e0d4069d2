package vm

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"sync"
)

// A console is what the host wrote to its serial port since it was made: in a file, raw, and
// here by lines.
type console struct {
	mu    sync.Mutex
	file  *os.File
	lines []string
	err   error         // why there will be no more
	grown chan struct{} // closed when the others change, and then replaced
}

func openConsole(name string) (*console, error) {
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	return &console{file: f, grown: make(chan struct{})}, nil
}

// escapes are what firmware and GRUB send to a terminal to move its cursor and clear it.
var escapes = regexp.MustCompile(`\x1b\[[0-9;=?]*[A-Za-z]`)

// copy takes what the host writes until it is off.
func (c *console) copy(serial io.Reader) {
	r := bufio.NewReader(serial)
	for {
		line, err := r.ReadString('\n')
		if line != "" {
			c.add(line)
		}
		if err != nil {
			return
		}
	}
}

// note adds a line of the lab's own.
func (c *console) note(text string) { c.add(text + "\n") }

// fail has those who wait told that they wait in vain.
func (c *console) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
	c.wake()
}

func (c *console) add(raw string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = c.file.WriteString(raw) // for people; a full disk shows elsewhere
	c.lines = append(c.lines, strings.TrimSpace(escapes.ReplaceAllString(raw, "")))
	c.wake()
}

func (c *console) wake() {
	close(c.grown)
	c.grown = make(chan struct{})
}

// await returns when n lines have text in them.
func (c *console) await(ctx context.Context, text string, n int) error {
	seen, read := 0, 0
	for {
		c.mu.Lock()
		for ; read < len(c.lines); read++ {
			if strings.Contains(c.lines[read], text) {
				seen++
			}
		}
		grown, err, tail := c.grown, c.err, c.lines[max(0, len(c.lines)-10):]
		c.mu.Unlock()
		if seen >= n {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %q on the console, seen %d times of %d: %w; its last lines are:\n%s",
				text, seen, n, ctx.Err(), strings.Join(tail, "\n"))
		}
	}
}

func (c *console) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.file.Close()
}
