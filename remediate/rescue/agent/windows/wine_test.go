//go:build linux

package windows_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"unbrick/bitlocker"
	"unbrick/bitlocker/fve"
	"unbrick/bitlocker/fve/fvetest"
	"unbrick/bitlocker/keytest"
	"unbrick/inventory"
	"unbrick/playbooks"
	"unbrick/playbooks/hive"
	"unbrick/playbooks/hivetest"
	"unbrick/remediate"
	"unbrick/remediate/lab/testenv"
	"unbrick/remediate/rescue"
	"unbrick/remediate/rescue/agent"
	"unbrick/remediate/rescue/agent/windows"
	"unbrick/remediate/rescue/wire"
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
	w.env = append(os.Environ(), "WINEPREFIX="+w.path("wine"), "WINEDEBUG=-all", "DISPLAY=", "WINEDLLOVERRIDES="+needless+"=")
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
	if err := os.WriteFile(w.path("wine/drive_c/winpe.reg"), []byte(registry), 0o600); err != nil {
		t.Fatal(err)
	}
	w.must("wine", "regedit", "/S", `C:\winpe.reg`)
	w.drive("e", w.path("cd"))
	return w
}

// needless are parts of Wine that take most of its time to start, and nothing needs here.
const needless = "mscoree,mshtml,winemenubuilder.exe,explorer.exe,plugplay.exe,winebus.sys,rpcss.exe"

// registry says what the letters are, and has the key that WinPE is known by.
const registry = `REGEDIT4

[HKEY_LOCAL_MACHINE\SYSTEM\CurrentControlSet\Control\MiniNT]

[HKEY_LOCAL_MACHINE\Software\Wine\Drives]
"d:"="hd"
"e:"="cdrom"
"f:"="hd"
"s:"="hd"
`

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

// drive gives a letter to a folder. Wine sees it when it starts anew.
func (w *winePE) drive(letter, folder string) {
	w.t.Helper()
	link := w.path("wine/dosdevices/" + letter + ":")
	os.Remove(link)
	if err := os.Symlink(folder, link); err != nil {
		w.t.Fatal(err)
	}
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
	w.drive(letter, w.path(folder))
	return w.path(folder)
}

// remove takes a volume of the host away.
func (w *winePE) remove(letter string) {
	for _, name := range []string{"wine/dosdevices/" + letter + ":", "wine/dosdevices/" + letter + "::", "volumes/" + letter, "wine/drive_c/fake/" + letter} {
		if err := os.RemoveAll(w.path(name)); err != nil {
			w.t.Error(err)
		}
	}
}

// ntfs is the first sectors of an NTFS volume.
func ntfs() []byte {
	b := make([]byte, 8192)
	copy(b, "\xeb\x52\x90NTFS    ")
	return b
}

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
	allow  wire.Allow
	pb     *playbooks.Playbook // crowdstrike-291 if nil
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
		Terms:  func(remediate.Target) rescue.Terms { return rescue.Terms{Allow: d.allow} },
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
	pb := d.pb
	if pb == nil {
		var err error
		if pb, err = playbooks.Open("crowdstrike-291"); err != nil {
			d.t.Fatal(err)
		}
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
	w.sub("no disk", func(t *testing.T) {
		_, err, _ := newDesk(t).repair(w)
		if err == nil || !strings.Contains(err.Error(), "Intel VMD") {
			t.Errorf("%v", err)
		}
	})
	w.sub("locked, and no manage-bde", w.noManager)
	w.build("./testdata/fake", w.path("wine/drive_c/windows/system32/manage-bde.exe"))
	w.sub("locked, and nobody has the key", w.noKey)
	w.sub("locked", w.locked)
	w.sub("locked, in a form that only Windows reads", w.unknownForm)
	w.sub("repairs", w.repairs)
	w.sub("a playbook for what Windows is started from", w.bootStep)
	w.remove("d")
	w.build("./testdata/fake", w.path("wine/drive_c/windows/system32/bcdedit.exe"))
	w.sub("keyless", w.keyless)
}

// sub is t.Run; what fails in a helper fails that test.
func (w *winePE) sub(name string, f func(t *testing.T)) {
	outer := w.t
	outer.Run(name, func(t *testing.T) {
		w.t = t
		f(t)
	})
	w.t = outer
}

