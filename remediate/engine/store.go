package engine

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	_ "github.com/dbos-inc/dbos-transact-golang/dbos/driver/sqlite" // the driver "sqlite", and how DBOS reads its errors
	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
)

//go:embed schema.sql
var schema string

// schemaVersion is the version of schema.sql. A state of a newer one is refused, one of an
// older one is brought up to it.
const schemaVersion = 6

// A Store is the state of runs: an SQLite file, or a PostgreSQL database that several
// processes share. It holds no secret. Its methods may be called while another process works
// on the same state.
type Store struct {
	dsn  string
	path string // of the SQLite file; empty on PostgreSQL
	log  *slog.Logger
	// The handle is swapped when a run ends: DBOS closes the one that it was given.
	handle atomic.Pointer[sql.DB]
}

// Open opens the state at dsn, and creates it if it is not there: "postgres://…" is a
// PostgreSQL database, anything else the path of an SQLite file, readable by its owner alone.
// It fails if the state cannot be written, or was made by a newer version.
func Open(ctx context.Context, dsn string, log *slog.Logger) (*Store, error) {
	s := &Store{dsn: dsn, log: log}
	if strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://") {
		s.dsn = withIdleLimit(dsn)
	} else {
		path, err := filepath.Abs(dsn)
		if err != nil {
			return nil, fmt.Errorf("cannot open state file %s: %w", dsn, err)
		}
		s.path = path
		if err := ownFile(path); err != nil {
			return nil, fmt.Errorf("cannot open state file %s: %w; name another one with --state", dsn, err)
		}
	}
	db, err := s.connect()
	if err != nil {
		return nil, err
	}
	s.handle.Store(db)
	if err := s.prepare(ctx); err != nil {
		db.Close()
		return nil, err
	}
	return s, nil
}

// Close gives the connections back.
func (s *Store) Close() error { return s.db().Close() }

func (s *Store) db() *sql.DB { return s.handle.Load() }

func (s *Store) postgres() bool { return s.path == "" }

// name says which state it is, without a password.
func (s *Store) name() string {
	if !s.postgres() {
		return s.path
	}
	if u, err := url.Parse(s.dsn); err == nil {
		return u.Redacted()
	}
	return "the database"
}

// ownFile creates the file if it is not there, so that nobody else can read it: SQLite gives
// the files beside it the same mode. One that is there is not opened: closing it again would
// drop the locks that this process has on it.
func ownFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// withIdleLimit makes the server end the transaction of a process that froze in it: it may hold
// the lock that every other process waits for.
func withIdleLimit(dsn string) string {
	const param = "idle_in_transaction_session_timeout"
	u, err := url.Parse(dsn)
	if err != nil || u.Query().Has(param) {
		return dsn
	}
	q := u.Query()
	q.Set(param, "10000") // ms
	u.RawQuery = q.Encode()
	return u.String()
}

func (s *Store) connect() (*sql.DB, error) {
	if s.postgres() {
		db, err := sql.Open("pgx", s.dsn)
		if err != nil {
			return nil, fmt.Errorf("cannot connect to %s: %w", s.name(), err)
		}
		db.SetMaxOpenConns(16)
		return db, nil
	}
	return openSQLite(s.path, 10*time.Second, "journal_mode(WAL)")
}

// openSQLite opens the file with one connection: as fast as eight, and it keeps the
// write-ahead log short. A commit is on disk when it returns. patience is how long it waits for
// the locks of other processes.
func openSQLite(path string, patience time.Duration, pragma string) (*sql.DB, error) {
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(path)}
	q := url.Values{"_txlock": {"immediate"}, "_pragma": {
		fmt.Sprintf("busy_timeout(%d)", patience.Milliseconds()), "foreign_keys(ON)", "synchronous(FULL)", pragma}}
	u.RawQuery = q.Encode()
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return nil, fmt.Errorf("cannot open state file %s: %w", path, err)
	}
	db.SetMaxOpenConns(1)
	db.SetMaxIdleConns(1)
	return db, nil
}

