//go:build linux

package linux

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"unbrick/remediate/rescue/agent"
	"unbrick/remediate/rescue/wire"
)

// ServeHelper works on a Linux host that disks of others are hung on, until it is told to end
// by a signal. The host needs the programs and the kernel modules of the rescue image: ntfs-3g,
// fuse, dm-crypt. Nothing of its own disks is touched. The configuration is in a file.
func ServeHelper(version, configFile, mounts string, log *slog.Logger) error {
	b, err := os.ReadFile(configFile)
	if err != nil {
		return fmt.Errorf("cannot read the configuration of the helper: %w", err)
	}
	cfg, err := wire.ParseConfig(b)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	err = serve(ctx, version, cfg, mounts, nil, log)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

const (
	// helperLimit is how long a helper stays in the rescue image: as long as a credential can
	// be good. The server knows the time, this machine may not.
	helperLimit = 31 * 24 * time.Hour
	// leaseEvery is how often a helper asks for its address again: a lease is shorter than its
	// stay.
	leaseEvery = 10 * time.Minute
)

// workAsHelper is the stay of a helper that booted the rescue image.
func workAsHelper(ctx context.Context, version string, cfg wire.Config, d *drivers, log *slog.Logger) error {
	if err := reach(ctx, cfg.URL, d, log); err != nil {
		return err
	}
	go func() {
		for pause(ctx, leaseEvery) == nil {
			if err := connect(ctx, cfg.URL, log); err != nil {
				log.Info(err.Error(), "phase", "network")
			}
		}
	}()
	return serve(ctx, version, cfg, mountDir, d, log)
}

func serve(ctx context.Context, version string, cfg wire.Config, mounts string, d *drivers, log *slog.Logger) error {
	if cfg.Helper == nil {
		return errors.New("this configuration is not that of a helper")
	}
	log.Info(fmt.Sprintf("helper %s (%s), until %s", cfg.Helper.Name, cfg.Helper.ID, cfg.Helper.Until.Format(time.RFC3339)), "phase", "helper")
	r := &rack{sysfs: "/sys", dev: "/dev", mounts: mounts, drivers: d, log: log}
	return agent.Serve(ctx, r, cfg, agent.Options{Version: version, Log: log})
}

// A rack is this host's disks. It is an [agent.Rack].
type rack struct {
	sysfs, dev string
	mounts     string
	drivers    *drivers // nil: somebody else loads them
	log        *slog.Logger
}

// Disks implements agent.Rack.
func (r *rack) Disks(context.Context) ([]string, error) {
	if r.drivers != nil {
		r.drivers.coldplug(r.log) // a disk of another kind may have come
	}
	all, err := r.marks()
	if err != nil {
		return nil, err
	}
	var marks []string
	for mark, names := range all {
		if len(names) == 1 {
			marks = append(marks, mark)
		}
	}
	slices.Sort(marks)
	return marks, nil
}

// Machine implements agent.Rack.
func (r *rack) Machine(mark string) agent.Machine {
	return &lentDisk{rack: r, mark: mark}
}

// marks returns the names of the disks, by each of the marks that they have.
func (r *rack) marks() (map[string][]string, error) {
	entries, err := os.ReadDir(filepath.Join(r.sysfs, "block"))
	if err != nil {
		return nil, fmt.Errorf("cannot see the disks: %w", err)
	}
	all := map[string][]string{}
	for _, e := range entries {
		name := e.Name()
		if slices.ContainsFunc(passedOver, func(p string) bool { return strings.HasPrefix(name, p) }) {
			continue
		}
		at := filepath.Join(r.sysfs, "block", name)
		for _, mark := range diskMarks(at) {
			all[mark] = append(all[mark], name)
		}
		if mark := googleName(at, filepath.Join(r.dev, name)); mark != "" {
			all[mark] = append(all[mark], name)
		}
	}
	return all, nil
}

// diskMarks returns what a disk is known by: its serial number, as virtio, NVMe or SCSI have it,
// and, on SCSI, the name that its vendor gave it and its place as "lun:N", for platforms that set no serial number. Device names are
// no mark: they follow the order in which disks come.
func diskMarks(dir string) (marks []string) {
	for _, file := range []string{"serial", "device/serial"} { // virtio, NVMe
		if b, err := os.ReadFile(filepath.Join(dir, file)); err == nil {
			if s := printable(string(b)); s != "" {
				marks = append(marks, s)
			}
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "device/vpd_pg80")); err == nil && len(b) > 4 {
		if s := printable(string(b[4:])); s != "" { // behind the head of the page
			marks = append(marks, s)
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "device/vpd_pg83")); err == nil {
		marks = append(marks, vendorNames(b)...)
	}
	if dev, err := filepath.EvalSymlinks(filepath.Join(dir, "device")); err == nil {
		if place := strings.Split(filepath.Base(dev), ":"); len(place) == 4 { // host, channel, target, LUN
			if lun, err := strconv.Atoi(place[3]); err == nil {
				marks = append(marks, fmt.Sprintf("lun:%d", lun))
			}
		}
	}
	slices.Sort(marks)
	return slices.Compact(marks)
}

// printable returns a serial number without its padding, or nothing if it is none.
func printable(s string) string {
	s = strings.Trim(s, " \x00\n")
	if len(s) > 100 || strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return ""
	}
	return s
}

