package fve_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"unbrick/bitlocker/fve"
	"unbrick/bitlocker/fve/fvetest"
)

// The table is what cryptsetup would give to the kernel, and nothing but the table shows a key.
func TestTable(t *testing.T) {
	for method, want := range map[fve.Method]struct {
		cipher string
		key    int // bytes
	}{
		fve.Elephant128: {"aes-cbc-elephant", 32}, fve.Elephant256: {"aes-cbc-elephant", 64},
		fve.CBC128: {"aes-cbc-eboiv", 16}, fve.CBC256: {"aes-cbc-eboiv", 32},
		fve.XTS128: {"aes-xts-plain64", 32}, fve.XTS256: {"aes-xts-plain64", 64},
	} {
		for _, sector := range []int{512, 4096} {
			t.Run(fmt.Sprint(method, sector), func(t *testing.T) {
				d, master := volume(t, fvetest.Options{Method: method, SectorSize: sector})
				u, err := parse(t, d).UnlockMaster(master)
				if err != nil {
					t.Fatal(err)
				}
				table := u.Table("/dev/sda3")
				var lines []string
				var key string
				for _, target := range table {
					words := strings.Fields(string(target.AppendParams(nil)))
					if target.Type == "crypt" {
						if len(words[1]) != 2*want.key || key != "" && key != words[1] {
							t.Errorf("a key of %d digits", len(words[1]))
						}
						key, words[1] = words[1], "KEY"
					}
					lines = append(lines, strings.TrimSpace(fmt.Sprint(target)+" "+strings.Join(words, " ")))
				}
				crypt := func(at, length, from int) string {
					s := fmt.Sprintf("%d %d crypt %s KEY %d /dev/sda3 %d", at, length, want.cipher, from, from)
					if sector == 4096 {
						s += " 2 sector_size:4096 iv_large_sectors"
					}
					return s
				}
				if got, want := strings.Join(lines, "\n"), strings.Join([]string{
					crypt(0, 16, 640), crypt(16, 496, 16), "512 128 zero", "640 16 zero", crypt(656, 368, 656), "1024 128 zero",
					crypt(1152, 384, 1152), "1536 128 zero", crypt(1664, 384, 1664),
				}, "\n"); got != want {
					t.Errorf("the table is\n%s\nwant\n%s", got, want)
				}
				checkSecret(t, u, table, key)
			})
		}
	}
}

// checkSecret looks for the key in all that a careless line of code could print.
func checkSecret(t *testing.T, u *fve.Unlocked, table []fve.Target, key string) {
	t.Helper()
	var log bytes.Buffer
	type wrapped struct{ u *fve.Unlocked }
	l := slog.New(slog.NewTextHandler(&log, nil))
	l.Info("open", "volume", u, "in", wrapped{u}, "table", table)
	text := log.String()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q"} {
		text += fmt.Sprintf(verb+verb+verb+verb, u, wrapped{u}, table, *u)
	}
	b, err := json.Marshal([]any{u, table})
	if err != nil {
		t.Fatal(err)
	}
	text += string(b)
	raw, err := hex.DecodeString(key)
	if err != nil || len(raw) < 16 {
		t.Fatal(err)
	}
	for _, form := range []string{key[:16], strings.ToUpper(key[:16]), string(raw[:8]), strings.Trim(fmt.Sprint(raw[:6]), "[]"), fmt.Sprintf("%#v", raw[:4])[7:20]} {
		if strings.Contains(text, form) {
			t.Errorf("the key shows in %q", text)
		}
	}
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := u.Reader(disk(nil)); err == nil {
		t.Error("a closed volume can be read")
	}
	for _, target := range table {
		if strings.Contains(string(target.AppendParams(nil)), key[:16]) {
			t.Error("a closed volume still has its key")
		}
	}
}