func (w *winePE) repairs(t *testing.T) {
	dir := w.disk("d", ntfs())
	installWindows(t, dir)
	d := newDesk(t)
	rep, err, console := d.repair(w)
	if err != nil {
		t.Fatalf("%v\n%s", err, &d.logs)
	}
	repaired(t, dir)
	if removed := rep.Result.Removed(); len(removed) != 1 || removed[0].Path != bad {
		t.Errorf("removed %v", removed)
	} else if b, err := os.ReadFile(filepath.Join(d.dir, "quarantine", removed[0].SHA256)); err != nil || string(b) != content("bad") {
		t.Errorf("quarantine: %q, %v", b, err)
	}
	if !strings.Contains(console, "the server has the report") {
		t.Error("the console does not say so")
	}
	if calls := w.calls(); len(calls) == 0 || calls[len(calls)-1] != powerOff {
		t.Errorf("ended by %v", calls)
	}
}

// repaired checks that the volume lost the faulty file, and nothing else.
func repaired(t *testing.T, dir string) {
	t.Helper()
	if exists(filepath.Join(dir, bad)) || !exists(filepath.Join(dir, good)) {
		t.Errorf("the faulty file is there: %t, the good one: %t", exists(filepath.Join(dir, bad)), exists(filepath.Join(dir, good)))
	}
}

// filings are two recovery passwords of one volume.
func filings() []keytest.Filing {
	src := rand.NewPCG(rand.Uint64(), rand.Uint64())
	return []keytest.Filing{
		{ID: keytest.NewKeyID(src), Key: keytest.NewKey(src), Host: "pc1"},
		{ID: keytest.NewKeyID(src), Key: keytest.NewKey(src), Host: "pc1"},
	}
}

// lockedDisk adds a BitLocker volume with Windows on it, as manage-bde knows it by its second
// recovery password.
func (w *winePE) lockedDisk(t *testing.T, letter string, filed []keytest.Filing) (folder, image string) {
	t.Helper()
	image = w.path("volumes/new.img")
	w.mkdir("volumes", "wine/drive_c/fake/"+letter)
	if err := os.WriteFile(image, append(ntfs(), make([]byte, 4<<20)...), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := fvetest.EncryptFile(image, fvetest.Options{Blocks: [3]int64{1 << 20, 2 << 20, 3 << 20}, Protectors: []fvetest.Protector{
		{Kind: fve.TPM, ID: bitlocker.KeyID{1}},
		{Kind: fve.RecoveryPassword, ID: filed[0].ID, Key: filed[0].Key},
		{Kind: fve.RecoveryPassword, ID: filed[1].ID, Key: filed[1].Key},
	}})
	if err != nil {
		t.Fatal(err)
	}
	sectors, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	installWindows(t, w.path("wine/drive_c/fake/"+letter+"/files"))
	if err := os.WriteFile(w.path("wine/drive_c/fake/"+letter+"/key"), []byte(filed[1].Key.Reveal()), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.remove(letter) })
	return w.disk(letter, sectors), w.path("volumes/" + letter + ".img")
}

// silent checks that no digit of the keys got into what the agent or the server said.
func silent(t *testing.T, filed []keytest.Filing, texts ...string) {
	t.Helper()
	for _, f := range filed {
		for _, text := range texts {
			if keytest.Leaks(f.Key, text) {
				t.Errorf("a key is in %s", text)
			}
		}
	}
}

// A WinPE that cannot open BitLocker volumes asks for no key, and says what it lacks.
func (w *winePE) noManager(t *testing.T) {
	filed := filings()
	w.lockedDisk(t, "f", filed)
	d := newDesk(t, filed...)
	rep, err, _ := d.repair(w)
	if err == nil || !strings.Contains(err.Error(), windows.Component) || rep.Verdict() != playbooks.Locked {
		t.Errorf("%s, %v", rep.Verdict(), err)
	}
	if len(d.ledger) != 0 {
		t.Errorf("released %v", d.ledger)
	}
}

