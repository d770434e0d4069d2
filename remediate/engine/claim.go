package engine

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"unbrick/inventory"
	"unbrick/remediate"
)

// A Claim is the right of this process to treat one host beside the runs of a state, as for the
// helpdesk. No run takes the host while it lasts; then the run looks at it as at any other.
type Claim struct {
	store       *Store
	name, token string
	length      time.Duration
}

// A HeldError says that a host is another's now: two at one host power it off under each other.
type HeldError struct {
	Host  string
	Run   string          // that has it; empty: another claim does
	State string          // "running" or "waiting"
	Stage remediate.Stage // that it is at, or waits at
	By    *BusyError      // who claimed it
}

func (e *HeldError) Error() string {
	if e.By != nil {
		return fmt.Sprintf("another unbrick fix has %s now (pid %d on %s, since %s)", e.Host, e.By.PID, e.By.Machine, e.By.Since.Format(time.RFC3339))
	}
	return fmt.Sprintf("a run has %s now (%s at %s)", e.Host, e.State, e.Stage)
}

// claimName is what names are compared by: see inventory.SameName.
func claimName(host string) string { return strings.ToLower(host) }

// Claim claims a host, for as long as the lease is renewed. It fails with a *HeldError if a run
// of the state has it, or another process claimed it.
func (s *Store) Claim(ctx context.Context, h inventory.Host, lease time.Duration) (*Claim, error) {
	c := &Claim{store: s, name: claimName(h.Name), token: rand.Text(), length: lease}
	err := s.tx(ctx, func(tx *sql.Tx) error {
		if err := s.exclusive(ctx, tx); err != nil {
			return err
		}
		now, err := s.now(ctx, tx)
		if err != nil {
			return err
		}
		by, until, token, err := scanHolder(tx.QueryRowContext(ctx, `SELECT token, pid, machine, since, lease FROM claims WHERE name = $1`, c.name))
		if err != nil {
			return err
		}
		if by != nil && token != c.token && until > now && !gone(by) {
			return &HeldError{Host: h.Name, By: by}
		}
		if err := s.runHas(ctx, tx, h.Name); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO claims (name, host, grp, token, pid, machine, since, lease)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (name) DO UPDATE SET host = excluded.host, grp = excluded.grp, token = excluded.token,
			pid = excluded.pid, machine = excluded.machine, since = excluded.since, lease = excluded.lease`,
			c.name, h.Name, h.Group, c.token, os.Getpid(), hostname(), now, now+lease.Milliseconds())
		return err
	})
	var held *HeldError
	if errors.As(err, &held) {
		return nil, held
	}
	if err != nil {
		return nil, fmt.Errorf("cannot claim host %s in %s: %w", h.Name, s.name(), err)
	}
	return c, nil
}

// runHas fails with a *HeldError if a run is treating the host, or has it wait for a person.
func (s *Store) runHas(ctx context.Context, tx *sql.Tx, name string) error {
	rows, err := tx.QueryContext(ctx, `SELECT h.run, h.host, h.state, h.stage FROM hosts h JOIN runs r ON r.id = h.run AND r.state = 'running'
		WHERE h.state = 'running' UNION ALL
		SELECT h.run, h.host, h.state, h.stage FROM hosts h JOIN runs r ON r.id = h.run AND r.state = 'running' WHERE h.state = 'waiting'`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var e HeldError
		if err := rows.Scan(&e.Run, &e.Host, &e.State, &e.Stage); err != nil {
			return err
		}
		if inventory.SameName(e.Host, name) {
			return &e
		}
	}
	return rows.Err()
}

// Keep makes the claim last until ctx ends. It returns when another process took it, or the state
// does not answer: then the host must be left alone.
func (c *Claim) Keep(ctx context.Context) error { return keepUp(ctx, c.length, c.renew) }

func (c *Claim) renew(ctx context.Context) error {
	var n int64
	err := c.store.tx(ctx, func(tx *sql.Tx) error {
		now, err := c.store.now(ctx, tx)
		if err == nil {
			n, err = changed(ctx, tx, `UPDATE claims SET lease = $1 WHERE name = $2 AND token = $3 AND lease > $4`,
				now+c.length.Milliseconds(), c.name, c.token, now)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot renew the claim of host %s in %s: %w", c.name, c.store.name(), err)
	}
	if n == 0 {
		return fmt.Errorf("cannot go on with host %s: this process was silent for too long, and a run may have taken it", c.name)
	}
	return nil
}

// Release gives the host back.
func (c *Claim) Release() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = c.store.tx(ctx, func(tx *sql.Tx) error { // if not, it runs out by itself
		_, err := tx.ExecContext(ctx, `DELETE FROM claims WHERE name = $1 AND token = $2`, c.name, c.token)
		return err
	})
}

// A Fix is a host that somebody treats beside the run.
type Fix struct {
	Host    string    `json:"host"`
	PID     int       `json:"pid"`
	Machine string    `json:"machine"`
	Since   time.Time `json:"since"`

	group string
}

// A querier is a database or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// fixes returns the hosts that are claimed. There are few.
func (s *Store) fixes(ctx context.Context, q querier, now int64) (all []Fix, err error) {
	rows, err := q.QueryContext(ctx, `SELECT host, grp, pid, machine, since FROM claims WHERE lease > $1 ORDER BY host`, now)
	if err != nil {
		return nil, fmt.Errorf("cannot look for hosts that are claimed: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var f Fix
		var since int64
		if err := rows.Scan(&f.Host, &f.group, &f.PID, &f.Machine, &since); err != nil {
			return nil, err
		}
		f.Since = moment(since)
		all = append(all, f)
	}
	return all, rows.Err()
}
