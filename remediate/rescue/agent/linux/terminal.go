//go:build linux

package linux

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A terminal is every console of the kernel that a person may sit at: keyboard and screen, and
// the serial line. It is an agent.Terminal.
type terminal struct {
	fds   []int
	keys  chan byte
	quit  chan struct{}
	saved map[int]unix.Termios
}

// openTerminal opens the consoles and has them show nothing by themselves. What is typed
// before is lost. Close it.
func openTerminal() *terminal {
	t := &terminal{keys: make(chan byte, 4096), quit: make(chan struct{}), saved: map[int]unix.Termios{}}
	b, err := os.ReadFile("/sys/class/tty/console/active")
	if err != nil {
		b = []byte("console")
	}
	for _, name := range strings.Fields(string(b)) {
		fd, err := unix.Open("/dev/"+name, unix.O_RDWR|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		t.fds = append(t.fds, fd)
		mode, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err != nil {
			continue // not somewhere one can type
		}
		t.saved[fd] = *mode
		mode.Lflag &^= unix.ICANON | unix.ECHO | unix.ECHONL | unix.ISIG | unix.IEXTEN
		mode.Iflag &^= unix.IXON | unix.INLCR | unix.IGNCR
		mode.Cc[unix.VMIN], mode.Cc[unix.VTIME] = 1, 0
		if err := unix.IoctlSetTermios(fd, unix.TCSETSF, mode); err != nil {
			continue
		}
		go t.read(fd)
	}
	return t
}

// read takes what is typed on one console until it is closed or can give no more.
func (t *terminal) read(fd int) {
	b := make([]byte, 256)
	for {
		n, err := unix.Read(fd, b)
		for _, c := range b[:max(n, 0)] {
			select {
			case t.keys <- c:
			case <-t.quit:
				return
			}
		}
		clear(b)
		if n > 0 {
			continue
		}
		if err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return // a serial line that is not there
		}
		select {
		case <-t.quit:
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Typed implements agent.Terminal.
func (t *terminal) Typed(ctx context.Context) (byte, error) {
	select {
	case c := <-t.keys:
		return c, nil
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// Write implements io.Writer.
func (t *terminal) Write(p []byte) (int, error) {
	for _, fd := range t.fds {
		writeSome(fd, string(p))
	}
	return len(p), nil
}

// Close gives the consoles back as they were.
func (t *terminal) Close() error {
	close(t.quit)
	var errs []error
	for fd, mode := range t.saved {
		errs = append(errs, unix.IoctlSetTermios(fd, unix.TCSETSF, &mode))
	}
	return errors.Join(errs...) // the kernel closes them when the host restarts
}
