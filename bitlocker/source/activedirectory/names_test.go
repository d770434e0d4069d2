package activedirectory

import (
	"testing"

	"unbrick/bitlocker"
)

func TestGUIDFilter(t *testing.T) {
	id, err := bitlocker.ParseKeyID("4290b6c0-b17a-497a-8552-272cc30e80d4")
	if err != nil {
		t.Fatal(err)
	}
	const want = `\c0\b6\90\42\7a\b1\7a\49\85\52\27\2c\c3\0e\80\d4` // as .NET's Guid.ToByteArray has it
	if got := guidFilter(id); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestHostOf(t *testing.T) {
	for dn, want := range map[string]string{
		`CN=2023-10-10T10:00:00-08:00{4290B6C0-B17A-497A-8552-272CC30E80D4},CN=PC1,OU=Sydney,DC=corp,DC=example`: "PC1",
		`CN=2023\+x{4290B6C0},CN=PC\,1,DC=corp`:   "PC,1",
		`CN=2023-10-10{4290B6C0},OU=Lost,DC=corp`: "",
		`CN=alone`: "",
		`no name`:  "",
		``:         "",
	} {
		if got := hostOf(dn); got != want {
			t.Errorf("%s: %q, want %q", dn, got, want)
		}
	}
}

// FuzzGUID: what a directory sends back is the id that the filter asked for.
func FuzzGUID(f *testing.F) {
	f.Add([]byte("0123456789abcdef"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		id, err := fromGUID(raw)
		if (err == nil) != (len(raw) == 16) {
			t.Fatalf("%d bytes: %v", len(raw), err)
		}
		if err == nil && windowsOrder(id) != bitlocker.KeyID(raw) {
			t.Errorf("% x is not itself after two exchanges", raw)
		}
	})
}
