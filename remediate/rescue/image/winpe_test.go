package image_test

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"unbrick/remediate/lab/testenv"
	"unbrick/remediate/rescue"
	"unbrick/remediate/rescue/image"
	"unbrick/remediate/rescue/wire"
)

// Microsoft's parts cannot be had here: the boot files are dummies, and the WIM has the names
// of WinPE alone. What is checked is what is ours; that the firmware starts it is not.

// tree fills a new folder.
func tree(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, n := range names {
		p := filepath.Join(dir, filepath.FromSlash(n))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, bytes.Repeat([]byte(filepath.Base(n)), 300), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// copype are the files of the ADK's copype that matter, and some that must stay out.
func copype(t *testing.T) string {
	return tree(t, "media/bootmgr", "media/bootmgr.efi", "media/Boot/BCD", "media/Boot/boot.sdi", "media/Boot/bootfix.bin", "media/Boot/Fonts/wgl4_boot.ttf",
		"media/EFI/Boot/bootx64.efi", "media/EFI/Microsoft/Boot/BCD", "media/sources/install.wim",
		"fwfiles/etfsboot.com", "fwfiles/efisys.bin", "fwfiles/efisys_noprompt.bin")
}

// run runs a program and returns what it printed.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// capture makes a WIM of these files.
func capture(t *testing.T, arch string, names ...string) string {
	t.Helper()
	testenv.Need(t, "wimcapture", "wiminfo")
	file := filepath.Join(t.TempDir(), "boot.wim")
	run(t, "wimcapture", tree(t, names...), file, "Microsoft Windows PE", "--boot")
	run(t, "wiminfo", file, "1", "--image-property", "WINDOWS/ARCH="+arch, "--image-property", "WINDOWS/VERSION/MAJOR=10",
		"--image-property", "WINDOWS/VERSION/MINOR=0", "--image-property", "WINDOWS/VERSION/BUILD=26100")
	return file
}

// In the spelling of one of Microsoft's images: wimlib tells case apart.
var peFiles = []string{"Windows/system32/wpeinit.exe", "Windows/system32/wpeutil.exe", "Windows/system32/winpeshl.exe", "Windows/system32/WINPESHL.INI", "Windows/system32/startnet.cmd"}

const amd64 = "9"

func TestWinPE(t *testing.T) {
	testenv.Need(t, "wimupdate", "wimverify", "wimextract", "wimdir", "xorriso", "go")
	driver := tree(t, "iaStorVD.inf", "iaStorVD.sys", "sub dir/nic.INF")
	wim := capture(t, amd64, append(peFiles, "Windows/system32/manage-bde.exe")...)
	before, err := os.ReadFile(wim)
	if err != nil {
		t.Fatal(err)
	}
	out, agent := filepath.Join(t.TempDir(), "it's an image"), filepath.Join(t.TempDir(), "agent.exe")
	if err := os.WriteFile(agent, bytes.Repeat([]byte("agent"), 1000), 0o644); err != nil {
		t.Fatal(err)
	}
	m, err := image.BuildWinPE(t.Context(), image.WinPEOptions{Out: out, Media: copype(t), WIM: wim, Drivers: []string{driver}, Agent: agent, Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(wim); err != nil || !bytes.Equal(before, after) {
		t.Error("the user's WIM was changed")
	}
	if m.Profile != image.WinPE || m.Kernel != "WinPE 10.0.26100 (Microsoft Windows PE)" || m.Warnings != nil {
		t.Errorf("manifest: %+v", m)
	}
	checkServed(t, out)
	iso := filepath.Join(out, image.ISOName)
	copied := filepath.Join(t.TempDir(), "boot.wim")
	files := extract(t, iso)
	if err := os.WriteFile(copied, files["sources/boot.wim"], 0o600); err != nil {
		t.Fatal(err)
	}
	checkWIM(t, copied, agent)
	checkBoot(t, iso, files)
}

// checkServed opens the image as the program does, by its manifest and without.
func checkServed(t *testing.T, out string) {
	img, err := image.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	base, f, err := rescue.OpenBase(filepath.Join(out, image.ISOName))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	stick := filepath.Join(t.TempDir(), "stick.img")
	if err := image.USB(stick, img, wire.Config{Stick: &wire.Stick{ID: "00000001"}}); err == nil || !strings.Contains(err.Error(), "WinPE") {
		t.Errorf("a stick: %v", err)
	}
	if img.ConfigOffset != base.ConfigOffset || img.Size != base.Size {
		t.Errorf("%d and %d, %d and %d", img.ConfigOffset, base.ConfigOffset, img.Size, base.Size)
	}
}

// extract returns what is in the ISO, by paths in small letters, as xorriso reads it.
func extract(t *testing.T, iso string) map[string][]byte {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "iso")
	run(t, "xorriso", "-osirrox", "on", "-indev", iso, "-extract", "/", dir)
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(name string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(dir, name)
		files[filepath.ToSlash(rel)], err = os.ReadFile(name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// checkWIM checks with wimlib what Windows would start.
func checkWIM(t *testing.T, wim, agent string) {
	run(t, "wimverify", wim)
	if info := run(t, "wiminfo", wim); !strings.Contains(strings.Join(strings.Fields(info), " "), "Boot Index: 1 ") {
		t.Errorf("it does not boot: %s", info)
	}
	dir := t.TempDir()
	run(t, "wimapply", wim, "1", dir)
	want, err := os.ReadFile(agent)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "unbrick/unbrick-agent.exe")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the agent is not what was put in: %v", err)
	}
	for _, name := range []string{"unbrick/drivers/1/iaStorVD.sys", "unbrick/drivers/1/sub dir/nic.INF", "Windows/system32/wpeinit.exe"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	// One of each, whatever its case: of two Windows would take any.
	names, err := os.ReadDir(filepath.Join(dir, "Windows/system32"))
	if err != nil || len(names) != len(peFiles)+1 {
		t.Errorf("%v, %v", names, err)
	}
	for name, line := range map[string]string{"startnet.cmd": "unbrick-agent.exe winpe\r\n", "WINPESHL.INI": `/c %SYSTEMROOT%\System32\startnet.cmd` + "\r\n"} {
		i := slices.IndexFunc(names, func(e os.DirEntry) bool { return strings.EqualFold(e.Name(), name) })
		if b, err := os.ReadFile(filepath.Join(dir, "Windows/system32", names[i].Name())); err != nil || !strings.Contains(string(b), line) {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
}

// checkBoot checks the boot catalogue, and that nothing that waits for a key is there.
func checkBoot(t *testing.T, iso string, files map[string][]byte) {
	want := []string{"boot/bcd", "boot/boot.sdi", "boot/etfsboot.com", "boot/fonts/wgl4_boot.ttf", "bootmgr", "bootmgr.efi",
		"efi/boot/bootx64.efi", "efi/microsoft/boot/bcd", "efi/microsoft/boot/efisys_noprompt.bin", "sources/boot.wim", "unbrick.json"}
	delete(files, "boot.catalog") // xorriso's
	if got := slices.Sorted(maps.Keys(files)); !slices.Equal(got, want) {
		t.Errorf("in the ISO: %v", got)
	}
	said := run(t, "xorriso", "-indev", iso, "-report_el_torito", "plain")
	for _, words := range []string{"BIOS", "UEFI", "/boot/etfsboot.com", "/efi/microsoft/boot/efisys_noprompt.bin"} {
		if !strings.Contains(said, words) {
			t.Errorf("the boot catalogue has no %s:\n%s", words, said)
		}
	}
}

func TestWinPERefuses(t *testing.T) {
	testenv.Need(t, "wimupdate", "xorriso", "go")
	good, media := capture(t, amd64, peFiles...), copype(t)
	without := func(names ...string) string {
		dir := copype(t)
		for _, n := range names {
			if err := os.Remove(filepath.Join(dir, n)); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	for name, c := range map[string]struct {
		o     image.WinPEOptions
		words []string
	}{
		"no media":       {image.WinPEOptions{WIM: good}, []string{"copype", "ADK"}},
		"nothing there":  {image.WinPEOptions{WIM: good, Media: t.TempDir()}, []string{"bootmgr", "boot/boot.sdi", "efi/boot/bootx64.efi", "etfsboot.com", "efisys_noprompt.bin", "copype"}},
		"a key to press": {image.WinPEOptions{WIM: good, Media: without("fwfiles/efisys_noprompt.bin")}, []string{"lacks efi/microsoft/boot/efisys_noprompt.bin\n", "press a key"}},
		"no WIM":         {image.WinPEOptions{Media: media}, []string{"sources/boot.wim", "WinRE.wim"}},
		"WIM not there":  {image.WinPEOptions{Media: media, WIM: "/nowhere/boot.wim"}, []string{"/nowhere/boot.wim"}},
		"not a WIM":      {image.WinPEOptions{Media: media, WIM: filepath.Join(media, "media/bootmgr")}, []string{"cannot read", "bootmgr"}},
		"no such image":  {image.WinPEOptions{Media: media, WIM: good, Index: 7}, []string{"image 7"}},
		"Windows itself": {image.WinPEOptions{Media: media, WIM: capture(t, amd64, "Windows/System32/cmd.exe")}, []string{"is no WinPE", "wpeinit.exe"}},
		"ARM":            {image.WinPEOptions{Media: media, WIM: capture(t, "12", peFiles...)}, []string{"ARM64", "x86_64"}},
		"no driver":      {image.WinPEOptions{Media: media, WIM: good, Drivers: []string{media}}, []string{".inf"}},
		"out taken":      {image.WinPEOptions{Media: media, WIM: good, Out: media}, []string{"something else"}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.o.Out == "" {
				c.o.Out = filepath.Join(t.TempDir(), "image")
			}
			_, err := image.BuildWinPE(t.Context(), c.o)
			for _, w := range c.words {
				if err == nil || !strings.Contains(err.Error(), w) {
					t.Errorf("error %v does not say %q", err, w)
				}
			}
			if left, _ := os.ReadDir(filepath.Dir(c.o.Out)); c.o.Out != media && len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// A WinPE that opens no BitLocker volume is built, and the manifest says so.
func TestWinPEWarns(t *testing.T) {
	testenv.Need(t, "wimupdate", "wimverify", "xorriso", "go")
	out := filepath.Join(t.TempDir(), "image")
	m, err := image.BuildWinPE(t.Context(), image.WinPEOptions{Out: out, Media: filepath.Join(copype(t), "media"), WIM: capture(t, amd64, peFiles...), Source: "../../.."})
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Warnings) != 1 || !strings.Contains(m.Warnings[0], "WinPE-SecureStartup") {
		t.Errorf("warnings: %v", m.Warnings)
	}
	wim := filepath.Join(t.TempDir(), "boot.wim")
	if err := os.WriteFile(wim, extract(t, filepath.Join(out, image.ISOName))["sources/boot.wim"], 0o600); err != nil {
		t.Fatal(err)
	}
	agent := run(t, "wimextract", wim, "1", "/unbrick/unbrick-agent.exe", "--to-stdout")
	if !strings.HasPrefix(agent, "MZ") {
		t.Errorf("the agent that was built is no Windows program: %q", agent[:min(2, len(agent))])
	}
}
