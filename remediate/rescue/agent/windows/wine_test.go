//go:build linux

package windows_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"unbrick/bitlocker"
	"unbrick/bitlocker/keytest"
	"unbrick/inventory"
	"unbrick/playbooks"
	"unbrick/remediate"
	"unbrick/remediate/lab/testenv"
	"unbrick/remediate/rescue"
	"unbrick/remediate/rescue/agent"
	"unbrick/remediate/rescue/agent/windows"
)

// A winePE is a Wine that looks to the agent like WinPE: its own system is on C:, the medium
// is E:, and the volumes of the host are letters that a test adds. There is no Z:, by which
// Wine would show all of this machine.
type winePE struct {
	t   *testing.T
	dir string
	env []string
}

// newWinePE builds the agent and the programs that Wine lacks, and installs all of it.
func newWinePE(t *testing.T) *winePE {
	t.Helper()
	testenv.Need(t, "wine", "wineboot", "wineserver", "x86_64-w64-mingw32-gcc", "go")
	w := &winePE{t: t, dir: t.TempDir()}
	w.env = append(os.Environ(), "WINEPREFIX="+w.path("wine"), "WINEDEBUG=-all", "DISPLAY=", "WINEDLLOVERRIDES=mscoree,mshtml=")
	t.Cleanup(func() { w.run("wineserver", "-k", "-w") })
	w.must("wineboot", "-i")
	system := w.path("wine/drive_c/windows/system32")
	w.must("x86_64-w64-mingw32-gcc", "-shared", "-O2", "-s", "-o", filepath.Join(system, "bcryptprimitives.dll"), "testdata/stub/bcryptprimitives.c", "-ladvapi32")
	w.build("unbrick/cmd/unbrick-agent", w.path("wine/drive_c/unbrick-agent.exe"))
	w.build("./testdata/fake", filepath.Join(system, "wpeutil.exe"))
	w.mkdir("wine/drive_c/fake", "cd")
	if err := os.Remove(w.path("wine/dosdevices/z:")); err != nil {
		t.Fatal(err)
	}
	w.must("wine", "reg", "add", `HKLM\SYSTEM\CurrentControlSet\Control\MiniNT`, "/f")
	w.drive("e", "cdrom", w.path("cd"))
	return w
}

func (w *winePE) path(name string) string { return filepath.Join(w.dir, name) }