// prepare makes the tables, and proves that the state can be written.
func (s *Store) prepare(ctx context.Context) error {
	unlock, err := s.lockTables(ctx)
	if err != nil {
		return fmt.Errorf("cannot connect to %s: %w", s.name(), err)
	}
	defer unlock()
	err = s.tx(ctx, func(tx *sql.Tx) error {
		return s.migrate(ctx, tx)
	})
	var newer *NewerError
	if errors.As(err, &newer) {
		return fmt.Errorf("cannot use %s: %w", s.name(), err)
	}
	if err != nil {
		return fmt.Errorf("cannot write state %s: %w; is it a state of unbrick, writable, and is there space?", s.name(), err)
	}
	return nil
}

// Create stores value under key. It wraps fs.ErrExist if the key is taken.
func (s *Store) Create(ctx context.Context, key string, value []byte) error {
	return s.tx(ctx, func(tx *sql.Tx) error {
		n, err := changed(ctx, tx, `INSERT INTO records (key, value) VALUES ($1, $2) ON CONFLICT DO NOTHING`, key, value)
		if err == nil && n == 0 {
			err = fmt.Errorf("cannot create record %s: %w", key, fs.ErrExist)
		}
		return err
	})
}

// Load returns what was stored under key. It wraps fs.ErrNotExist if nothing was.
func (s *Store) Load(ctx context.Context, key string) ([]byte, error) {
	var value []byte
	err := s.db().QueryRowContext(ctx, `SELECT value FROM records WHERE key = $1`, key).Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("cannot load record %s: %w", key, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot load record %s: %w", key, err)
	}
	return value, nil
}

// patience is how long a database that went away may stay away.
const patience = time.Minute

// tx runs fn in one transaction, and again if the database went away or another transaction
// was in the way: fn must be the same when it runs twice, whether or not the first one held.
func (s *Store) tx(ctx context.Context, fn func(*sql.Tx) error) error {
	for begun, wait := time.Now(), 50*time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		err := s.once(ctx, fn)
		if err == nil || !s.passing(err) || ctx.Err() != nil || time.Since(begun) > patience {
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return err
		}
	}
}

func (s *Store) once(ctx context.Context, fn func(*sql.Tx) error) error {
	tx, err := s.db().BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := fn(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// diskFull says whether the state could not be written for want of space: no host's fault.
func diskFull(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "disk is full") || strings.Contains(err.Error(), "SQLSTATE 53100"))
}

// passing says whether err may pass by itself.
func (s *Store) passing(err error) bool {
	if !s.postgres() {
		return strings.Contains(err.Error(), "SQLITE_BUSY")
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch pg.Code[:2] {
		case "08", "40", "57": // connection, conflict with another transaction, shutdown
			return true
		}
		return pg.Code == "25P03" // this process froze in a transaction
	}
	var connect *pgconn.ConnectError
	return errors.As(err, &connect) || pgconn.SafeToRetry(err) ||
		strings.Contains(err.Error(), "EOF") || strings.Contains(err.Error(), "conn")
}

// changed runs a statement and returns how many rows it changed.
func changed(ctx context.Context, tx *sql.Tx, query string, args ...any) (int64, error) {
	res, err := tx.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// Keys of the advisory locks on PostgreSQL. SQLite has one writer at a time anyway.
const (
	lockSchema   = 0x756e6272_01
	lockDispatch = 0x756e6272_02
)

// lockTables lets no other process make tables until unlock is called: DBOS's own statements
// get in each other's way. It asks again and again, because a session that waits for a lock
// would stop an index from being built.
func (s *Store) lockTables(ctx context.Context) (unlock func(), err error) {
	if !s.postgres() {
		return func() {}, nil
	}
	c, err := s.db().Conn(ctx)
	if err != nil {
		return nil, err
	}
	for {
		var got bool
		if err := c.QueryRowContext(ctx, `SELECT pg_try_advisory_lock($1)`, lockSchema).Scan(&got); err != nil {
			c.Close()
			return nil, err
		}
		if got {
			break
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			c.Close()
			return nil, ctx.Err()
		}
	}
	return func() {
		_, _ = c.ExecContext(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock($1)`, lockSchema)
		c.Close()
	}, nil
}

// exclusive lets no other process change who does what until tx ends.
func (s *Store) exclusive(ctx context.Context, tx *sql.Tx) error {
	if !s.postgres() {
		return nil
	}
	_, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock($1)`, lockDispatch)
	return err
}

// Times are stored as milliseconds of Unix time, and 0 is none.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func moment(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
