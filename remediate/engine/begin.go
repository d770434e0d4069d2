package engine

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"unbrick/inventory"
	"unbrick/remediate"
	"unbrick/remediate/schedule"
)

// A Run is one fleet and one playbook.
type Run struct {
	ID          string          `json:"id"` // Begin makes one if it is empty
	Playbook    string          `json:"playbook"`
	Source      []byte          `json:"-"` // of the playbook, as parsed
	FleetDigest string          `json:"fleet_digest"`
	Options     json.RawMessage `json:"options,omitempty"` // the caller's own; no secret
	// Ladder is the engine's, if that is known: it need not go through the hosts again then.
	Ladder remediate.Ladder `json:"-"`

	// What the state says of it. Begin ignores these.
	State   string    `json:"state"`            // "running" or "ended"
	Paused  string    `json:"paused,omitempty"` // by whom
	Halted  string    `json:"halted,omitempty"` // why the stop rule stopped it
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended,omitzero"`

	playbookDigest string
	ladder         string // the labels of the hosts are of this one
}

// A Planned host is one of a run, with its place in it.
type Planned struct {
	Host  inventory.Host
	Due   time.Time // when it is needed; zero if nobody said
	Order int       // lower ones start first
	Model string    // of what hosts have in common that treatments may fail on; may be empty
}

// An OtherRunError says that the state holds a run that has not ended and is not the one asked
// for.
type OtherRunError struct {
	Have Run
	Left int // hosts without a verdict
	Why  string
}

func (e *OtherRunError) Error() string {
	return fmt.Sprintf("the state holds run %s of %s, begun %s, with %d hosts to go, and %s; "+
		"end it with the same files, cancel it with 'unbrick cancel', or name another state with --state",
		e.Have.ID, e.Have.Playbook, e.Have.Started.Format(time.RFC3339), e.Left, e.Why)
}

// Begin begins a run, and returns it as stored. If the latest run is of the same fleet and
// playbook it goes on with that one, ended or not, and hosts is not read, unless it has ended
// and r names another ID. If the latest run is another one and has not ended, the error is an
// *OtherRunError. Nothing is half begun: a run whose hosts were not all stored is dropped.
func (s *Store) Begin(ctx context.Context, r Run, hosts iter.Seq[Planned]) (Run, error) {
	if r.Source == nil {
		r.Source = []byte{}
	}
	sum := sha256.Sum256(r.Source)
	r.playbookDigest = hex.EncodeToString(sum[:])
	old, err := s.Run(ctx, "")
	if err != nil && !errors.Is(err, ErrNoRun) {
		return Run{}, err
	}
	if err == nil && old.State != "loading" {
		why := difference(old, r)
		again := r.ID == "" || r.ID == old.ID
		switch {
		case why == "" && (again || old.State == "running"):
			return old, nil
		case old.State == "running":
			left, err := s.left(ctx, old.ID)
			if err != nil {
				return Run{}, err
			}
			return Run{}, &OtherRunError{Have: old, Left: left, Why: why}
		}
	}
	if r.ID == "" {
		r.ID = time.Now().UTC().Format("20060102-150405-") + strings.ToLower(rand.Text()[:4])
	}
	if err := s.load(ctx, r, hosts); err != nil {
		return Run{}, fmt.Errorf("cannot begin run %s: %w", r.ID, err)
	}
	return s.Run(ctx, r.ID)
}

// difference says how the run asked for differs from the one stored.
func difference(old, r Run) string {
	switch {
	case old.FleetDigest != r.FleetDigest && old.playbookDigest != r.playbookDigest:
		return "this is another fleet and another playbook"
	case old.FleetDigest != r.FleetDigest:
		return "this is another fleet"
	case old.playbookDigest != r.playbookDigest:
		return "this is another playbook"
	}
	return ""
}

// loadChunk is how many hosts are stored in one transaction.
const loadChunk = 5000