// A lentDisk is the host whose disk hangs here. It is an [agent.Machine].
type lentDisk struct {
	rack *rack
	mark string
}

// Identity says nothing: what this machine says of itself is not the host's.
func (l *lentDisk) Identity() (wire.Identity, error) { return wire.Identity{}, nil }

// Volumes returns the volumes of that disk alone, once its partitions have shown.
func (l *lentDisk) Volumes(ctx context.Context) ([]agent.Volume, error) {
	h := &Host{Mounts: l.rack.mounts, Patience: 20 * time.Second, Log: l.rack.log}
	all, err := l.rack.marks()
	if err != nil {
		return nil, err
	}
	if len(all[l.mark]) != 1 {
		return nil, fmt.Errorf("%d disks of the helper have the mark %s", len(all[l.mark]), l.mark)
	}
	if err := l.rack.foreign(all[l.mark][0]); err != nil {
		return nil, err
	}
	h.only = func(whole string) bool { // asked again: another disk may get that name
		all, err := l.rack.marks()
		return err == nil && slices.Equal(all[l.mark], []string{whole})
	}
	return h.Volumes(ctx)
}

// foreign refuses a disk that has the same identifier as one that this helper runs from: what
// looks for its root by identifier may take the wrong one at the next start.
func (r *rack) foreign(name string) error {
	id := tableID(filepath.Join(r.dev, name))
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil || id == "" {
		return err
	}
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		if len(f) < 2 || !strings.HasPrefix(f[0], "/dev/") || strings.HasPrefix(f[1], r.mounts+"/") {
			continue
		}
		own := r.wholeOf(filepath.Base(f[0]))
		if own != "" && own != name && tableID(filepath.Join(r.dev, own)) == id {
			return fmt.Errorf("the disk has the same identifier (%s) as %s, which the helper runs from: use a helper that was made from another image, or one that boots the rescue image", id, own)
		}
	}
	return nil
}

// wholeOf returns the disk that a partition is on, or nothing.
func (r *rack) wholeOf(name string) string {
	sys, err := filepath.EvalSymlinks(filepath.Join(r.sysfs, "class/block", name))
	if err != nil {
		return ""
	}
	if _, err := os.Stat(filepath.Join(sys, "partition")); err == nil {
		return filepath.Base(filepath.Dir(sys))
	}
	return name
}

// tableID returns what the partition table says that the disk is: the GUID of a GPT, or the
// signature of an MBR. It is empty where there is neither.
func tableID(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	b := make([]byte, 8192)
	if _, err := f.ReadAt(b, 0); err != nil {
		return ""
	}
	for _, sector := range []int{512, 4096} {
		if h := b[sector:]; string(h[:8]) == "EFI PART" {
			return hex.EncodeToString(h[56:72])
		}
	}
	if signature := hex.EncodeToString(b[440:444]); b[510] == 0x55 && b[511] == 0xAA && signature != "00000000" {
		return signature
	}
	return ""
}
