package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// WinPE is the profile of images that start WinPE: for hosts that do not trust shim. They
// start from CD and virtual media alone.
const WinPE Profile = "winpe"

// WinPEOptions say what to make a WinPE image of. Microsoft's parts may not be passed on, so
// whoever builds it brings them.
type WinPEOptions struct {
	Out     string   // folder; as in Options
	Media   string   // folder with Microsoft's boot files: what copype makes, or Windows media
	WIM     string   // boot.wim, winpe.wim or WinRE.wim; empty means sources/boot.wim in Media
	Index   int      // of the image in the WIM; zero means the one that boots
	Drivers []string // folders with .inf files, loaded before the network and the disks are looked for
	Agent   string   // a built unbrick-agent for windows/amd64; empty means build it from source
	Source  string   // as in Options
	Version string   // as in Options
}

var winpeParts = []part{
	{"wiminfo", "wimtools"}, {"wimdir", "wimtools"}, {"wimupdate", "wimtools"}, {"wimverify", "wimtools"},
	{"xorriso", "xorriso"},
}

// BuildWinPE builds an image like Build's: an ISO with a place for the configuration of one
// host, and a manifest; [Open] takes it. It first names everything that is missing, and where
// it is to be had. What it warns of is in the manifest. WIM and Media are only read.
//
// Other than Build's, two builds are not the same bytes: wimlib writes the time into a WIM.
func BuildWinPE(ctx context.Context, o WinPEOptions) (*Manifest, error) {
	if o.Version == "" {
		o.Version = "dev"
	}
	if err := need(winpeParts); err != nil {
		return nil, err
	}
	b, err := o.check(ctx)
	if err != nil {
		return nil, err
	}
	work, err := os.MkdirTemp(filepath.Dir(filepath.Clean(o.Out)), ".unbrick-image-")
	if err != nil {
		return nil, fmt.Errorf("cannot build an image beside %s: %w", o.Out, err)
	}
	defer os.RemoveAll(work)
	m, err := b.build(ctx, work)
	if err != nil {
		return nil, err
	}
	return m, replace(o.Out, filepath.Join(work, "out"))
}

// A winpeBuild is one BuildWinPE whose parts are all there.
type winpeBuild struct {
	WinPEOptions
	wim   wim
	media media
}

