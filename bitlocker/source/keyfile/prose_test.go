package keyfile_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"

	"unbrick/bitlocker/source/keyfile"
)

// savedText is what Windows 10 saves as "BitLocker Recovery Key GUID.TXT", in UTF-16.
const savedText = "BitLocker Drive Encryption recovery key \r\n\r\nTo verify that this is the correct recovery key, compare the start of the following identifier with the identifier value displayed on your PC.\r\n\r\nIdentifier:\r\n\r\n\t" + id1 +
	"\r\n\r\nIf the above identifier matches the one displayed by your PC, then use the following key to unlock your drive.\r\n\r\nRecovery Key:\r\n\r\n\t" + key1 + "\r\n"

// protectorsText is what manage-bde -protectors -get prints for a volume with a TPM and two keys.
const protectorsText = `BitLocker-Laufwerkverschlüsselung: Konfigurationstool, Version 10.0.19041

Volume "C:" [Windows]
Alle Schlüsselschutzvorrichtungen

    TPM:
      ID: {11111111-2222-4333-8444-555555555555}
      PCR-Validierungsprofil:
        7, 11

    Numerisches Kennwort:
      ID: {` + id1 + `}
      Kennwort:
        ` + key1 + `

    Numerisches Kennwort:
      ID: {` + id2 + `}
      Kennwort:
        ` + key2 + `
`

func utf16le(s string) []byte {
	b := []byte{0xff, 0xfe}
	for _, u := range utf16.Encode([]rune(s)) {
		b = append(b, byte(u), byte(u>>8))
	}
	return b
}

func TestTextsOfWindows(t *testing.T) {
	dir := t.TempDir()
	for name, b := range map[string][]byte{
		"PC1/BitLocker Recovery Key " + id1 + ".TXT": utf16le(savedText),
		"PC2/protectors.txt":                         []byte(strings.ReplaceAll(strings.ReplaceAll(protectorsText, id1, id2[:35]+"9"), key1, key2)),
		"PC2/readme.txt":                             []byte("nothing of interest\n"),
		"PC2/photo.jpg":                              {0xff, 0xd8},
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	one, err := keyfile.Open(filepath.Join(dir, "PC1", "BitLocker Recovery Key "+id1+".TXT"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := lookup(t, one, id1, "ANY"); got != key1 || len(one.Problems()) > 0 {
		t.Errorf("the saved key was not read: %v, problems %v", err, one.Problems())
	}
	both := read(t, protectorsText)
	for id, want := range map[string]string{id1: key1, id2: key2} {
		if got, err := lookup(t, both, id, ""); got != want {
			t.Errorf("not the key of %s: %v", id, err)
		}
	}
	if _, err := lookup(t, both, "11111111-2222-4333-8444-555555555555", ""); err == nil {
		t.Error("the TPM has a recovery key")
	}
	all, err := keyfile.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if all.Len() != 3 || len(all.Problems()) != 1 || !strings.Contains(all.Problems()[0].String(), "readme.txt: was not read") {
		t.Errorf("%d keys, problems %v; want three, and that one file is no key", all.Len(), all.Problems())
	}
	if _, err := keyfile.Open(t.TempDir()); err == nil {
		t.Error("an empty folder has keys")
	}
}

func TestTextsThatCannotBeTrusted(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"no id", "Recovery Key:\n\n" + key1 + "\n", "keys.csv:3: a key with no id before it"},
		{"two keys, one id", id1 + "\n" + key1 + "\n" + key2 + "\n", "keys.csv:3: a second key after the id " + id1},
		{"mistyped", id1 + "\n" + strings.Replace(key1, "321464", "321465", 1) + "\n", "keys.csv:2: not a recovery key: group 3"},
		{"too short", id1 + "\n" + key1[:48] + "\n", "keys.csv:2: not a recovery key"},
	} {
		p := read(t, test.text).Problems()
		if len(p) != 1 || !p[0].Lost || !strings.HasPrefix(p[0].String(), test.want) {
			t.Errorf("%s: problems %v, want %q", test.name, p, test.want)
		}
	}
	// A table whose row was broken in two stays a table.
	f := read(t, "host,key_id,recovery_key\nPC1,"+id1+",\n"+key1+"\nPC2,"+id2+","+key2+"\n")
	if got, err := lookup(t, f, id2, "PC2"); got != key2 {
		t.Errorf("the good row was lost: %v", err)
	}
	if _, err := lookup(t, f, id1, ""); err == nil {
		t.Error("a key was found that stood alone on a line of a table")
	}
}