func (w *winePE) mkdir(names ...string) {
	w.t.Helper()
	for _, n := range names {
		if err := os.MkdirAll(w.path(n), 0o755); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *winePE) run(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Env = w.env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (w *winePE) must(name string, args ...string) {
	w.t.Helper()
	if out, err := w.run(name, args...); err != nil {
		w.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

func (w *winePE) build(pkg, out string) {
	w.t.Helper()
	cmd := exec.Command("go", "build", "-o", out, pkg)
	cmd.Env = append(os.Environ(), "GOOS=windows", "GOARCH=amd64", "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("go build %s: %v\n%s", pkg, err, b)
	}
}

// drive gives a letter to a folder, as that type of drive. Wine sees it when it starts anew.
func (w *winePE) drive(letter, kind, folder string) {
	w.t.Helper()
	link := w.path("wine/dosdevices/" + letter + ":")
	os.Remove(link)
	if err := os.Symlink(folder, link); err != nil {
		w.t.Fatal(err)
	}
	w.must("wine", "reg", "add", `HKLM\Software\Wine\Drives`, "/v", letter+":", "/d", kind, "/f")
	w.run("wineserver", "-k", "-w") // fails where none runs
}

// disk adds a volume of the host: a folder for its files, and a file for its sectors.
func (w *winePE) disk(letter string, sectors []byte) (folder string) {
	w.t.Helper()
	folder, image := "volumes/"+letter, w.path("volumes/"+letter+".img")
	w.mkdir(folder)
	link := w.path("wine/dosdevices/" + letter + "::")
	os.Remove(link)
	if err := os.WriteFile(image, sectors, 0o600); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Symlink(image, link); err != nil {
		w.t.Fatal(err)
	}
	w.drive(letter, "hd", w.path(folder))
	return w.path(folder)
}

// ntfs is the first sectors of an NTFS volume.
func ntfs() []byte { return append([]byte("\xeb\x52\x90NTFS    "), make([]byte, 8192)...) }

// calls are the programs that were started, with their arguments.
func (w *winePE) calls() (calls []string) {
	b, _ := os.ReadFile(w.path("wine/drive_c/fake/calls"))
	os.Remove(w.path("wine/drive_c/fake/calls"))
	for line := range strings.Lines(string(b)) {
		var call []string
		if err := json.Unmarshal([]byte(line), &call); err != nil {
			w.t.Fatal(err)
		}
		calls = append(calls, strings.Join(call, " "))
	}
	return calls
}

const (
	folder = "Windows/System32/drivers/CrowdStrike/"
	bad    = folder + "C-00000291-00000000-00000032.sys"
	good   = folder + "C-00000291-00000000-00000033.sys"
)

func content(own string) string { return "\xAA\xAA\xAA\xAA\x01\x00\x23\x01" + own }

// installWindows fills a folder with Windows, the faulty file and the good one.
func installWindows(t *testing.T, dir string) {
	t.Helper()
	for name, f := range map[string]struct {
		hour, minute int
		content      string
	}{
		"Windows/System32/config/SYSTEM": {1, 0, "regf"},
		bad:                              {4, 9, content("bad")},
		good:                             {5, 27, content("good")},
	} {
		p := filepath.Join(dir, name)
		at := time.Date(2024, 7, 19, f.hour, f.minute, 0, 0, time.UTC)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(f.content), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(p, at, at); err != nil {
			t.Fatal(err)
		}
	}
}

func exists(name string) bool { _, err := os.Stat(name); return err == nil }

// A desk is a rescue server and what it needs.
type desk struct {
	t      *testing.T
	s      *rescue.Server
	dir    string
	filed  []keytest.Filing
	ledger []bitlocker.Release
	logs   bytes.Buffer
	host   inventory.Host
}

// Lookup and Record make a desk its own escrow and ledger.
func (d *desk) Lookup(_ context.Context, q bitlocker.Query) (bitlocker.Key, error) {
	for _, f := range d.filed {
		if f.ID == q.ID {
			return f.Key, nil
		}
	}
	return bitlocker.Key{}, bitlocker.ErrNoKey
}

func (d *desk) Record(_ context.Context, r bitlocker.Release) error {
	d.ledger = append(d.ledger, r)
	return nil
}

func newDesk(t *testing.T, filed ...keytest.Filing) *desk {
	t.Helper()
	d := &desk{t: t, dir: filepath.Join(t.TempDir(), "rescue"), filed: filed, host: inventory.Host{Name: "pc1"}}
	cards, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cards {
		d.host.MAC = append(d.host.MAC, c.HardwareAddr.String())
	}
	d.s, err = rescue.Start(t.Context(), rescue.Config{
		Dir: d.dir, AgentListen: "127.0.0.1:0", ImageListen: "127.0.0.1:0",
		Base: rescue.StubImage(), Records: &rescue.MemRecords{},
		Broker: &bitlocker.Broker{Sources: []bitlocker.Source{d}, Ledger: d},
		Log:    slog.New(slog.NewTextHandler(&d.logs, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.s.Close() })
	return d
}

// repair boots the host, as far as Wine goes, and waits for its report.
func (d *desk) repair(w *winePE) (rep remediate.Report, repairErr error, console string) {
	d.t.Helper()
	target := remediate.Target{Run: "r1", Attempt: 1, Host: d.host, Route: inventory.Route{Driver: "redfish"}}
	d.insert(w, target)
	pb, err := playbooks.Open("crowdstrike-291")
	if err != nil {
		d.t.Fatal(err)
	}
	said := make(chan string, 1)
	go func() {
		out, err := w.run("wine", `C:\unbrick-agent.exe`, "winpe", "--disks", "1s", "--end", "poweroff", "--limit", "2m")
		if err != nil {
			out += err.Error()
		}
		said <- out
	}()
	ctx, cancel := context.WithTimeout(d.t.Context(), time.Minute)
	defer cancel()
	rep, repairErr = d.s.Repair(ctx, target, pb)
	console = <-said
	d.t.Logf("console:\n%s", console)
	return rep, repairErr, console
}

// insert puts the configuration of the target on the medium.
func (d *desk) insert(w *winePE, target remediate.Target) {
	d.t.Helper()
	img, err := d.s.Image(d.t.Context(), target)
	if err != nil {
		d.t.Fatal(err)
	}
	resp, err := http.Get(img.URL)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	cfg, err := agent.ConfigFromImage(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	window, err := cfg.Window()
	if err != nil {
		d.t.Fatal(err)
	}
	if err := os.WriteFile(w.path("cd/"+windows.ConfigName), window, 0o644); err != nil {
		d.t.Fatal(err)
	}
}

// TestWine runs the agent's Windows build, which knows nothing of the test, against a real
// rescue server.
func TestWine(t *testing.T) {
	w := newWinePE(t)
	t.Run("no disk", func(t *testing.T) {
		d := newDesk(t)
		_, err, _ := d.repair(w)
		if err == nil || !strings.Contains(err.Error(), "Intel VMD") {
			t.Errorf("%v", err)
		}
	})
	dir := w.disk("d", ntfs())
	t.Run("repairs", func(t *testing.T) {
		installWindows(t, dir)
		d := newDesk(t)
		rep, err, console := d.repair(w)
		if err != nil {
			t.Fatalf("%v\n%s", err, &d.logs)
		}
		if exists(filepath.Join(dir, bad)) || !exists(filepath.Join(dir, good)) {
			t.Error("the volume is not as it should be")
		}
		if removed := rep.Result.Removed(); len(removed) != 1 || removed[0].Path != bad {
			t.Errorf("removed %v", removed)
		} else if b, err := os.ReadFile(filepath.Join(d.dir, "quarantine", removed[0].SHA256)); err != nil || string(b) != content("bad") {
			t.Errorf("quarantine: %q, %v", b, err)
		}
		if !strings.Contains(console, "the server has the report") {
			t.Error("the console does not say so")
		}
		if calls := w.calls(); len(calls) == 0 || calls[len(calls)-1] != "wpeutil shutdown" {
			t.Errorf("ended by %v", calls)
		}
	})
}