func (s *Store) load(ctx context.Context, r Run, hosts iter.Seq[Planned]) error {
	if len(r.Options) == 0 {
		r.Options = json.RawMessage("{}")
	}
	err := s.tx(ctx, func(tx *sql.Tx) error {
		for _, q := range []string{ // what an earlier Begin left half done
			`DELETE FROM hosts WHERE run IN (SELECT id FROM runs WHERE state = 'loading')`,
			`DELETE FROM runs WHERE state = 'loading'`,
		} {
			if _, err := tx.ExecContext(ctx, q); err != nil {
				return err
			}
		}
		n, err := changed(ctx, tx, `INSERT INTO runs (id, playbook, source, playbook_digest, fleet_digest, options, ladder, state, started)
			VALUES ($1, $2, $3, $4, $5, $6, $7, 'loading', $8) ON CONFLICT DO NOTHING`,
			r.ID, r.Playbook, r.Source, r.playbookDigest, r.FleetDigest, string(r.Options), ladderText(r.Ladder), time.Now().UnixMilli())
		if err == nil && n == 0 {
			err = errors.New("the state holds a run of that name already; choose another one")
		}
		return err
	})
	if err != nil {
		return err
	}
	chunk, g := make([]Planned, 0, loadChunk), newGating()
	for p := range hosts {
		if chunk = append(chunk, p); len(chunk) == loadChunk {
			if err := s.loadHosts(ctx, r, chunk, g); err != nil {
				return err
			}
			chunk = chunk[:0]
		}
	}
	if err := s.loadHosts(ctx, r, chunk, g); err != nil {
		return err
	}
	return s.tx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO sites (run, site, todo)
			SELECT run, site, COUNT(*) FROM hosts WHERE run = $1 GROUP BY run, site ON CONFLICT DO NOTHING`, r.ID)
		if err != nil {
			return err
		}
		if err := g.finish(ctx, tx, r.ID); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE runs SET state = 'running' WHERE id = $1`, r.ID)
		return err
	})
}

// loadRows is how many hosts go into one statement, of loadColumns values each.
const (
	loadRows    = 100
	loadColumns = 14
)

func (s *Store) loadHosts(ctx context.Context, r Run, hosts []Planned, g *gating) error {
	return s.tx(ctx, func(tx *sql.Tx) error {
		for len(hosts) > 0 {
			n := min(loadRows, len(hosts))
			if err := insertHosts(ctx, tx, r, hosts[:n], g); err != nil {
				return err
			}
			hosts = hosts[n:]
		}
		return nil
	})
}

func insertHosts(ctx context.Context, tx *sql.Tx, r Run, hosts []Planned, g *gating) error {
	var q strings.Builder
	q.WriteString(`INSERT INTO hosts (run, host, site, grp, due, ord, data, way, subnet, tech, model, first, held, serves) VALUES `)
	args := make([]any, 0, len(hosts)*loadColumns)
	for i, p := range hosts {
		data, err := json.Marshal(p.Host)
		if err != nil {
			return err
		}
		if i > 0 {
			q.WriteByte(',')
		}
		k := len(args)
		for c := range loadColumns {
			q.WriteString([]string{"(", ","}[min(c, 1)] + "$" + strconv.Itoa(k+c+1))
		}
		q.WriteByte(')')
		var first inventory.Route
		if ways := r.Ladder.Ways(p.Host); len(ways) > 0 {
			first = ways[0]
		}
		l := labelOf(p.Host, first)
		early, held := g.label(p.Host)
		args = append(args, r.ID, p.Host.Name, p.Host.Site, p.Host.Group, millis(p.Due), p.Order, string(data), l.way, l.subnet, l.tech,
			p.Model, early, held, schedule.ServiceOf(&p.Host))
	}
	q.WriteString(` ON CONFLICT DO NOTHING`)
	n, err := changed(ctx, tx, q.String(), args...)
	if err == nil && n < int64(len(hosts)) {
		err = fmt.Errorf("two hosts have one name, between %s and %s", hosts[0].Host.Name, hosts[len(hosts)-1].Host.Name)
	}
	return err
}
