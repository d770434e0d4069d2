package keyfile_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"unbrick/bitlocker"
	"unbrick/bitlocker/keytest"
	"unbrick/bitlocker/source/keyfile"
	"unbrick/remediate/lab/testenv"
)

const (
	id1  = "4290B6C0-B17A-497A-8552-272CC30E80D4"
	id2  = "063EA4E1-1111-4222-8333-0123456789AB"
	key1 = "496298-461032-321464-595518-463221-173943-033616-139579"
	key2 = "158422-038236-492536-574783-256300-205084-114356-069773"
)

func TestSuite(t *testing.T) {
	keytest.Run(t, func(t *testing.T, keys []keytest.Filing) bitlocker.Source {
		path := filepath.Join(t.TempDir(), "keys.csv")
		var b strings.Builder
		b.WriteString("host,key_id,recovery_key\n")
		for _, k := range keys {
			fmt.Fprintf(&b, "%s,%s,%s\n", k.Host, k.ID, k.Key.Reveal())
		}
		if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := keyfile.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if p := f.Problems(); len(p) > 0 {
			t.Errorf("problems: %v", p)
		}
		return f
	})
}

func TestSuiteWithoutHosts(t *testing.T) {
	keytest.Run(t, func(t *testing.T, keys []keytest.Filing) bitlocker.Source {
		text := "KeyID,RecoveryKey\n"
		for _, k := range keys {
			text += fmt.Sprintf("%s,%s\n", k.ID, k.Key.Reveal())
		}
		return read(t, text)
	})
}

func read(t *testing.T, text string) *keyfile.File {
	t.Helper()
	f, err := keyfile.Read("keys.csv", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// lookup returns the digits, or the error.
func lookup(t *testing.T, f *keyfile.File, id, host string) (string, error) {
	t.Helper()
	kid, err := bitlocker.ParseKeyID(id)
	if err != nil {
		t.Fatal(err)
	}
	key, err := f.Lookup(t.Context(), bitlocker.Query{ID: kid, Host: host})
	return key.Reveal(), err
}

func TestForms(t *testing.T) {
	utf16Text := func(order binary.AppendByteOrder, s string) string {
		var b []byte
		for _, u := range utf16.Encode([]rune("\ufeff" + s)) {
			b = order.AppendUint16(b, u)
		}
		return string(b)
	}
	plain := "Hostname,KeyID,RecoveryKey,Directory\r\nPC1," + id1 + "," + key1 + ",EntraID\r\n"
	for _, test := range []struct{ name, text string }{
		{"ours", "host,key_id,recovery_key\nPC1," + id1 + "," + key1 + "\n"},
		{"no newline at the end", "host,key_id,recovery_key\nPC1," + id1 + "," + key1},
		{"another order", "Recovery Key;x;Key ID;Computer Name\n" + key1 + ";;{" + strings.ToLower(id1) + "};pc1.corp.example\n"},
		{"tabs", "Host\tPassword ID\tRecovery Password\nPC1\t" + id1 + "\t" + key1},
		{"falcon, Entra row", plain},
		{"falcon, AD row", `"Hostname","KeyID","RecoveryKey","Directory"` + "\n" +
			`"CN=PC1,OU=Kiosks\, Sydney,DC=corp,DC=example","` + id1 + `","` + key1 + `","ActiveDirectory"` + "\n"},
		{"falcon, DN of the recovery object", "KeyID,RecoveryKey,Hostname\n" + id1 + "," + key1 +
			`,"CN=2023-10-10T10:00:00-08:00{` + id1 + `},CN=PC1,DC=corp,DC=example"`},
		{"old PowerShell", "#TYPE Selected.System.Management.Automation.PSCustomObject\n" + plain},
		{"byte order mark", "\ufeff" + plain},
		{"UTF-16, little", utf16Text(binary.LittleEndian, plain)},
		{"UTF-16, big", utf16Text(binary.BigEndian, plain)},
		{"empty lines", "\n\n" + strings.ReplaceAll(plain, "\r\n", "\r\n\r\n")},
		{"two columns of names", "displayName,DNSHostName,KeyID,RecoveryKey\nAnna's laptop,PC1," + id1 + "," + key1},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := read(t, test.text)
			if got, err := lookup(t, f, id1, "PC1"); err != nil || got != key1 {
				t.Errorf("not the key: %v", err)
			}
			if p := f.Problems(); len(p) > 0 {
				t.Errorf("problems: %v", p)
			}
			entries, err := f.Index(t.Context(), "pc1")
			if err != nil || len(entries) != 1 || !entries[0].Valid || !bitlocker.SameHost(entries[0].Host, "PC1") {
				t.Errorf("index %v, %v", entries, err)
			}
		})
	}
}

