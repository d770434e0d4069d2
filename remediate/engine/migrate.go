package engine

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
)

// upgrades are what makes a state of one version one of the next: the first is from 1 to 2.
// Begun runs go on.
func upgrades() []string {
	return []string{`
		ALTER TABLE runs ADD COLUMN ladder TEXT NOT NULL DEFAULT '';
		ALTER TABLE hosts ADD COLUMN climb TEXT NOT NULL DEFAULT '';
		ALTER TABLE hosts ADD COLUMN way TEXT NOT NULL DEFAULT '';
		ALTER TABLE hosts ADD COLUMN subnet TEXT NOT NULL DEFAULT '';
		ALTER TABLE hosts ADD COLUMN tech TEXT NOT NULL DEFAULT '';
		ALTER TABLE hosts ADD COLUMN parked TEXT NOT NULL DEFAULT '';
		ALTER TABLE hosts ADD COLUMN notes TEXT NOT NULL DEFAULT '';
		ALTER TABLE hosts ADD COLUMN since BIGINT NOT NULL DEFAULT 0;
		ALTER TABLE audit ADD COLUMN verdict TEXT NOT NULL DEFAULT '';
		DROP INDEX IF EXISTS hosts_todo`, `
		ALTER TABLE runs ADD COLUMN outcomes BIGINT NOT NULL DEFAULT 0;
		ALTER TABLE runs ADD COLUMN planner TEXT NOT NULL DEFAULT '';
		ALTER TABLE runs ADD COLUMN pins BIGINT NOT NULL DEFAULT 0;
		ALTER TABLE runs ADD COLUMN windows BIGINT NOT NULL DEFAULT 0;
		ALTER TABLE hosts ADD COLUMN model TEXT NOT NULL DEFAULT '';
		ALTER TABLE hosts ADD COLUMN first INTEGER NOT NULL DEFAULT 0;
		ALTER TABLE hosts ADD COLUMN held INTEGER NOT NULL DEFAULT 0;
		UPDATE hosts SET first = 1 WHERE site <> '' AND data LIKE '%"tier":"dependency"%';
		ALTER TABLE sites ADD COLUMN gated INTEGER NOT NULL DEFAULT 0;
		ALTER TABLE sites ADD COLUMN pinned BIGINT NOT NULL DEFAULT 0;
		ALTER TABLE sites ADD COLUMN pinned_by TEXT NOT NULL DEFAULT '';
		ALTER TABLE sites ADD COLUMN anyway INTEGER NOT NULL DEFAULT 0;
		DROP INDEX IF EXISTS hosts_next`, `
		ALTER TABLE hosts ADD COLUMN serves INTEGER NOT NULL DEFAULT 0`, `
		ALTER TABLE sites ADD COLUMN country TEXT;
		ALTER TABLE sites ADD COLUMN zone TEXT;
		ALTER TABLE sites ADD COLUMN clock TEXT NOT NULL DEFAULT '';
		ALTER TABLE sites ADD COLUMN off BIGINT NOT NULL DEFAULT 0`,
		``} // claims, which an unbrick that does not know them would not heed
}

// migrate makes the tables, or brings them up to this version.
func (s *Store) migrate(ctx context.Context, tx *sql.Tx) error {
	if _, err := tx.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS unbrick (version INTEGER NOT NULL)`); err != nil {
		return err
	}
	version, known := schemaVersion, true
	err := tx.QueryRowContext(ctx, `SELECT version FROM unbrick`).Scan(&version)
	if errors.Is(err, sql.ErrNoRows) {
		known, err = false, nil
	}
	if err != nil {
		return err
	}
	if version > schemaVersion {
		return &NewerError{Have: version, Know: schemaVersion}
	}
	ddl := strings.Join(append(upgrades()[version-1:], schema), ";")
	if s.postgres() {
		ddl = strings.ReplaceAll(ddl, " BLOB", " BYTEA")
	}
	for statement := range strings.SplitSeq(ddl, ";") {
		if statement = strings.TrimSpace(statement); statement == "" {
			continue
		}
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	switch {
	case !known:
		_, err = tx.ExecContext(ctx, `INSERT INTO unbrick (version) VALUES ($1)`, schemaVersion)
	case version < schemaVersion:
		_, err = tx.ExecContext(ctx, `UPDATE unbrick SET version = $1`, schemaVersion)
	}
	return err
}

// A NewerError says that a newer version of unbrick made the state.
type NewerError struct{ Have, Know int }

func (e *NewerError) Error() string {
	return fmt.Sprintf("it was made by a newer unbrick (schema %d, this one knows %d); use that one", e.Have, e.Know)
}
