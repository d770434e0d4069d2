package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// A wim is one image in a WIM file that WinPE starts from.
type wim struct {
	index   int
	name    string
	version string // of Windows: 10.0.26100
	manager bool   // it has manage-bde
}

// anyCase makes wimlib take names in any case, as Windows does.
const anyCase = "WIMLIB_IMAGEX_IGNORE_CASE=1"

// openWIM looks at an image in a WIM: the given one, or the one that boots.
func openWIM(ctx context.Context, file string, index int) (w wim, err error) {
	bad := func(why string) error { return fmt.Errorf("cannot use %s: %s", file, why) }
	head, err := runEnv(ctx, "", nil, "wiminfo", file)
	if err != nil {
		return w, fmt.Errorf("cannot read %s: %w", file, err)
	}
	if w.index = index; index == 0 {
		if w.index = number(head, "Boot Index"); w.index == 0 && number(head, "Image Count") == 1 {
			w.index = 1
		}
		if w.index == 0 {
			return w, bad("none of its images boots; name one with --index, wiminfo lists them")
		}
	}
	info, err := runEnv(ctx, "", nil, "wiminfo", file, strconv.Itoa(w.index))
	if err != nil {
		return w, fmt.Errorf("cannot read image %d of %s: %w", w.index, file, err)
	}
	if arch := value(info, "Architecture"); arch != "x86_64" {
		return w, bad(fmt.Sprintf("it is for %q, and the agent is for x86_64", arch))
	}
	w.name = value(info, "Name")
	w.version = fmt.Sprintf("%s.%s.%s", value(info, "Major Version"), value(info, "Minor Version"), value(info, "Build"))
	for _, p := range []string{"wpeinit.exe", "wpeutil.exe"} {
		if !w.has(ctx, file, p) {
			return w, bad(fmt.Sprintf("image %d (%s) is no WinPE: it has no %s; install.wim is Windows itself, and boot.wim is what starts its media", w.index, w.name, p))
		}
	}
	w.manager = w.has(ctx, file, "manage-bde.exe")
	return w, ctx.Err()
}

// has says whether the image has that file in System32.
func (w wim) has(ctx context.Context, file, name string) bool {
	_, err := runEnv(ctx, "", []string{anyCase}, "wimdir", file, strconv.Itoa(w.index), "--path=/Windows/System32/"+name)
	return err == nil
}

func (w wim) String() string { return fmt.Sprintf("WinPE %s (%s)", w.version, w.name) }

// warnings say what an image made of it will not do.
func (w wim) warnings() []string {
	if w.manager {
		return nil
	}
	return []string{"this WinPE has no manage-bde and opens no BitLocker volume: add the components WinPE-WMI and WinPE-SecureStartup with DISM on Windows, or build from WinRE.wim (reagentc /info says where a host has it), which has them"}
}

// update carries out commands of wimupdate, whose paths are relative to dir, on a copy of the
// WIM; then the image is the one that boots, and every byte was read again.
func (w wim) update(ctx context.Context, dir, file string, commands ...string) error {
	p, err := find("wimupdate")
	if err != nil {
		return err
	}
	c := exec.CommandContext(ctx, p, file, strconv.Itoa(w.index))
	c.Dir, c.Env = dir, append(os.Environ(), anyCase, "LC_ALL=C")
	c.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	var complaint bytes.Buffer
	c.Stderr = &complaint
	if err := c.Run(); err != nil {
		return fmt.Errorf("wimupdate: %w: %s", err, strings.TrimSpace(complaint.String()))
	}
	if _, err := runIn(ctx, dir, "wiminfo", file, strconv.Itoa(w.index), "--boot"); err != nil {
		return err
	}
	_, err = runIn(ctx, dir, "wimverify", file)
	return err
}

// value returns what wiminfo says of a property.
func value(info []byte, property string) string {
	for line := range strings.Lines(string(info)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == property {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func number(info []byte, property string) int {
	n, err := strconv.Atoi(value(info, property))
	if err != nil {
		return 0
	}
	return n
}

// copyFile copies a file that may be large, into folders that it makes.
func copyFile(to, from string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
