package winrm_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"unbrick/playbooks"
	"unbrick/remediate"
	"unbrick/remediate/driver/winrm"
	"unbrick/remediate/lab/testenv"
	"unbrick/remediate/winrm/winrmtest"
)

// A bottle is a Windows that Wine plays.
type bottle struct{ dir string }

// newBottle makes one, with stand-ins for the programs that Wine lacks.
func newBottle(t *testing.T) *bottle {
	testenv.Need(t, "wine", "wineserver", "x86_64-w64-mingw32-gcc")
	b := &bottle{t.TempDir()}
	tools := filepath.Join(b.dir, "run.exe")
	if out, err := exec.Command("x86_64-w64-mingw32-gcc", "-O1", "-s", "-o", tools, "testdata/tools.c").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Cleanup(func() {
		cmd := exec.Command("wineserver", "-k")
		cmd.Env = b.env()
		cmd.Run()
		cmd = exec.Command("wineserver", "-w")
		cmd.Env = b.env()
		cmd.Run()
	})
	b.stay(t)
	image, err := os.ReadFile(tools)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"certutil.exe", "wmic.exe"} {
		b.write(t, "tools/"+name, image, time.Now())
	}
	return b
}

func (b *bottle) env() []string {
	return append(os.Environ(), "WINEPREFIX="+filepath.Join(b.dir, "prefix"), "WINEDEBUG=-all", "DISPLAY=", `WINEPATH=C:\tools`)
}

// stay starts a program that waits, so that Wine does not start anew for every command.
func (b *bottle) stay(t *testing.T) {
	t.Helper()
	cmd := exec.Command("wine", "cmd.exe", "/d", "/q")
	cmd.Env = b.env()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err == nil {
		cmd.Stdout, err = os.Create(filepath.Join(b.dir, "stay"))
	}
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	in.Write([]byte("mkdir C:\\tools\r\n"))
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(b.path("tools")); err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal("Wine does not start")
		}
	}
}

// path is where drive C: has name.
func (b *bottle) path(name string) string { return filepath.Join(b.dir, "prefix/drive_c", name) }

func (b *bottle) write(t *testing.T, name string, content []byte, mtime time.Time) {
	t.Helper()
	p := b.path(name)
	err := os.MkdirAll(filepath.Dir(p), 0o755)
	if err == nil {
		err = os.WriteFile(p, content, 0o644)
	}
	if err == nil {
		err = os.Chtimes(p, mtime, mtime)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// run is a handler that runs command lines by cmd.exe.
func (b *bottle) run(ctx context.Context, c *winrmtest.Command) int {
	if strings.HasPrefix(c.Line, "echo %COMPUTERNAME%") {
		c.Stdout.Write([]byte("H1\r\n"))
		return 1
	}
	f, err := os.CreateTemp(b.dir, "line")
	if err != nil {
		return 1
	}
	defer os.Remove(f.Name())
	f.WriteString(c.Line)
	f.Close()
	cmd := exec.CommandContext(ctx, "wine", filepath.Join(b.dir, "run.exe"), "Z:"+strings.ReplaceAll(f.Name(), "/", `\`))
	cmd.Env = b.env()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stdout, cmd.Stderr = c.Stdout, c.Stderr
	cmd.Run()
	return cmd.ProcessState.ExitCode()
}

// TestPlainForm carries a playbook out by real command lines, on files. wmic's stand-in is two
// hours east of Greenwich.
func TestPlainForm(t *testing.T) {
	b := newBottle(t)
	const dir = "windows/system32/drivers/CrowdStrike/"
	early, late := time.Date(2024, 7, 19, 4, 8, 59, 0, time.UTC), time.Date(2024, 7, 19, 5, 26, 59, 0, time.UTC)
	for name, f := range map[string]file{
		badly:                       {bad, kind + strings.Repeat("faulty ", 6000)},
		"C-00000291 (copy) & 2.SYS": {late, kind + "late"},
		"C-00000291-early.sys":      {early, kind + "early"},
		"C-00000291-good.sys":       {good, kind + "good"},
		"C-00000291-other.sys":      {bad, "no header"},
		"C-00000291-empty.sys":      {bad, ""},
		"C-00000285-x.sys":          {bad, kind},
		"sub/C-00000291-deep.sys":   {bad, kind},
	} {
		b.write(t, dir+name, []byte(f.content), f.time)
	}
	w := sick(t, func(w *windows, o *winrmtest.Options) { o.Handler = b.run })
	o := options()
	o.Times.Silence, o.Times.Catch = time.Minute, 3*time.Minute
	// PowerShell is not there: the second command line says so, and the plain form follows.
	var first remediate.Report
	for i := range 2 {
		r, err := repair(t, w, o)
		if err != nil {
			t.Fatal(err)
		}
		removed := map[string]bool{}
		for _, f := range r.Removed() {
			removed[f.Path[strings.LastIndexByte(f.Path, '/')+1:]] = true
		}
		if len(removed) != 2 || !removed[badly] || !removed["C-00000291 (copy) & 2.SYS"] || r.Proof() != nil || r.Verdict() != playbooks.Both || r.Agent != "winrm, cmd" {
			t.Fatalf("call %d: %+v", i, r)
		}
		if i == 0 {
			first = r
		}
		if len(r.Volumes[0].Findings[0].Files) != len(first.Volumes[0].Findings[0].Files) {
			t.Errorf("the second report is another: %+v", r)
		}
	}
	for name, there := range map[string]bool{badly: false, "C-00000291 (copy) & 2.SYS": false, "C-00000291-early.sys": true, "C-00000291-good.sys": true,
		"C-00000291-other.sys": true, "C-00000291-empty.sys": true, "C-00000285-x.sys": true, "sub/C-00000291-deep.sys": true} {
		if _, err := os.Stat(b.path(dir + name)); (err == nil) != there {
			t.Errorf("%s: %v", name, err)
		}
	}
	kept, err := os.ReadFile(b.path("ProgramData/unbrick/r1/0/") + "/1~" + badly)
	if err != nil {
		kept, err = os.ReadFile(b.path("ProgramData/unbrick/r1/0/") + "/2~" + badly)
	}
	if err != nil || !bytes.Equal(kept, []byte(kind+strings.Repeat("faulty ", 6000))) {
		t.Errorf("the copy: %d bytes, %v", len(kept), err)
	}
	// A good file among the moved ones, as if it had come while somebody looked, goes back.
	b.write(t, "ProgramData/unbrick/r1/0/9~C-00000291-came.sys", []byte(kind+"came"), good)
	b.write(t, dir+"C-00000291-again.sys", []byte(kind+"again"), bad)
	o.NoPowerShell = true
	if _, err := winrm.New(o).Repair(t.Context(), w.target(), library(t)); err == nil || !strings.Contains(err.Error(), "it was put back") {
		t.Error(err)
	}
	if got, err := os.ReadFile(b.path(dir + "C-00000291-came.sys")); string(got) != kind+"came" {
		t.Errorf("the good file: %q, %v", got, err)
	}
	if _, err := os.Stat(b.path(dir + "C-00000291-again.sys")); err == nil {
		t.Error("a faulty file that came again is still there")
	}
}
