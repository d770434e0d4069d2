//go:build linux

package linux

import (
	"bufio"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/u-root/u-root/pkg/kmodule"
	"golang.org/x/sys/unix"
)

// preloaded are modules that no device asks for: by the agent (fuse for ntfs-3g, af_packet
// for DHCP, dm_crypt and ciphers for BitLocker, vfat for boot stores), or by a driver that expects a helper program
// to load them (realtek by r8169).
var preloaded = []string{"fuse", "af_packet", "realtek", "sd_mod", "efivarfs",
	"dm_mod", "dm_crypt", "dm_zero", "aes_generic", "ecb", "cbc", "xts", "vfat", "nls_cp437", "nls_ascii"}

// drivers loads the modules of the image for the hardware it finds.
type drivers struct {
	prober  *kmodule.Prober
	aliases []alias
	seen    map[string]bool // module aliases of devices already served
	loaded  map[string]bool
}

// An alias says which module serves devices of a pattern.
type alias struct{ pattern, literal, module string }

func openDrivers() (*drivers, error) {
	p, err := kmodule.NewProber(kmodule.ProbeOpts{IgnoreProcMods: true})
	if err != nil {
		return nil, fmt.Errorf("cannot read the list of drivers: %w", err)
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join("/lib/modules", unix.ByteSliceToString(u.Release[:]), "modules.alias"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	d := &drivers{prober: p, seen: map[string]bool{}, loaded: map[string]bool{}}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if a, ok := parseAlias(lines.Text()); ok {
			d.aliases = append(d.aliases, a)
		}
	}
	return d, lines.Err()
}

// parseAlias reads a line of modules.alias.
func parseAlias(line string) (alias, bool) {
	w := strings.Fields(line)
	if len(w) != 3 || w[0] != "alias" {
		return alias{}, false
	}
	a := alias{pattern: w[1], literal: w[1], module: w[2]}
	if i := strings.IndexAny(w[1], "*?["); i >= 0 {
		a.literal = w[1][:i]
	}
	return a, true
}

func (a alias) matches(device string) bool {
	if !strings.HasPrefix(device, a.literal) {
		return false // nearly all of them: worth the time of a thousand glob matches
	}
	ok, err := path.Match(a.pattern, device)
	return ok && err == nil
}

// load loads a module with what it needs. Hardware that a module does not like is no error of
// the host's: it is only noted.
func (d *drivers) load(module string) error {
	if d.loaded[module] {
		return nil
	}
	err := d.prober.Probe(module, "")
	if err == nil {
		d.loaded[module] = true
	}
	return err
}

// settle loads drivers until the hardware asks for no more: a bus shows its devices a while
// after its own driver is there, so it looks at least three times.
func (d *drivers) settle(ctx context.Context, log *slog.Logger) error {
	for _, m := range preloaded {
		if err := d.load(m); err != nil && m == "fuse" {
			return fmt.Errorf("cannot load the driver for file systems: %w", err)
		}
	}
	const least, most = 3, 20
	for round := 1; round <= most; round++ {
		fresh := d.coldplug(log)
		if fresh == 0 && round >= least {
			break
		}
		if err := pause(ctx, 300*time.Millisecond); err != nil {
			return err
		}
	}
	log.Info(fmt.Sprintf("%d drivers loaded", len(d.loaded)), "phase", "drivers")
	return nil
}

// coldplug looks at every device once and loads its modules; it returns how many were new.
func (d *drivers) coldplug(log *slog.Logger) (fresh int) {
	filepath.WalkDir("/sys/devices", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.Name() != "modalias" {
			return nil // devices come and go while one looks
		}
		b, _ := os.ReadFile(name)
		device := strings.TrimSpace(string(b))
		if device == "" || d.seen[device] {
			return nil
		}
		d.seen[device] = true
		for _, a := range d.aliases {
			if !a.matches(device) || d.loaded[a.module] {
				continue
			}
			if err := d.load(a.module); err != nil {
				log.Info(fmt.Sprintf("%s: %v", a.module, err), "phase", "drivers")
				continue
			}
			fresh++
		}
		return nil
	})
	return fresh
}