// check returns an error that says what is wrong before any work is done.
func (o WinPEOptions) check(ctx context.Context) (*winpeBuild, error) {
	if o.Out == "" {
		return nil, errors.New("name the folder that the image goes to")
	}
	if err := replaceable(o.Out); err != nil {
		return nil, err
	}
	if err := (Options{Agent: o.Agent}).checkAgent(); err != nil {
		return nil, err
	}
	b := &winpeBuild{WinPEOptions: o}
	var err error
	if b.media, err = findMedia(o.Media); err != nil {
		return nil, err
	}
	if b.WIM == "" {
		if b.WIM = b.media.wim; b.WIM == "" {
			return nil, fmt.Errorf("%s has no sources/boot.wim; name one: winpe.wim of the Windows ADK's WinPE add-on, boot.wim of Windows media, or WinRE.wim, which can open BitLocker volumes", o.Media)
		}
	}
	if b.wim, err = openWIM(ctx, b.WIM, o.Index); err != nil {
		return nil, err
	}
	for _, dir := range o.Drivers {
		if err := checkDriver(dir); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// build does the work in a folder of its own; out in there is the result.
func (b *winpeBuild) build(ctx context.Context, work string) (*Manifest, error) {
	agent, err := Options{Agent: b.Agent, Source: b.Source, Version: b.Version}.agent(ctx, work, "windows")
	if err != nil {
		return nil, err
	}
	root, out := filepath.Join(work, "iso"), filepath.Join(work, "out")
	if err := b.media.copyTo(root); err != nil {
		return nil, fmt.Errorf("cannot copy the boot files: %w", err)
	}
	if err := b.fill(ctx, work, agent, filepath.Join(root, "sources", "boot.wim")); err != nil {
		return nil, fmt.Errorf("cannot put the agent into a copy of %s: %w", b.WIM, err)
	}
	if err := os.WriteFile(filepath.Join(root, "unbrick.json"), place(), 0o644); err != nil {
		return nil, err
	}
	if err := os.Mkdir(out, 0o755); err != nil {
		return nil, err
	}
	// Without version numbers and trailing periods in names, as Microsoft's boot sector for
	// CDs looks for them.
	_, err = runIn(ctx, work, "xorriso", "-as", "mkisofs", "-quiet", "-o", filepath.Join(out, ISOName), "-V", "UNBRICK_PE",
		"-iso-level", "3", "-d", "-N", "-J", "-joliet-long", "-r",
		"-b", bootBIOS, "-no-emul-boot", "-boot-load-size", "8",
		"-eltorito-alt-boot", "-e", bootUEFI, "-no-emul-boot", root)
	if err != nil {
		return nil, fmt.Errorf("cannot build the ISO: %w", err)
	}
	m := &Manifest{Profile: WinPE, Agent: b.Version, Kernel: b.wim.String(), Warnings: b.wim.warnings(), Built: time.Now().UTC().Truncate(time.Second), Packages: map[string]string{}}
	if err := m.measure(out); err != nil {
		return nil, err
	}
	return m, m.write(out)
}

// fill copies the WIM and puts into the copy what makes it ours.
func (b *winpeBuild) fill(ctx context.Context, work, agent, to string) error {
	if err := copyFile(to, b.WIM); err != nil {
		return err
	}
	stage := filepath.Join(work, "stage")
	if err := layout(stage, map[string]string{"unbrick-agent.exe": agent}, nil); err != nil {
		return err
	}
	for i, dir := range b.Drivers {
		if err := os.CopyFS(filepath.Join(stage, "drivers", fmt.Sprint(i+1)), os.DirFS(dir)); err != nil {
			return err
		}
	}
	if err := layout(work, nil, map[string]string{"startnet.cmd": startnet, "winpeshl.ini": winpeshl}); err != nil {
		return err
	}
	return b.wim.update(ctx, work, to,
		"add stage /unbrick",
		"add startnet.cmd /Windows/System32/startnet.cmd",
		"add winpeshl.ini /Windows/System32/winpeshl.ini")
}

// winpeshl says what WinPE starts. That of a WinRE.wim starts its menu.
var winpeshl = crlf(`[LaunchApps]
%SYSTEMROOT%\System32\cmd.exe, /c %SYSTEMROOT%\System32\startnet.cmd
`)

// startnet loads the drivers, starts the network, and runs the agent, which asks for power off
// or reboot itself. When it could not, WinPE reboots; not after it did, since a reboot that is
// ordered behind a power off may take its place.
var startnet = crlf(`@echo off
if exist %SystemDrive%\unbrick\drivers for /r %SystemDrive%\unbrick\drivers %%I in (*.inf) do drvload "%%I"
wpeinit
%SystemDrive%\unbrick\unbrick-agent.exe winpe
if not %errorlevel% == 0 wpeutil reboot
`)

func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

// checkDriver returns an error unless there is a driver in the folder.
func checkDriver(dir string) error {
	found := false
	err := filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		found = found || strings.EqualFold(filepath.Ext(name), ".inf")
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot use the driver: %w", err)
	}
	if !found {
		return fmt.Errorf("%s holds no driver that WinPE can load: there is no .inf file in it; unpack the vendor's installer", dir)
	}
	return nil
}

// Where the boot sectors are in the ISO, wherever they were found.
const (
	bootBIOS = "boot/etfsboot.com"
	bootUEFI = "efi/microsoft/boot/efisys_noprompt.bin"
)

// A media is a folder with Microsoft's boot files.
type media struct {
	files map[string]string // path in the ISO, as the folder spells it, to path
	wim   string
}

// mediaNeeds are the files that every image needs, in small letters.
var mediaNeeds = []string{"bootmgr", "boot/bcd", "boot/boot.sdi", "efi/boot/bootx64.efi", "efi/microsoft/boot/bcd"}

// findMedia looks for boot files in dir: the work folder of copype, its media folder, or
// unpacked Windows media; names in any case. Of Windows media it takes no more than what
// starts it. What is missing is named at once.
func findMedia(dir string) (media, error) {
	if dir == "" {
		return media{}, errors.New("name the folder with Microsoft's boot files, which unbrick may not bring along: run copype amd64 FOLDER where the Windows ADK and its WinPE add-on are installed, or unpack Windows media")
	}
	m := media{files: map[string]string{}}
	have := map[string]string{}
	for _, sub := range []string{"../fwfiles", "../bootbins", "fwfiles", "bootbins", "media", ""} {
		if err := list(filepath.Join(dir, sub), have); err != nil {
			return m, fmt.Errorf("cannot look for boot files: %w", err)
		}
	}
	var missing []string
	for _, name := range mediaNeeds {
		if have[name] == "" {
			missing = append(missing, name)
		}
	}
	for to, names := range map[string][]string{bootBIOS: {bootBIOS, "etfsboot.com"}, bootUEFI: {bootUEFI, "efisys_noprompt.bin"}} {
		i := slices.IndexFunc(names, func(n string) bool { return have[n] != "" })
		if i < 0 {
			missing = append(missing, to)
			continue
		}
		m.files[to] = have[names[i]]
	}
	if missing != nil {
		slices.Sort(missing)
		return m, fmt.Errorf("%s lacks %s\ncopype amd64 FOLDER of the Windows ADK makes a folder with all of them; the last resort for efisys_noprompt.bin and etfsboot.com is the ADK's folder Deployment Tools/amd64/Oscdimg (efisys.bin will not do: it waits for somebody to press a key)", dir, strings.Join(missing, ", "))
	}
	m.wim = have["sources/boot.wim"]
	for name, path := range have {
		top, _, _ := strings.Cut(name, "/")
		// bootfix.bin asks for a key to be pressed; the boot sectors have their places already.
		if (top == "boot" || top == "efi" || strings.HasPrefix(name, "bootmgr")) && name != "boot/bootfix.bin" && name != bootBIOS && name != bootUEFI {
			m.files[name] = path
		}
	}
	return m, nil
}

// list adds the files below dir, by their paths there in small letters; a dir that is not
// there has none. Of sources only boot.wim counts: the rest is Windows itself.
func list(dir string, into map[string]string) error {
	return filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		if rel = strings.ToLower(filepath.ToSlash(rel)); e.Type().IsRegular() {
			into[rel] = name
		}
		return nil
	})
}

// copyTo copies the files, by names in small letters: Windows does not care, and Linux would
// take two spellings for two folders.
func (m media) copyTo(root string) error {
	for to, from := range m.files {
		if err := copyFile(filepath.Join(root, filepath.FromSlash(to)), from); err != nil {
			return err
		}
	}
	return nil
}
