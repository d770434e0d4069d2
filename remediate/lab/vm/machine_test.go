package vm_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"unbrick/remediate/driver/redfish/redfishtest"
	"unbrick/remediate/lab/vm"
)

// fakeQEMU puts a program in the place of QEMU that does what a guest may do: it ends for the
// reason in the file "next" of its directory, or runs on if there is none. It returns that
// directory.
func fakeQEMU(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	script := `#!/bin/sh
echo '{"QMP": {}}'
read -r request
case "$*" in *ide-cd*) cd=cd;; *) cd=disk;; esac
echo "boots $cd" >&3
[ -e ` + dir + `/next ] || read -r for_ever
reason=$(cat ` + dir + `/next); rm ` + dir + `/next
[ "$reason" = broken ] && { echo "no such device" >&2; exit 1; }
echo '{"event": "SHUTDOWN", "data": {"guest": true, "reason": "'$reason'"}}'
`
	if err := os.WriteFile(filepath.Join(dir, "qemu-system-x86_64"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return dir
}

// A board answers as it is told to and remembers what it was asked.
type board struct {
	boot  redfishtest.Boot // after a reset
	asked chan string
}

func (b board) Reboot() redfishtest.Boot { b.asked <- "reboot"; return b.boot }
func (b board) PoweredOff()              { b.asked <- "off" }

// TestEndings says what follows each end of a guest.
func TestEndings(t *testing.T) {
	needs(t)
	dir := fakeQEMU(t)
	for name, c := range map[string]struct {
		end   string
		boot  redfishtest.Boot
		asked string
		then  string // on the console after it
	}{
		"reset":                  {"guest-reset", redfishtest.Boot{Device: redfishtest.Hdd}, "reboot", "boots disk"},
		"reset without power":    {"guest-reset", redfishtest.Boot{}, "reboot", ""},
		"switched itself off":    {"guest-shutdown", redfishtest.Boot{}, "off", ""},
		"QEMU broke":             {"broken", redfishtest.Boot{}, "off", ""},
		"reset, and media is in": {"guest-reset", redfishtest.Boot{Device: redfishtest.Cd, Image: images(t)}, "reboot", "boots cd"},
		"reset, and media that is not to be had": {"guest-reset", redfishtest.Boot{Device: redfishtest.Cd, Image: "http://127.0.0.1:1/x.iso"},
			"reboot", "lab: cannot fetch http://127.0.0.1:1/x.iso"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			m := newMachine(t, vm.Disk{})
			b := board{c.boot, make(chan string, 1)}
			m.Attach(b)
			if err := os.WriteFile(filepath.Join(dir, "next"), []byte(c.end), 0o600); err != nil {
				t.Fatal(err)
			}
			m.Start(redfishtest.Boot{Device: redfishtest.Hdd})
			select {
			case asked := <-b.asked:
				if asked != c.asked {
					t.Errorf("the board was told %q, want %q", asked, c.asked)
				}
			case <-ctx.Done():
				t.Fatal("the board was told nothing")
			}
			if c.then != "" {
				await(t, ctx, m, "boots", 2)
				await(t, ctx, m, c.then, 1)
			}
			if c.end != "broken" {
				return
			}
			if err := m.Await(ctx, "anything else", 1); err == nil || !strings.Contains(err.Error(), "no such device") {
				t.Errorf("QEMU said what is wrong, and Await says %v", err)
			}
		})
	}
}

// TestStop says that no process is left after Stop and Close, whatever came before.
func TestStop(t *testing.T) {
	needs(t)
	fakeQEMU(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	m := newMachine(t, vm.Disk{})
	m.Stop() // is off
	for n := range 5 {
		m.Start(redfishtest.Boot{Device: redfishtest.Hdd}) // a reset from the second on
		await(t, ctx, m, "boots", n+1)
	}
	if n := users(t, m.DiskImage()); n != 1 {
		t.Errorf("%d processes run, want 1", n)
	}
	m.Stop()
	if n := users(t, m.DiskImage()); n != 0 {
		t.Errorf("%d processes run after Stop", n)
	}
	m.Start(redfishtest.Boot{Device: redfishtest.Hdd})
	m.Start(redfishtest.Boot{Device: redfishtest.Hdd}) // at once
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	m.Start(redfishtest.Boot{Device: redfishtest.Hdd})
	if n := users(t, m.DiskImage()); n != 0 {
		t.Errorf("%d processes run after Close", n)
	}
}

// users counts the processes that have name on their command line.
func users(t *testing.T, name string) (n int) {
	t.Helper()
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range processes {
		if b, err := os.ReadFile(p); err == nil && strings.Contains(string(b), name) {
			n++
		}
	}
	return n
}

// images serves an image of a size that is not a whole number of chunks.
func images(t *testing.T) (url string) {
	t.Helper()
	iso := filepath.Join(t.TempDir(), "rescue.iso")
	if err := os.WriteFile(iso, make([]byte, 9<<20+1), 0o600); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, iso) }))
	t.Cleanup(s.Close)
	return s.URL + "/rescue.iso"
}

// TestFetch says what a BMC makes of image servers, good and bad.
func TestFetch(t *testing.T) {
	content := []byte(strings.Repeat("0123456789abcdef", 9<<16+1))
	for name, c := range map[string]struct {
		serve func(w http.ResponseWriter, r *http.Request)
		want  string // in the error; empty: it works
	}{
		"with ranges": {func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "x.iso", time.Time{}, strings.NewReader(string(content)))
		}, ""},
		"without ranges": {func(w http.ResponseWriter, r *http.Request) { w.Write(content) }, "200 OK to a range"},
		"not there":      {http.NotFound, "404"},
		"another range": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", "bytes 7-8/100")
			w.WriteHeader(http.StatusPartialContent)
		}, "bytes 7-8/100"},
		"too short": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-99/%d", len(content)))
			w.WriteHeader(http.StatusPartialContent)
			w.Write(content[:50])
		}, "unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(c.serve))
			defer s.Close()
			dir := t.TempDir()
			file, err := vm.Fetch(t.Context(), s.URL, dir)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("said %v, want %q", err, c.want)
				}
				if left, _ := os.ReadDir(dir); len(left) != 0 {
					t.Errorf("left %v behind", left)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(file); err != nil || string(got) != string(content) {
				t.Errorf("fetched %d bytes, %v, want the %d bytes that were served", len(got), err, len(content))
			}
		})
	}
}
