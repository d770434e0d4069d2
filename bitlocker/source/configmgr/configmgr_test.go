package configmgr

import (
	"database/sql"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mssql "github.com/microsoft/go-mssqldb"
	_ "modernc.org/sqlite"

	"unbrick/bitlocker"
	"unbrick/bitlocker/keytest"
	"unbrick/inventory/secret"
)

// site is a database with the tables of a site, but of another make: it has no DecryptString,
// so keys are plain, and it proves the joins and nothing of SQL Server.
func site(t *testing.T, keys ...keytest.Filing) *Database {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(t.TempDir(), "site.db"))
	if err != nil {
		t.Fatal(err)
	}
	d := open(db, "ConfigMgr test", true)
	t.Cleanup(func() { d.Close() })
	exec := func(query string, args ...any) {
		t.Helper()
		if _, err := db.Exec(query, args...); err != nil {
			t.Fatal(err)
		}
	}
	exec("CREATE TABLE RecoveryAndHardwareCore_Machines (Id INTEGER PRIMARY KEY, Name TEXT UNIQUE)")
	exec("CREATE TABLE RecoveryAndHardwareCore_Machines_Volumes (MachineId INTEGER, VolumeId INTEGER)")
	exec("CREATE TABLE RecoveryAndHardwareCore_Keys (Id INTEGER PRIMARY KEY, VolumeId INTEGER, RecoveryKeyId TEXT, RecoveryKey TEXT, LastUpdateTime DATETIME)")
	for volume, k := range keys {
		if k.Host != "" {
			exec("INSERT OR IGNORE INTO RecoveryAndHardwareCore_Machines (Name) VALUES (?)", k.Host)
			exec("INSERT INTO RecoveryAndHardwareCore_Machines_Volumes SELECT Id, ? FROM RecoveryAndHardwareCore_Machines WHERE Name = ?", volume, k.Host)
		}
		var digits any // NULL is what DecryptString returns while the master key is closed
		if !k.Key.IsZero() {
			digits = k.Key.Reveal()
		}
		exec("INSERT INTO RecoveryAndHardwareCore_Keys (VolumeId, RecoveryKeyId, RecoveryKey, LastUpdateTime) VALUES (?, ?, ?, ?)",
			volume, k.ID.String(), digits, time.Date(2024, 7, 1+volume, 0, 0, 0, 0, time.UTC))
	}
	return d
}

func TestSuite(t *testing.T) {
	keytest.Run(t, func(t *testing.T, keys []keytest.Filing) bitlocker.Source { return site(t, keys...) })
}

var _ bitlocker.Prober = (*Database)(nil)

func TestRows(t *testing.T) {
	r := rand.NewPCG(9, 9)
	k := keytest.Filing{ID: keytest.NewKeyID(r), Host: "PC1", Key: keytest.NewKey(r)}
	with := func(change func(*keytest.Filing)) keytest.Filing {
		f := k
		change(&f)
		return f
	}
	another := with(func(f *keytest.Filing) { f.Key = keytest.NewKey(r) })
	closed := with(func(f *keytest.Filing) { f.Key = bitlocker.Key{} })
	homeless := with(func(f *keytest.Filing) { f.Host = "" })
	clone := with(func(f *keytest.Filing) { f.Host = "PC2" })
	for name, test := range map[string]struct {
		rows  []keytest.Filing
		noKey bool
		want  string // of the error; empty: the key
	}{
		"twice the same":        {[]keytest.Filing{k, k}, false, ""},
		"a clone":               {[]keytest.Filing{clone, k}, false, ""},
		"of no host":            {[]keytest.Filing{homeless}, false, ""},
		"two keys":              {[]keytest.Filing{k, another}, true, "not the same key"},
		"master key not open":   {[]keytest.Filing{closed}, false, "the database master key is not open"},
		"only another computer": {[]keytest.Filing{clone}, false, "files it under PC2"},
	} {
		t.Run(name, func(t *testing.T) {
			key, err := site(t, test.rows...).Lookup(t.Context(), bitlocker.Query{ID: k.ID, Host: "pc1"})
			if test.want == "" {
				if err != nil || !key.Equal(k.Key) {
					t.Errorf("not the key: %v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) || errors.Is(err, bitlocker.ErrNoKey) != test.noKey {
				t.Errorf("error %v, want %s", err, test.want)
			}
		})
	}
	t.Run("one entry, with the newest time", func(t *testing.T) {
		entries, err := site(t, k, k).Index(t.Context(), "pc1")
		if err != nil || len(entries) != 1 || entries[0].Created.Day() != 2 {
			t.Errorf("index %+v, %v", entries, err)
		}
	})
	t.Run("keys under no host", func(t *testing.T) {
		if entries, err := site(t, homeless).Index(t.Context(), "pc1"); err == nil {
			t.Errorf("index %v; it cannot know whether the key is of PC1", entries)
		}
	})
}

func TestExplain(t *testing.T) {
	digits := "496298-461032-321464-595518-463221-173943-033616-139579"
	for number, want := range map[int32]string{
		18456: "it refuses the login (SQL Server error 18456)",
		229:   "the login may not read the tables, or not call RecoveryAndHardwareCore.DecryptString (SQL Server error 229)",
		7:     "it answers with an error (SQL Server error 7)",
	} {
		err := explain(t.Context(), mssql.Error{Number: number, Message: "conversion failed: " + digits})
		if err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestNew(t *testing.T) {
	login := secret.Login{User: "reader", Password: "env:X"}
	for name, test := range map[string]struct {
		cfg  Config
		want string
	}{
		"no server":   {Config{Database: "CM_ABC", Login: login}, "name the server"},
		"no database": {Config{Server: "cm1", Login: login}, "name the server and the database"},
		"no CA":       {Config{Server: "cm1", Database: "CM_ABC", Login: login, CA: "/nonexistent"}, "/nonexistent"},
		"bad port":    {Config{Server: "cm1:port", Database: "CM_ABC", Login: login}, `server "cm1:port" is none`},
	} {
		if _, err := New(test.cfg); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want %q", name, err, test.want)
		}
	}
	d, err := New(Config{Server: `127.0.0.1:1`, Database: "CM_ABC", Login: login})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	t.Setenv("X", "secret")
	if _, err := d.Lookup(t.Context(), bitlocker.Query{}); err == nil || errors.Is(err, bitlocker.ErrNoKey) || !strings.Contains(err.Error(), "cannot reach the site database") {
		t.Errorf("error %v, want that it cannot be reached", err)
	}
	c, err := newConnector(Config{Server: `cm1\CM`, Database: "CM_ABC", Login: login})
	if err != nil || c.cfg.Instance != "CM" || c.cfg.TLSConfig == nil || c.cfg.TLSConfig.InsecureSkipVerify || c.cfg.TLSConfig.ServerName != "cm1" {
		t.Errorf("%+v, %v; want TLS that checks the name", c, err)
	}
}
