package image_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"unbrick/remediate/lab/testenv"
	"unbrick/remediate/rescue/image"
)

// TestStartnet runs what WinPE runs, with Wine's cmd: drivers, network, agent, in that order,
// and a reboot if the agent did not see to the end.
func TestStartnet(t *testing.T) {
	testenv.Need(t, "wine", "wineboot", "wineserver", "x86_64-w64-mingw32-gcc", "wimupdate", "wimapply", "xorriso", "go")
	prefix := filepath.Join(t.TempDir(), "wine")
	env := append(os.Environ(), "WINEPREFIX="+prefix, "WINEDEBUG=-all", "DISPLAY=",
		"WINEDLLOVERRIDES=mscoree,mshtml,winemenubuilder.exe,explorer.exe,plugplay.exe,winebus.sys,rpcss.exe=")
	wine := func(name string, args ...string) string {
		cmd := exec.Command(name, args...)
		cmd.Env = env
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
		return string(out)
	}
	wine("wineboot", "-i")
	t.Cleanup(func() {
		cmd := exec.Command("wineserver", "-k", "-w")
		cmd.Env = env
		cmd.Run() // fails where none runs any more
	})

	out, fake := filepath.Join(t.TempDir(), "image"), filepath.Join(t.TempDir(), "called.exe")
	run(t, "x86_64-w64-mingw32-gcc", "-O1", "-s", "-o", fake, "testdata/called.c")
	_, err := image.BuildWinPE(t.Context(), image.WinPEOptions{Out: out, Media: copype(t), WIM: capture(t, amd64, peFiles...), Agent: fake,
		Drivers: []string{tree(t, "sub dir/vmd.inf", "vmd.sys"), tree(t, "NIC.INF")}})
	if err != nil {
		t.Fatal(err)
	}
	wim := filepath.Join(t.TempDir(), "boot.wim")
	if err := os.WriteFile(wim, extract(t, filepath.Join(out, image.ISOName))["sources/boot.wim"], 0o600); err != nil {
		t.Fatal(err)
	}
	applied := t.TempDir()
	run(t, "wimapply", wim, "1", applied)
	c := filepath.Join(prefix, "drive_c")
	if err := os.CopyFS(filepath.Join(c, "unbrick"), os.DirFS(filepath.Join(applied, "unbrick"))); err != nil {
		t.Fatal(err)
	}
	for name, from := range map[string]string{
		"startnet.cmd": filepath.Join(applied, "Windows/system32/startnet.cmd"),
		"wpeinit.exe":  fake, "drvload.exe": fake, "wpeutil.exe": fake,
	} {
		b, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(filepath.Join(c, "windows/system32", name), b, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	const loads = `drvload c:\unbrick\drivers\1\sub-dir\vmd.inf drvload c:\unbrick\drivers\2\nic.inf wpeinit c:\unbrick\unbrick-agent.exe winpe`
	for _, tt := range []struct{ name, want string }{{"ends", loads}, {"crashes", loads + " wpeutil reboot"}} {
		if tt.name == "crashes" {
			if err := os.WriteFile(filepath.Join(c, "crash"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		said := wine("wine", "cmd", "/c", `C:\windows\system32\startnet.cmd`)
		b, err := os.ReadFile(filepath.Join(c, "called"))
		if err != nil {
			t.Fatalf("%v\n%s", err, said)
		}
		os.Remove(filepath.Join(c, "called"))
		words := strings.Fields(strings.NewReplacer(`"`, "", "sub dir", "sub-dir").Replace(strings.ToLower(string(b))))
		if got := strings.Join(words, " "); got != tt.want {
			t.Errorf("where the agent %s were called\n%s\nnot\n%s\n%s", tt.name, got, tt.want, said)
		}
	}
}
