//go:build linux

package linux

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"unbrick/playbooks"
	"unbrick/remediate/rescue/wire"
)

// A ReadOnlyError means that ntfs-3g mounted a volume read-only although it was told to mount
// it for writing, and nothing known explains it.
type ReadOnlyError struct{ Said string }

func (e *ReadOnlyError) Error() string {
	return "the volume can only be mounted read-only: " + e.Said
}

// An NTFS is an NTFS volume on a block device or in a plain file.
type NTFS struct {
	Path   string // of the device
	Mounts string // folder for mount points
	Note   func(format string, args ...any)
}

// Open mounts the volume, for writing if write is set: then it first makes sure that Windows
// left nothing on it that a write would damage, replays the journal if there is something to
// replay, and proves that the mount is writable. The closer unmounts and waits until
// everything is written.
func (n *NTFS) Open(ctx context.Context, write bool, allow wire.Allow) (playbooks.Volume, io.Closer, error) {
	options := "ro"
	if write {
		c, err := n.inspect(ctx, allow)
		if err != nil {
			return nil, nil, err
		}
		if err := n.heal(ctx, c); err != nil {
			return nil, nil, err
		}
		options = "rw,windows_names"
		if c.endSession {
			options += ",remove_hiberfile"
		}
	}
	m, err := mountNTFS(ctx, n.Path, n.Mounts, options)
	if err != nil {
		return nil, nil, err
	}
	if write {
		if err := m.prove(); err != nil {
			return nil, nil, err
		}
	}
	v, err := playbooks.Dir(m.dir)
	if err != nil {
		return nil, nil, errors.Join(err, m.Close())
	}
	return v, closers{v, m}, nil
}

// prove returns an error, and unmounts, unless the mount is writable.
func (m *mount) prove() error {
	ok, err := m.writable()
	if err == nil && ok {
		return nil
	}
	err = errors.Join(err, m.Close()) // what it said is only there when it has ended
	return errors.Join(&ReadOnlyError{oneLine(m.said.String())}, err)
}

// closers closes in order, all of them.
type closers []io.Closer

func (cs closers) Close() error {
	var errs []error
	for _, c := range cs {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// inspect finds out, changing nothing, what the volume needs before it may be written to.
func (n *NTFS) inspect(ctx context.Context, allow wire.Allow) (cure, error) {
	m, err := mountNTFS(ctx, n.Path, n.Mounts, "ro")
	if err != nil {
		return cure{}, err
	}
	session, err := readSession(m.dir)
	if err = errors.Join(err, m.Close()); err != nil {
		return cure{}, err
	}
	l, logErr := n.log()
	c, err := decide(session, l, logErr, allow)
	n.Note("%s: journal %s, hibernated %t", n.Path, describe(l, logErr), hibernated(session))
	return c, err
}

func describe(l Log, err error) string {
	if err != nil {
		return "unreadable"
	}
	return l.String()
}

// readSession returns the first bytes of hiberfil.sys, none if there is no such file.
func readSession(root string) ([]byte, error) {
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !strings.EqualFold(e.Name(), "hiberfil.sys") {
			continue
		}
		f, err := os.Open(filepath.Join(root, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("cannot see whether Windows is hibernated: %w", err)
		}
		defer f.Close()
		head := make([]byte, 4)
		k, err := io.ReadFull(f, head)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, fmt.Errorf("cannot see whether Windows is hibernated: %w", err)
		}
		return head[:k], nil
	}
	return nil, nil
}

// log reads the journal's state. Nobody may have the volume mounted for writing.
func (n *NTFS) log() (Log, error) {
	f, err := os.Open(n.Path)
	if err != nil {
		return Log{}, err
	}
	defer f.Close()
	return ReadLog(f)
}

// heal does what decide asked for, and proves that the journal is clean afterwards.
func (n *NTFS) heal(ctx context.Context, c cure) error {
	if c.replay != nil {
		err := n.run(ctx, c.replay)
		if err == nil {
			err = n.replayed()
		}
		if err != nil && !c.mayDrop {
			return &JournalError{err.Error()}
		}
		c.drop = err != nil
	}
	if !c.drop {
		return nil
	}
	n.Note("%s: dropping the journal, Windows will run chkdsk", n.Path)
	return n.run(ctx, []string{"ntfsfix"})
}

// replayed returns an error unless the journal is one that can be mounted for writing.
func (n *NTFS) replayed() error {
	l, err := n.log()
	if err == nil && !l.Empty && (l.Major != 1 || !l.Clean) {
		err = fmt.Errorf("ntfsrecover left it %s", l)
	}
	return err
}

// toolLimit bounds a tool: replaying a journal takes seconds.
const toolLimit = 10 * time.Minute

// run runs one of ntfs-3g's tools on the volume, to its end: half a replay is worse than a
// late one, so the end of ctx only keeps it from beginning.
func (n *NTFS) run(ctx context.Context, command []string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), toolLimit)
	defer cancel()
	start := time.Now()
	out, err := exec.CommandContext(ctx, command[0], append(command[1:], n.Path)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", command[0], err, lastLine(string(out)))
	}
	n.Note("%s: %s done in %s", n.Path, strings.Join(command, " "), time.Since(start).Round(time.Millisecond))
	return nil
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return oneLine(lines[len(lines)-1])
}