func (w *winePE) noKey(t *testing.T) {
	filed := filings()
	dir, _ := w.lockedDisk(t, "f", filed)
	d := newDesk(t, filed[0]) // which opens nothing
	w.calls()
	rep, err, console := d.repair(w)
	if err == nil || !strings.Contains(err.Error(), "0x80310027") || rep.Verdict() != playbooks.Locked {
		t.Errorf("%s, %v", rep.Verdict(), err)
	}
	if len(d.ledger) != 1 || len(w.calls()) != 2 || exists(filepath.Join(dir, "Windows")) {
		t.Errorf("released %v", d.ledger)
	}
	silent(t, filed, console, err.Error(), d.logs.String())
}

func (w *winePE) locked(t *testing.T) {
	filed := filings()
	dir, _ := w.lockedDisk(t, "f", filed)
	d := newDesk(t, filed[1])
	w.calls()
	rep, err, console := d.repair(w)
	if err != nil {
		t.Fatalf("%v\n%s", err, &d.logs)
	}
	repaired(t, dir)
	if len(d.ledger) != 1 || d.ledger[0].ID != filed[1].ID || len(rep.Released) != 1 || rep.Released[0] != filed[1].ID.String() {
		t.Errorf("ledger %v, released %v", d.ledger, rep.Released)
	}
	want := []string{unlockCall + filed[1].Key.Reveal(), powerOff}
	if got := w.calls(); !slices.Equal(got, want) {
		t.Errorf("%d programs were started, or not as they should be", len(got)) // they hold the key
	}
	silent(t, filed, console, d.logs.String())
}

// Where the sectors do not say what protects the volume, manage-bde does, in its own language.
func (w *winePE) unknownForm(t *testing.T) {
	filed := filings()
	dir, image := w.lockedDisk(t, "f", filed)
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(make([]byte, 4<<20), 4096)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	said := "Volume \"F:\" [Bezeichnung unbekannt]\r\nAlle Schlüsselschutzvorrichtungen\r\n\r\n    Numerisches Kennwort:\r\n      ID: {" + filed[1].ID.String() + "}\r\n"
	if err := os.WriteFile(w.path("wine/drive_c/fake/f/protectors"), []byte(said), 0o600); err != nil {
		t.Fatal(err)
	}
	d := newDesk(t, filed...)
	if _, err, _ := d.repair(w); err != nil {
		t.Fatalf("%v\n%s", err, &d.logs)
	}
	repaired(t, dir)
	if len(d.ledger) != 1 || d.ledger[0].ID != filed[1].ID {
		t.Errorf("ledger %v", d.ledger)
	}
}

const (
	storePath  = "volumes/s/EFI/Microsoft/Boot/"
	setCall    = `bcdedit /store S:\EFI\Microsoft\Boot\BCD /set ` + hivetest.Loader + ` safeboot network`
	clearCall  = `bcdedit /store S:\EFI\Microsoft\Boot\BCD /deletevalue ` + hivetest.Loader + ` safeboot`
	powerOff   = "wpeutil shutdown"
	unlockCall = "manage-bde -unlock F: -recoverypassword "
)

// bootDisk adds an EFI system partition with a boot store.
func (w *winePE) bootDisk(t *testing.T, store []byte) {
	t.Helper()
	sectors := make([]byte, 8192)
	copy(sectors, "\xeb\x58\x90MSDOS5.0")
	copy(sectors[82:], "FAT32   ")
	w.disk("s", sectors)
	w.mkdir(storePath)
	w.write(storePath+"BCD", store)
	t.Cleanup(func() { w.remove("s") })
}

