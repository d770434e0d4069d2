package engine

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"unbrick/remediate/schedule"
)

// service returns the class of services that all sites are held for now: the first that has hosts
// to be treated, or in treatment. 0 is none. One that waits for a person, or for the shift of one,
// holds nobody: that may take hours.
func (s *Store) service(ctx context.Context, tx *sql.Tx, run string, now int64) (class int, err error) {
	err = tx.QueryRowContext(ctx, `SELECT COALESCE(MIN(serves), 0) FROM hosts
		WHERE run = $1 AND serves > 0 AND state <> 'done' AND `+holding(now), run).Scan(&class)
	if err != nil {
		return 0, fmt.Errorf("cannot look which services are down: %w", err)
	}
	return class, nil
}

// holding is the condition that a host that serves all sites holds the others.
func holding(now int64) string {
	return `state <> 'waiting' AND NOT EXISTS (SELECT 1 FROM sites s JOIN hosts h ON h.run = s.run AND h.site = s.site
		WHERE h.run = hosts.run AND h.host = hosts.host AND ` + offShift(now) + `)`
}

// serviceLines adds the lines of the hosts that serve all sites, up to a class. They are found by
// an index of their own: there may be millions of others.
func (w *worker) serviceLines(ctx context.Context, tx *sql.Tx, all []*line, class int) ([]*line, error) {
	rows, err := tx.QueryContext(ctx, `SELECT way, model, MIN(ord) FROM hosts WHERE run = $1 AND serves > 0 AND state <> 'done'
		AND serves <= $2 AND state = 'todo' AND way <> '' GROUP BY way, model ORDER BY way, model`, w.run.ID, class)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		l := &line{serves: class}
		if err := rows.Scan(&l.way, &l.model, &l.first.order); err != nil {
			return nil, err
		}
		if l.first.way = l.way; l.way != unlabelled {
			all = append(all, l)
		}
	}
	return all, rows.Err()
}

// serviceLine is the condition that a host is of a line of serviceLines. What is appended to the
// columns keeps the index of ordinary lines from being used.
func serviceLine(class int) string {
	return fmt.Sprintf(` AND h.serves > 0 AND h.state <> 'done' AND h.serves <= %d AND h.way || '' = $2 AND h.model || '' = $3`, class)
}

// unserved is the condition that a host that is to do is held for the services of a class.
func unserved(class int) string {
	if class == 0 {
		return "1 = 0"
	}
	return fmt.Sprintf("h.way <> '' AND (h.serves = 0 OR h.serves > %d)", class)
}

// servedElsewhere says whether the hosts of this process are held for services at the sites of
// others, which end without its doing.
func (w *worker) servedElsewhere(ctx context.Context, tx *sql.Tx, p position) (bool, error) {
	if p.service == 0 || len(w.Sites) == 0 {
		return false, nil
	}
	in, args := w.atSites("site", w.run.ID, p.service)
	all, here := 0, 0
	err := tx.QueryRowContext(ctx, `SELECT COUNT(*), COALESCE(SUM(CASE WHEN 1 = 1`+in+` THEN 1 ELSE 0 END), 0) FROM hosts
		WHERE run = $1 AND serves > 0 AND state <> 'done' AND serves = $2 AND state <> 'waiting'`, args...).Scan(&all, &here)
	return all > here, err
}

// A Service is what all sites are held for.
type Service struct {
	Name  string `json:"service"` // as the column of that name says
	Hosts int    `json:"hosts"`   // to be treated, or in treatment
}

// heldFor returns what all sites are held for; nil if for nothing.
func (s *Store) heldFor(ctx context.Context, run string) (*Service, error) {
	var class, hosts int
	err := s.db().QueryRowContext(ctx, `SELECT serves, COUNT(*) FROM hosts
		WHERE run = $1 AND serves > 0 AND state <> 'done' AND `+holding(time.Now().UnixMilli())+` GROUP BY serves ORDER BY serves LIMIT 1`, run).Scan(&class, &hosts)
	if err == sql.ErrNoRows {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot look which services of run %s are down: %w", run, err)
	}
	return &Service{Name: schedule.Services()[class-1][0], Hosts: hosts}, nil
}