func TestProblems(t *testing.T) {
	const header = "Hostname,KeyID,RecoveryKey,Directory\n"
	good := "PC2," + id2 + "," + key2 + ",EntraID\n"
	for _, test := range []struct{ name, rows, want string }{
		{"array", `"CN=PC1,DC=x","` + id1 + `","System.Object[]","AD"` + "\n" + good,
			`keys.csv:2: column "RecoveryKey": is the name of a type: the computer has several recovery keys, and the export lost them all (want an export with a row for each key)`},
		{"typo", "PC1," + id1 + "," + strings.Replace(key1, "321464", "321465", 1) + ",x\n" + good,
			`keys.csv:2: column "RecoveryKey": not a recovery key: group 3 is not a multiple of 11 (mistyped or misread)`},
		{"spreadsheet", "PC1," + id1 + ",4.96298E+47,x\n" + good,
			`keys.csv:2: column "RecoveryKey": not a recovery key: it was turned into scientific notation by a spreadsheet, its digits are lost: export the column as text`},
		{"no id", "PC1,," + key1 + ",x\n" + good,
			`keys.csv:2: column "KeyID": is empty: a key without its id cannot be told from another (want a GUID such as ` + id1 + `)`},
		{"short id", "PC1,4290B6C0," + key1 + ",x\n" + good,
			`keys.csv:2: column "KeyID": is not a key id (want a GUID such as ` + id1 + `)`},
		{"exchanged", "PC1," + key1 + "," + id1 + ",x\n" + good,
			`keys.csv:2: column "KeyID": is a recovery key: the columns are exchanged (want the id in this column)`},
		{"key as host", key1 + "," + id1 + "," + key1 + ",x\n" + good,
			`keys.csv:2: column "Hostname": is a recovery key: the columns are exchanged (want the name of the host in this column)`},
		{"mistyped key as host", key1[:54] + "8," + id1 + "," + key1 + ",x\n" + good,
			`keys.csv:2: column "Hostname": is a recovery key: the columns are exchanged (want the name of the host in this column)`},
		{"short row", "PC1," + id1 + "\n" + good, `keys.csv:2: has 2 of 4 fields`},
		{"open quote", `"PC1,` + id1 + "," + key1 + ",x\n" + good, `keys.csv:2: has a quote that is not closed`},
		{"text after a quote", `"PC1"x,` + id1 + "," + key1 + ",x\n" + good, `keys.csv:2: has text after a quoted field`},
		{"display name", "Anna's laptop," + id1 + "," + key1 + ",EntraID\n" + good,
			`keys.csv:2: column "Hostname": is not a host name but one for display: the key is filed under no host (want the host's own name)`},
		{"same id, other key", "PC1," + id1 + "," + key1 + ",x\nPC1," + id1 + "," + key2 + ",x\n" + good,
			`keys.csv:3: column "RecoveryKey": key id ` + id1 + ` has another key in line 2: neither is used (want one key for an id)`},
		{"same id, other host", "PC1," + id1 + "," + key1 + ",x\nPC9," + id1 + "," + key1 + ",x\n" + good,
			`keys.csv:3: column "Hostname": key id ` + id1 + ` is also in line 2 under another host (want one host, unless its disk was cloned)`},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := read(t, header+test.rows)
			p := f.Problems()
			if len(p) != 1 || p[0].String() != test.want {
				t.Errorf("problems %q\nwant %q", p, test.want)
			}
			if got, err := lookup(t, f, id2, "PC2"); err != nil || got != key2 {
				t.Errorf("the good row was lost too: %v", err)
			}
			got, err := lookup(t, f, id1, "PC1")
			if p[0].Lost != (got == "") {
				t.Errorf("lost is %v, and the lookup says %v", p[0].Lost, err)
			}
			if p[0].Lost && !errors.Is(err, bitlocker.ErrNoKey) {
				t.Errorf("error %v, want ErrNoKey: nobody needs to ask this file again", err)
			}
		})
	}
}

