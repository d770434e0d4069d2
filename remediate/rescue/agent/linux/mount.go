//go:build linux

package linux

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Options of every mount. norecover: ntfs-3g's own recovery throws the journal away. no_detach: the
// process stays ours, so that one can wait until it has written everything and ended.
const mountOptions = "norecover,streams_interface=none,noatime,no_detach"

const (
	mountLimit   = 2 * time.Minute // a big volume on a slow disk
	unmountLimit = 5 * time.Minute // until all is written
	mountTick    = 20 * time.Millisecond
)

// A mount is one ntfs-3g at work.
type mount struct {
	dir    string
	cmd    *exec.Cmd
	said   *bytes.Buffer // only after done
	done   chan struct{}
	result error // only after done
}

// mountNTFS mounts a volume in a new folder under base. ntfs-3g falls back to read-only and
// says nothing of it in its exit code: writable is what /proc/mounts says.
func mountNTFS(ctx context.Context, device, base, options string) (*mount, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("cannot mount: %w", context.Cause(ctx))
	}
	if err := os.MkdirAll(base, 0o700); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(base, "volume-")
	if err != nil {
		return nil, err
	}
	m := &mount{dir: dir, said: &bytes.Buffer{}, done: make(chan struct{})}
	// Not CommandContext: a file system must not be killed while it writes.
	m.cmd = exec.Command("ntfs-3g", "-o", options+","+mountOptions, device, dir)
	m.cmd.Stdout, m.cmd.Stderr = m.said, m.said
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // nor by an interrupt from the keyboard
	if err := m.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot start ntfs-3g: %w", err), os.Remove(dir))
	}
	go func() {
		m.result = m.cmd.Wait()
		close(m.done)
	}()
	if err := m.appear(ctx); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// appear waits until the volume is mounted.
func (m *mount) appear(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, mountLimit)
	defer cancel()
	for {
		if _, mounted, err := mountedAt(m.dir); mounted || err != nil {
			return err
		}
		select {
		case <-m.done:
			if m.result == nil {
				m.result = errors.New("ended at once")
			}
			return fmt.Errorf("cannot mount: ntfs-3g: %w: %s", m.result, oneLine(m.said.String()))
		case <-ctx.Done():
			return fmt.Errorf("cannot mount: %w", context.Cause(ctx))
		case <-time.After(mountTick):
		}
	}
}

// writable says whether the volume really is mounted for writing.
func (m *mount) writable() (bool, error) {
	options, mounted, err := mountedAt(m.dir)
	if err == nil && !mounted {
		err = errors.New("the volume is no longer mounted")
	}
	return slices.Contains(options, "rw"), err
}

// Close unmounts and returns after ntfs-3g has written everything and ended. For a volume on
// a plain file the kernel does not wait for that itself.
func (m *mount) Close() error {
	_, mounted, err := mountedAt(m.dir)
	if err != nil {
		return err
	}
	if mounted {
		if err := unix.Unmount(m.dir, 0); err != nil {
			return fmt.Errorf("cannot unmount %s: %w", m.dir, err)
		}
	} else {
		// Never mounted, or no longer: nothing to lose. An error means that it has ended.
		_ = m.cmd.Process.Signal(syscall.SIGTERM)
	}
	select {
	case <-m.done:
	case <-time.After(unmountLimit):
		return errors.New("ntfs-3g does not end: it is not certain that everything was written")
	}
	// It may have mounted after we looked, and been ended before it served anything: then the
	// kernel holds a mount that nobody is behind.
	if _, left, _ := mountedAt(m.dir); left {
		err = unix.Unmount(m.dir, unix.MNT_DETACH)
	}
	if mounted && m.result != nil {
		err = fmt.Errorf("ntfs-3g ended with %w: %s", m.result, oneLine(m.said.String()))
	}
	return errors.Join(err, os.Remove(m.dir))
}

// mountedAt returns the options of the mount at dir, as the kernel has them.
func mountedAt(dir string) (options []string, mounted bool, err error) {
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, false, fmt.Errorf("cannot see what is mounted: %w", err)
	}
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) >= 4 && unescape.Replace(f[1]) == dir {
			options, mounted = strings.Split(f[3], ","), true // the last one hides the others
		}
	}
	return options, mounted, nil
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
