// Package configmgr reads recovery keys from the site database of Configuration Manager, where
// BitLocker management (once MBAM) escrows them.
//
// It is unproved: no SQL Server was at hand. The tables are those of Microsoft's instructions
// and of scripts in use; the joins are tested on another database. Two things to know:
//
//   - Reading the tables bypasses the disclosure mark of the help desk portal, so the client is
//     not told to change its key. Whoever releases a key from here has to queue its rotation.
//   - Where the keys are encrypted, only the node on which the database master key is open can
//     read them. A database that decrypts nothing is an error, never a missing key.
package configmgr

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	mssql "github.com/microsoft/go-mssqldb"

	"unbrick/bitlocker"
	"unbrick/inventory/secret"
)

// A Config says which database to read, and as whom.
type Config struct {
	Server   string // host, host:port or host\instance, as in its certificate
	Database string // "CM_ABC"
	CA       string // PEM file with the only authorities to trust; empty is the system's
	// Login is a login of SQL Server. Without a user it is the Windows account of this process,
	// on Windows alone.
	Login secret.Login
	// Plain is for sites that store keys without a BitLocker management certificate.
	Plain bool
}

// A Database is one site database.
type Database struct {
	name   string
	db     *sql.DB
	column string // the key, as SQL
}

// New checks the configuration. It does not reach the server: [Database.Probe] does.
func New(cfg Config) (*Database, error) {
	c, err := newConnector(cfg)
	if err != nil {
		return nil, fmt.Errorf("cannot use ConfigMgr %s: %w", cfg.Server, err)
	}
	return open(sql.OpenDB(c), "ConfigMgr "+cfg.Server+" "+cfg.Database, cfg.Plain), nil
}

func open(db *sql.DB, name string, plain bool) *Database {
	d := &Database{name: name, db: db, column: "RecoveryAndHardwareCore.DecryptString(k.RecoveryKey, DEFAULT)"}
	if plain {
		d.column = "k.RecoveryKey"
	}
	return d
}

// String names the database: it is what the ledger calls this source.
func (d *Database) String() string { return d.name }

// Close closes the connections.
func (d *Database) Close() error { return d.db.Close() }

const tables = ` FROM RecoveryAndHardwareCore_Keys k
	LEFT JOIN RecoveryAndHardwareCore_Machines_Volumes v ON v.VolumeId = k.VolumeId
	LEFT JOIN RecoveryAndHardwareCore_Machines m ON m.Id = v.MachineId `

// Lookup implements [bitlocker.Source].
func (d *Database) Lookup(ctx context.Context, q bitlocker.Query) (bitlocker.Key, error) {
	if err := ctx.Err(); err != nil {
		return bitlocker.Key{}, err
	}
	rows, err := d.db.QueryContext(ctx, "SELECT m.Name, "+d.column+tables+"WHERE k.RecoveryKeyId = @id", sql.Named("id", q.ID.String()))
	if err != nil {
		return bitlocker.Key{}, explain(ctx, err)
	}
	defer rows.Close()
	var found []filed
	for rows.Next() {
		var f filed
		if err := rows.Scan(&f.host, &f.digits); err != nil {
			return bitlocker.Key{}, errors.New("cannot read a row: its columns are of other types than expected")
		}
		found = append(found, f)
	}
	if err := rows.Err(); err != nil {
		return bitlocker.Key{}, explain(ctx, err)
	}
	return pick(q, found)
}

// A filed key is a row: one id may have several, of one host or of clones.
type filed struct{ host, digits sql.NullString }