func TestDuplicates(t *testing.T) {
	row := func(host, id, key string) string { return host + "," + id + "," + key + "\n" }
	const header = "host,key_id,recovery_key\n"

	t.Run("a third row does not revive what two disagree on", func(t *testing.T) {
		f := read(t, header+row("PC1", id1, key1)+row("PC1", id1, key2)+row("PC1", id1, key1))
		if _, err := lookup(t, f, id1, "PC1"); !errors.Is(err, bitlocker.ErrNoKey) {
			t.Errorf("error %v, want ErrNoKey", err)
		}
		entries, err := f.Index(t.Context(), "PC1")
		if err != nil || len(entries) != 1 || entries[0].Valid || entries[0].Reason == "" {
			t.Errorf("index %v, %v; want one entry that is not valid, and why", entries, err)
		}
	})
	t.Run("a damaged row does not hide a good one", func(t *testing.T) {
		for _, text := range []string{row("PC1", id1, "4.9E+47") + row("PC1", id1, key1), row("PC1", id1, key1) + row("PC1", id1, "4.9E+47")} {
			f := read(t, header+text)
			if got, err := lookup(t, f, id1, "PC1"); err != nil || got != key1 {
				t.Errorf("not the key: %v", err)
			}
		}
	})
	t.Run("the same row twice is one", func(t *testing.T) {
		f := read(t, header+row("PC1", id1, key1)+row("pc1.corp.example", strings.ToLower(id1), key1))
		entries, err := f.Index(t.Context(), "")
		if err != nil || len(entries) != 1 || len(f.Problems()) != 0 {
			t.Errorf("index %v, %v, problems %v", entries, err, f.Problems())
		}
	})
	t.Run("a cloned disk serves both hosts and no third", func(t *testing.T) {
		f := read(t, header+row("PC1", id1, key1)+row("PC2", id1, key1))
		for _, host := range []string{"PC1", "PC2"} {
			if _, err := lookup(t, f, id1, host); err != nil {
				t.Error(err)
			}
		}
		var wrong *bitlocker.WrongHostError
		if _, err := lookup(t, f, id1, "PC3"); !errors.As(err, &wrong) || len(wrong.Filed) != 2 {
			t.Errorf("error %v, want both hosts named", err)
		}
	})
}

func TestHomelessKeysAreNotKnownByHost(t *testing.T) {
	f := read(t, "key_id,recovery_key\n"+id1+","+key1+"\n")
	if entries, err := f.Index(t.Context(), "PC1"); err == nil {
		t.Errorf("index %v; it cannot know whether one of them is of PC1", entries)
	}
}

func TestPages(t *testing.T) {
	r := rand.NewPCG(1, 2)
	rows := func(n int, directory string) (text string) {
		for i := range n {
			text += fmt.Sprintf("PC%d,%s,%s,%s\n", i, keytest.NewKeyID(r), keytest.NewKey(r).Reveal(), directory)
		}
		return text
	}
	const header = "Hostname,KeyID,RecoveryKey,Directory\n"
	for _, test := range []struct {
		name, text string
		want       int
	}{
		{"a page", header + rows(100, "EntraID"), 1},
		{"a page and one", header + rows(101, "EntraID"), 0},
		{"a page beside another directory", header + rows(100, "EntraID") + rows(37, "AD"), 1},
		{"no page, but a sum of one", header + rows(60, "EntraID") + rows(40, "AD"), 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			if p := read(t, test.text).Problems(); len(p) != test.want || test.want > 0 && p[0].Lost {
				t.Errorf("problems %v, want %d warnings", p, test.want)
			}
		})
	}
}

