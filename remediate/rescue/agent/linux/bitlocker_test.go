//go:build linux

package linux

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"unbrick/bitlocker"
	"unbrick/bitlocker/fve"
	"unbrick/bitlocker/fve/fvetest"
	"unbrick/bitlocker/keytest"
	"unbrick/remediate/rescue/agent"
	"unbrick/remediate/rescue/wire"
)

// encrypted is a BitLocker volume with nothing on it, as the agent finds it.
func encrypted(t *testing.T, o fvetest.Options) *volume {
	t.Helper()
	name := filepath.Join(t.TempDir(), "sda3")
	if err := os.WriteFile(name, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	o.Blocks = [3]int64{256 << 10, 512 << 10, 768 << 10}
	if _, err := fvetest.EncryptFile(name, o); err != nil {
		t.Fatal(err)
	}
	return host().volume(disk{path: name, locked: true})
}

func host() *Host { return &Host{Log: slog.New(slog.DiscardHandler)} }

// A volume that cannot be opened, or must not be, says why and asks for no key.
func TestVolumesThatMustNotBeOpened(t *testing.T) {
	tpm := fvetest.Protector{Kind: fve.TPM}
	password := fvetest.Protector{Kind: fve.RecoveryPassword, ID: bitlocker.KeyID{1}, Key: bitlocker.NewKey([16]byte{2})}
	mirrored := encrypted(t, fvetest.Options{Protectors: []fvetest.Protector{password}})
	mirrored.mirrored = true
	vista := filepath.Join(t.TempDir(), "sda3")
	if err := os.WriteFile(vista, []byte(sector(bitlockerSignature)), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		v      *volume
		locked bool
		want   string
	}{
		"unreadable":              {host().volume(disk{path: "/nowhere", locked: true}), true, "no such file"},
		"Vista":                   {host().volume(disk{path: vista, locked: true}), true, "Vista"},
		"being encrypted":         {encrypted(t, fvetest.Options{State: fve.Encrypting, Protectors: []fvetest.Protector{password}}), true, "let Windows finish it"},
		"being decrypted":         {encrypted(t, fvetest.Options{Next: fve.Decrypted, Protectors: []fvetest.Protector{password}}), true, "let Windows finish it"},
		"no recovery password":    {encrypted(t, fvetest.Options{Protectors: []fvetest.Protector{tpm}}), true, "no recovery password, only TPM"},
		"half of a mirror":        {host().volume(disk{path: "/nowhere", mirrored: true}), false, "RAID"},
		"half of a locked mirror": {mirrored, false, "RAID"},
	} {
		if ids := c.v.Protectors(); len(ids) != 0 {
			t.Errorf("%s: asks for keys %v", name, ids)
		}
		for _, write := range []bool{false, true} {
			_, _, err := c.v.Open(t.Context(), write, wire.Allow{Hibernated: true, DropJournal: true})
			if err == nil || errors.Is(err, agent.ErrLocked) != c.locked || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "mount") {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := c.v.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestUnlock(t *testing.T) {
	r := rand.NewPCG(3, 4)
	one := fvetest.Protector{Kind: fve.RecoveryPassword, ID: keytest.NewKeyID(r), Key: keytest.NewKey(r)}
	two := fvetest.Protector{Kind: fve.RecoveryPassword, ID: keytest.NewKeyID(r), Key: keytest.NewKey(r)}
	v := encrypted(t, fvetest.Options{Protectors: []fvetest.Protector{{Kind: fve.TPM}, one, two}})
	if ids := v.Protectors(); !slices.Equal(ids, []string{one.ID.String(), two.ID.String()}) {
		t.Fatalf("protectors %v", ids)
	}
	for _, err := range []error{
		v.Unlock(t.Context(), one.ID.String(), two.Key),
		v.Unlock(t.Context(), "no id", one.Key),
		v.Unlock(t.Context(), bitlocker.KeyID{9}.String(), one.Key),
	} {
		if err == nil || keytest.Leaks(one.Key, err.Error()) || keytest.Leaks(two.Key, err.Error()) {
			t.Errorf("a wrong key: %v", err)
		}
	}
	if _, _, err := v.Open(t.Context(), false, wire.Allow{}); !errors.Is(err, agent.ErrLocked) {
		t.Errorf("open without a key: %v", err)
	}
	if err := v.Unlock(t.Context(), two.ID.String(), two.Key); err != nil {
		t.Fatal(err)
	}
	if ids := v.Protectors(); len(ids) != 0 {
		t.Errorf("an open volume asks for %v", ids)
	}
	// There is no file system on it, and this machine may have no device-mapper.
	if _, _, err := v.Open(t.Context(), false, wire.Allow{}); err == nil || errors.Is(err, agent.ErrLocked) {
		t.Errorf("open with a key: %v", err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := v.Open(t.Context(), false, wire.Allow{}); !errors.Is(err, agent.ErrLocked) {
		t.Errorf("open after close: %v", err)
	}
}

func TestSuspendedNeedsNoKey(t *testing.T) {
	v := encrypted(t, fvetest.Options{Protectors: []fvetest.Protector{
		{Kind: fve.RecoveryPassword, ID: bitlocker.KeyID{1}, Key: bitlocker.NewKey([16]byte{2})}, {Kind: fve.ClearKey},
	}})
	if ids := v.Protectors(); len(ids) != 0 {
		t.Errorf("asks for %v", ids)
	}
	if err := v.lock.shut(); err != nil {
		t.Error(err)
	}
	if s := v.lock.describe(); !strings.Contains(s, "suspended") {
		t.Errorf("described as %q", s)
	}
}

// The kernel gets each target at a multiple of eight bytes, with where the next one begins,
// and nothing of the table is left behind.
func TestPutTarget(t *testing.T) {
	v := encrypted(t, fvetest.Options{Protectors: []fvetest.Protector{{Kind: fve.ClearKey}}})
	buf := make([]byte, dmBuffer)
	at := dmHeader
	for _, target := range v.lock.open.Table("/dev/sda3") {
		end, err := putTarget(buf, at, target)
		if err != nil {
			t.Fatal(err)
		}
		spec := buf[at:end]
		params := string(target.AppendParams(nil))
		kind, _, _ := strings.Cut(string(spec[24:40]), "\x00")
		if end%8 != 0 || int(spec[20])|int(spec[21])<<8 != end-at || kind != target.Type ||
			!strings.HasPrefix(string(spec[dmSpec:]), params+"\x00") {
			t.Errorf("%s: %d bytes to %d", target, len(spec), end)
		}
		at = end
	}
	if dmHeader != 312 || dmSpec != 40 {
		t.Errorf("headers of %d and %d bytes", dmHeader, dmSpec)
	}
	if _, err := putTarget(buf, len(buf)-100, v.lock.open.Table("x")[0]); err == nil {
		t.Error("a table longer than its buffer")
	}
}