// A Safe Mode flag that somebody left is cleared by a playbook, on the volume without Windows.
func (w *winePE) bootStep(t *testing.T) {
	w.bootDisk(t, windows.Store(hivetest.Loader, map[string][]hivetest.Key{hivetest.Loader: {windows.Network()}}))
	pb, err := playbooks.Parse("test", []byte("name: test\ntitle: test\nwhy: test\nsteps:\n  - safeboot: {}\n"))
	if err != nil {
		t.Fatal(err)
	}
	d := newDesk(t)
	d.pb = pb
	rep, err, _ := d.repair(w)
	if err != nil {
		t.Fatalf("%v\n%s", err, &d.logs)
	}
	w.called(powerOff)
	b, err := os.ReadFile(w.path(storePath + "BCD"))
	if err != nil {
		t.Fatal(err)
	}
	h, err := hive.Open(b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Get(`Objects\`+hivetest.Loader+`\Elements\25000080`, "Element"); !errors.Is(err, hive.ErrNotExist) {
		t.Errorf("the flag is there: %v; %+v", err, rep)
	}
}

// keyless has a Windows that its TPM opens start in Safe Mode, and sees it undone. Each part is
// a stay in WinPE.
func (w *winePE) keyless(t *testing.T) {
	normal := windows.Store(hivetest.Loader, map[string][]hivetest.Key{hivetest.Loader: nil})
	safe := windows.Store(hivetest.Loader, map[string][]hivetest.Key{hivetest.Loader: {windows.Network()}})
	w.bootDisk(t, normal)
	w.write("wine/drive_c/fake/bcd.cleared", normal)
	filed := filings()
	dir, _ := w.lockedDisk(t, "f", filed)
	allowed := wire.Allow{SafeMode: true}

	w.sub("not allowed", func(t *testing.T) {
		d := newDesk(t)
		rep, err, console := d.repair(w)
		if err == nil || rep.Verdict() != playbooks.Locked || !strings.Contains(console, "keyless] F:") || !strings.Contains(console, "safe-mode: the TPM alone opens the volume") {
			t.Errorf("%s, %v", rep.Verdict(), err)
		}
		w.called(powerOff)
	})
	w.sub("bcdedit fails", func(t *testing.T) {
		d := newDesk(t)
		d.allow = allowed
		if _, err, console := d.repair(w); err == nil || !strings.Contains(console, "its key is asked for") {
			t.Error(err)
		}
		w.called(setCall, powerOff)
		w.stands(normal, false)
	})
	w.sub("bcdedit does nothing", func(t *testing.T) {
		w.write("wine/drive_c/fake/bcd.set", normal)
		d := newDesk(t)
		d.allow = allowed
		if _, err, console := d.repair(w); err == nil || !strings.Contains(console, "did not set what it was told") {
			t.Error(err)
		}
		w.called(setCall, powerOff)
		w.stands(normal, false)
	})
	w.sub("set", func(t *testing.T) {
		w.write("wine/drive_c/fake/bcd.set", safe)
		d := newDesk(t, filed...)
		d.allow = allowed
		rep, err, _ := d.repair(w)
		var final *remediate.FinalError
		if err == nil || errors.As(err, &final) || !strings.Contains(err.Error(), "Safe Mode with Networking") || rep.Verdict() != playbooks.Locked {
			t.Errorf("%s, %v", rep.Verdict(), err)
		}
		if len(d.ledger) != 0 {
			t.Errorf("a key was given out: %v", d.ledger)
		}
		w.called(setCall, powerOff)
		w.stands(safe, true)
	})
	w.sub("undone when the host comes back", func(t *testing.T) {
		d := newDesk(t, filed[1])
		if _, err, _ := d.repair(w); err != nil {
			t.Fatalf("%v\n%s", err, &d.logs)
		}
		repaired(t, dir)
		w.called(clearCall, unlockCall+filed[1].Key.Reveal(), powerOff)
		w.stands(normal, false)
	})
}

func (w *winePE) write(name string, b []byte) {
	w.t.Helper()
	if err := os.WriteFile(w.path(name), b, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// called checks which programs were started since it was last asked.
func (w *winePE) called(want ...string) {
	w.t.Helper()
	if got := w.calls(); !slices.Equal(got, want) {
		w.t.Errorf("started %q, want %q", got, want)
	}
}

// stands checks the boot store, and whether a marker says that unbrick changed it.
func (w *winePE) stands(store []byte, marked bool) {
	w.t.Helper()
	if got, err := os.ReadFile(w.path(storePath + "BCD")); err != nil || !bytes.Equal(got, store) {
		w.t.Errorf("the boot store is not as it should be: %v", err)
	}
	b, err := os.ReadFile(w.path(storePath + windows.MarkerName))
	if (err == nil) != marked || marked && !strings.Contains(string(b), hivetest.Loader) {
		w.t.Errorf("marker: %s, %v", b, err)
	}
}
