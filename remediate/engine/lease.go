package engine

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// A lease is the right of this process to work under one executor's name. Two processes with
// one name would treat the same hosts at the same time.
type lease struct {
	store    *Store
	executor string
	token    string // of this process
	length   time.Duration
	lock     *sql.DB // holds the lock of an SQLite state
}

// A BusyError says that another process works on the state, or under this name on it.
type BusyError struct {
	State    string
	Executor string
	PID      int
	Machine  string
	Since    time.Time
}

func (e *BusyError) Error() string {
	return fmt.Sprintf("another unbrick is working on %s as %s (pid %d on %s, since %s); wait for it, or stop it",
		e.State, e.Executor, e.PID, e.Machine, e.Since.Format(time.RFC3339))
}

// executor is the name of this process. On SQLite there is one alone.
func (e *Engine) executor() string {
	if !e.Store.postgres() {
		return "local"
	}
	if e.Executor != "" {
		return e.Executor
	}
	return hostname()
}

func hostname() string {
	if name, err := os.Hostname(); err == nil {
		return strings.ToLower(name)
	}
	return "unknown"
}

// acquire takes the lease, or fails with a *BusyError.
func (s *Store) acquire(ctx context.Context, executor string, length time.Duration) (*lease, error) {
	l := &lease{store: s, executor: executor, token: rand.Text(), length: length}
	alone := !s.postgres()
	if alone {
		if err := l.lockFile(ctx); err != nil {
			return nil, err
		}
	}
	err := s.tx(ctx, func(tx *sql.Tx) error {
		if err := s.exclusive(ctx, tx); err != nil {
			return err
		}
		now, err := s.now(ctx, tx)
		if err != nil {
			return err
		}
		other, until, token, err := s.holder(ctx, tx, executor)
		if err != nil {
			return err
		}
		if other != nil && token != l.token && !alone && until > now && !gone(other) {
			return other
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO workers (executor, token, pid, machine, since, lease)
			VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (executor) DO UPDATE SET token = excluded.token,
			pid = excluded.pid, machine = excluded.machine, since = excluded.since, lease = excluded.lease`,
			executor, l.token, os.Getpid(), hostname(), now, now+length.Milliseconds())
		return err
	})
	if err != nil {
		l.unlock()
		var busy *BusyError
		if errors.As(err, &busy) {
			return nil, busy
		}
		return nil, fmt.Errorf("cannot begin to work on %s: %w", s.name(), err)
	}
	return l, nil
}

// now is the time of the database: the clocks of jump boxes differ.
func (s *Store) now(ctx context.Context, q querier) (ms int64, err error) {
	if !s.postgres() {
		return time.Now().UnixMilli(), nil
	}
	err = q.QueryRowContext(ctx, `SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::BIGINT`).Scan(&ms)
	return ms, err
}

func (s *Store) holder(ctx context.Context, tx *sql.Tx, executor string) (*BusyError, int64, string, error) {
	b, until, token, err := scanHolder(tx.QueryRowContext(ctx, `SELECT token, pid, machine, since, lease FROM workers WHERE executor = $1`, executor))
	if b != nil {
		b.State, b.Executor = s.name(), executor
	}
	return b, until, token, err
}

// scanHolder reads who holds a lease; nil if nobody does.
func scanHolder(row *sql.Row) (*BusyError, int64, string, error) {
	b := &BusyError{}
	var since, until int64
	var token string
	err := row.Scan(&token, &b.PID, &b.Machine, &since, &until)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, 0, "", nil
	}
	b.Since = moment(since)
	return b, until, token, err
}

// gone says for certain that the process has ended: it ran here, and its number is free.
func gone(b *BusyError) bool {
	if b.Machine != hostname() || b.PID == os.Getpid() {
		return false
	}
	p, err := os.FindProcess(b.PID)
	if err != nil {
		return true
	}
	if runtime.GOOS == "windows" {
		return false // FindProcess found it
	}
	return errors.Is(p.Signal(syscall.Signal(0)), os.ErrProcessDone)
}

// lockFile locks the state file for this process through SQLite's own locks on a file beside
// it: they work on every system and end with the process, however that ends.
func (l *lease) lockFile(ctx context.Context) error {
	path := l.store.path + ".lock"
	if err := ownFile(path); err != nil {
		return fmt.Errorf("cannot lock %s: %w", l.store.path, err)
	}
	db, err := openSQLite(path, 0, "locking_mode(EXCLUSIVE)")
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS lock (held INTEGER); DELETE FROM lock; INSERT INTO lock VALUES (1)`)
	if err == nil {
		l.lock = db
		return nil
	}
	db.Close()
	if !strings.Contains(err.Error(), "SQLITE_BUSY") {
		return fmt.Errorf("cannot lock %s: %w", l.store.path, err)
	}
	busy := &BusyError{State: l.store.path, Executor: l.executor}
	_ = l.store.tx(ctx, func(tx *sql.Tx) error {
		if b, _, _, err := l.store.holder(ctx, tx, l.executor); err == nil && b != nil {
			busy = b
		}
		return nil
	})
	return busy
}

// keep makes the lease last until ctx ends. It returns when another process took over what
// this one had, or the state does not answer. It depends on nothing else that this process
// waits for.
func (l *lease) keep(ctx context.Context) error { return keepUp(ctx, l.length, l.renew) }

// keepUp renews what is given for a time, well before that is over, until ctx ends or it fails.
func keepUp(ctx context.Context, length time.Duration, renew func(context.Context) error) error {
	tick := time.NewTicker(length / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := renew(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

func (l *lease) renew(ctx context.Context) error {
	var n int64
	err := l.store.tx(ctx, func(tx *sql.Tx) error {
		now, err := l.store.now(ctx, tx)
		if err == nil {
			n, err = changed(ctx, tx, `UPDATE workers SET lease = $1 WHERE executor = $2 AND token = $3`,
				now+l.length.Milliseconds(), l.executor, l.token)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot renew the lease of %s on %s: %w", l.executor, l.store.name(), err)
	}
	if n == 0 {
		return fmt.Errorf("cannot go on: another process took over the hosts of %s, which was silent for too long", l.executor)
	}
	return nil
}

// release gives the lease back.
func (l *lease) release() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = l.store.tx(ctx, func(tx *sql.Tx) error { // if not, it runs out by itself
		_, err := tx.ExecContext(ctx, `DELETE FROM workers WHERE executor = $1 AND token = $2`, l.executor, l.token)
		return err
	})
	l.unlock()
}

func (l *lease) unlock() {
	if l.lock != nil {
		l.lock.Close()
	}
}