func TestNotAKeyFile(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"empty", "", "the file is empty; its first line must name the columns, such as host,key_id,recovery_key"},
		{"no header", "PC1," + id1 + "," + key1 + "\n", "line 1 is not a header; its first line must name the columns, such as host,key_id,recovery_key"},
		{"no ids", "host,recovery_key\nPC1," + key1 + "\n", "line 1 names no column of key ids; its first line must name the columns, such as host,key_id,recovery_key"},
		{"no keys", "host,key_id\nPC1," + id1 + "\n", "line 1 names no column of recovery keys; its first line must name the columns, such as host,key_id,recovery_key"},
		{"open quote", `"` + key1, "line 1 has a quote that is not closed; its first line must name the columns, such as host,key_id,recovery_key"},
		{"half a character", "\xff\xfeh\x00o", "the file ends inside a character of UTF-16: it is not complete"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := keyfile.Read("keys.csv", strings.NewReader(test.text))
			if want := "cannot read keys from keys.csv: " + test.want; err == nil || err.Error() != want {
				t.Errorf("error %v\n want %s", err, want)
			}
		})
	}
	if _, err := keyfile.Open(filepath.Join(t.TempDir(), "none.csv")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v, want one for a file that is not there", err)
	}
}

func TestOpenWarnsOfReaders(t *testing.T) {
	if runtime.GOOS == "windows" {
		testenv.Missing(t, "file modes")
	}
	path := filepath.Join(t.TempDir(), "keys.csv")
	if err := os.WriteFile(path, []byte("key_id,recovery_key\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[os.FileMode]int{0o600: 0, 0o400: 0, 0o640: 1, 0o604: 1} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		f, err := keyfile.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if p := f.Problems(); len(p) != want || want > 0 && p[0].Lost {
			t.Errorf("mode %o: problems %v, want %d warnings", mode, p, want)
		}
	}
}

// The laws: nothing panics; nothing that is said shows a key that was found; what is indexed as
// valid is found, and what is not is not.
func FuzzRead(f *testing.F) {
	f.Add("host,key_id,recovery_key\nPC1," + id1 + "," + key1 + "\nPC2," + id2 + "," + key2 + "\n")
	f.Add("Hostname;KeyID;RecoveryKey;Directory\n\"CN=PC\\,1,DC=x\";{" + id1 + "};" + key1 + ";AD\nx;" + id1 + ";System.Object[]\n")
	f.Add("key_id\trecovery_key\n" + id1 + "\t" + key1 + "\n" + id1 + "\t" + key2)
	f.Add("\xff\xfek\x00e\x00y\x00")
	f.Add(savedText)
	f.Add(protectorsText)
	f.Fuzz(func(t *testing.T, text string) {
		k, err := keyfile.Read("keys.csv", strings.NewReader(text))
		if err != nil {
			return
		}
		entries, err := k.Index(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		said := fmt.Sprint(k.Problems(), k)
		for _, e := range entries {
			key, err := k.Lookup(t.Context(), bitlocker.Query{ID: e.ID, Host: e.Host})
			if e.Valid != (err == nil) {
				t.Errorf("entry %v, lookup %v", e, err)
			}
			for _, group := range strings.Split(key.Reveal(), "-") {
				// A group that is in the ids or hosts of the file may well be said.
				if group != "" && !slices.ContainsFunc(entries, func(o bitlocker.Entry) bool { return strings.Contains(o.ID.String()+o.Host, group) }) &&
					strings.Contains(said, group) {
					t.Errorf("a group of a key is in %q", said)
				}
			}
		}
	})
}