// pick returns the key of the rows of q.Host, or of no host, if they agree.
func pick(q bitlocker.Query, found []filed) (key bitlocker.Key, err error) {
	if len(found) == 0 {
		return key, bitlocker.ErrNoKey
	}
	var others []string
	for _, f := range found {
		if q.Host != "" && f.host.String != "" && !bitlocker.SameHost(f.host.String, q.Host) {
			others = append(others, f.host.String)
			continue
		}
		if !f.digits.Valid {
			return bitlocker.Key{}, errors.New("has the key and decrypts it to nothing: the database master key is not open on this node; " +
				"ask the node where it is, or open it")
		}
		k, err := bitlocker.ParseKey(f.digits.String)
		if err != nil {
			return bitlocker.Key{}, fmt.Errorf("%w: the one there cannot be used: %v", bitlocker.ErrNoKey, err)
		}
		if !key.IsZero() && !key.Equal(k) {
			return bitlocker.Key{}, fmt.Errorf("%w: several rows have this id and not the same key", bitlocker.ErrNoKey)
		}
		key = k
	}
	if key.IsZero() {
		return key, &bitlocker.WrongHostError{ID: q.ID, Host: q.Host, Filed: others}
	}
	return key, nil
}

// Index implements [bitlocker.Indexer]. It reads no key, so no entry is Valid.
func (d *Database) Index(ctx context.Context, host string) ([]bitlocker.Entry, error) {
	query, args := "SELECT CAST(k.RecoveryKeyId AS nvarchar(64)), m.Name, k.LastUpdateTime"+tables, []any(nil)
	if host != "" {
		query += "WHERE m.Name IS NULL OR m.Name LIKE @prefix"
		args = []any{sql.Named("prefix", bitlocker.FoldHost(host)+"%")}
	}
	rows, err := d.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, explain(ctx, err)
	}
	defer rows.Close()
	newest := map[[2]string]int{} // of an id and host, the entry
	var entries []bitlocker.Entry
	homeless := 0
	for rows.Next() {
		var id string
		var name sql.NullString
		var at sql.NullTime
		if err := rows.Scan(&id, &name, &at); err != nil {
			return nil, errors.New("cannot read a row: its columns are of other types than expected")
		}
		if name.String == "" {
			homeless++
		}
		if host != "" && !bitlocker.SameHost(name.String, host) {
			continue
		}
		if i, ok := newest[[2]string{id, name.String}]; ok {
			entries[i].Created = later(entries[i].Created, at.Time)
			continue
		}
		newest[[2]string{id, name.String}] = len(entries)
		entries = append(entries, d.entry(id, name.String, at.Time))
	}
	if err := rows.Err(); err != nil {
		return nil, explain(ctx, err)
	}
	if host != "" && len(entries) == 0 && homeless > 0 {
		return nil, fmt.Errorf("has %d keys under no host name, and none of %s", homeless, host)
	}
	return entries, nil
}

func (d *Database) entry(id, host string, at time.Time) bitlocker.Entry {
	e := bitlocker.Entry{Host: host, Source: d.name, Created: at}
	var err error
	if e.ID, err = bitlocker.ParseKeyID(id); err != nil {
		e.Reason = "its id is none: no volume can ask for it"
	}
	return e
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Probe implements [bitlocker.Prober]: it reads no key, but asks whether the newest five can be
// decrypted.
func (d *Database) Probe(ctx context.Context) error {
	var all, readable int
	err := d.db.QueryRowContext(ctx, "SELECT COUNT(*), COUNT(text) FROM (SELECT TOP 5 "+d.column+
		" AS text FROM RecoveryAndHardwareCore_Keys k ORDER BY k.LastUpdateTime DESC) t").Scan(&all, &readable)
	switch {
	case err != nil:
		return explain(ctx, err)
	case all == 0:
		return errors.New("the site database has no recovery keys")
	case readable == 0:
		return errors.New("the database master key is not open on this node: it decrypts no key")
	}
	return nil
}

// explain puts the errors that matter into words. Of the server's own, only the number is kept.
func explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var e mssql.Error
	if !errors.As(err, &e) {
		return fmt.Errorf("cannot reach the site database: %w", err)
	}
	reason, ok := map[int32]string{
		18456: "it refuses the login",
		4060:  "the login may not open the database, or there is none of that name",
		208:   "it has no tables of BitLocker management: is it the site database?",
		229:   "the login may not read the tables, or not call RecoveryAndHardwareCore.DecryptString",
	}[e.Number]
	if !ok {
		reason = "it answers with an error"
	}
	return fmt.Errorf("%s (SQL Server error %d)", strings.TrimSpace(reason), e.Number)
}
