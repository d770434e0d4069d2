//go:build linux

package linux

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"unbrick/remediate/rescue/agent"
	"unbrick/remediate/rescue/wire"
)

const (
	configFile = "/unbrick.json"
	mountDir   = "/run/unbrick"
)

// An ending is what becomes of the host when the agent is through.
//
// The kernel's command line may change it, for the lab and for tests: unbrick.end=wait,
// reboot or poweroff; unbrick.wait and unbrick.limit are durations such as 10m.
type ending struct {
	action string        // wait: to be powered off by the BMC, and reboot if nobody does
	wait   time.Duration // how long
	limit  time.Duration // from the start: reboots a host that hangs in here
}

func parseEnding(cmdline string) ending {
	e := ending{action: "wait", wait: 10 * time.Minute, limit: 2 * time.Hour}
	for _, word := range strings.Fields(cmdline) {
		key, value, _ := strings.Cut(word, "=")
		d, err := time.ParseDuration(value)
		switch {
		case key == "unbrick.end" && (value == "wait" || value == "reboot" || value == "poweroff"):
			e.action = value
		case key == "unbrick.wait" && err == nil && d >= 0:
			e.wait = d
		case key == "unbrick.limit" && err == nil && d > 0:
			e.limit = d
		}
	}
	return e
}

// Boot does the whole stay of a host in the rescue image, as its first process, and never
// returns: it ends by power off or reboot, at the latest when its limit is reached.
func Boot(version string) {
	mountErr := mountSystem()
	os.Setenv("PATH", "/usr/bin")
	log := slog.New(openConsole())
	cmdline, err := os.ReadFile("/proc/cmdline")
	end := parseEnding(string(cmdline))
	log.Info("unbrick agent "+version, "phase", "start")
	if err := errors.Join(mountErr, err); err != nil {
		log.Info(err.Error(), "phase", "start")
	}
	cfg, err := readConfig()
	if cfg.Helper != nil {
		end.limit = helperLimit
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), end.limit, errors.New("the limit for a stay in the rescue image is reached"))
	defer cancel()
	// The last resort, should the agent not come to its end even then.
	time.AfterFunc(end.limit+2*time.Minute, func() { restart(unix.LINUX_REBOOT_CMD_RESTART) })
	if err == nil {
		err = guard(func() error { return work(ctx, version, cfg, log) })
	}
	if err != nil {
		log.Info(err.Error(), "phase", "failed")
	} else if cfg.Stick == nil { // a stick has said where the report is
		log.Info("the server has the report", "phase", "done")
	}
	if cfg.Stick != nil {
		end.wait = min(end.wait, stickGoOn)
		log.Info(stickNotice, "phase", "end")
	}
	finish(ctx, end, log)
}

func readConfig() (wire.Config, error) {
	b, err := os.ReadFile(configFile)
	if err != nil {
		return wire.Config{}, fmt.Errorf("cannot read the configuration of this host: %w", err)
	}
	return wire.ParseConfig(b)
}

// work is all between the start and the end.
func work(ctx context.Context, version string, cfg wire.Config, log *slog.Logger) error {
	d, err := openDrivers()
	if err != nil {
		return err
	}
	if err := d.settle(ctx, log); err != nil {
		return err
	}
	sayPlatform(log)
	if err := gatherRandomness(log); err != nil {
		return err
	}
	if cfg.Stick != nil {
		return workByStick(ctx, version, cfg, d, log)
	}
	if cfg.Helper != nil {
		return workAsHelper(ctx, version, cfg, d, log)
	}
	if err := reach(ctx, cfg.URL, d, log); err != nil {
		return err
	}
	h := &Host{Mounts: mountDir, Patience: 20 * time.Second, Log: log}
	_, err = agent.Run(ctx, h, cfg, agent.Options{Version: version, Log: log})
	return err
}

// reach tries until the host has a network, and the server answers if it can.
func reach(ctx context.Context, server string, d *drivers, log *slog.Logger) error {
	for {
		err := connect(ctx, server, log)
		if err == nil {
			return nil
		}
		log.Info(err.Error(), "phase", "network")
		if err := pause(ctx, 5*time.Second); err != nil {
			return err
		}
		d.coldplug(log) // a card may have come meanwhile
	}
}

// gatherRandomness returns when the kernel can give random numbers. A virtual machine just
// started has none, and only a call that waits makes the kernel gather some at once: the DHCP
// client asks without waiting, and would ask in vain.
func gatherRandomness(log *slog.Logger) error {
	start := time.Now()
	for {
		_, err := unix.Getrandom(make([]byte, 1), 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("cannot get random numbers: %w", err)
		}
		if d := time.Since(start); d > time.Second {
			log.Info(fmt.Sprintf("random numbers took %s", d.Round(100*time.Millisecond)), "phase", "start")
		}
		return nil
	}
}

// mountSystem mounts what the kernel offers.
func mountSystem() error {
	var errs []error
	for _, m := range []struct{ kind, dir string }{
		{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/run"}, {"tmpfs", "/tmp"},
	} {
		errs = append(errs, os.MkdirAll(m.dir, 0o755))
		if err := unix.Mount(m.kind, m.dir, m.kind, unix.MS_NOSUID, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			errs = append(errs, fmt.Errorf("cannot mount %s: %w", m.dir, err))
		}
	}
	// Only emergencies: the screen is for our own lines.
	errs = append(errs, os.WriteFile("/proc/sys/kernel/printk", []byte("1 4 1 3"), 0o644))
	return errors.Join(errs...)
}

// sayPlatform notes whether the host booted with Secure Boot.
func sayPlatform(log *slog.Logger) {
	const variables = "/sys/firmware/efi/efivars"
	if err := unix.Mount("efivarfs", variables, "efivarfs", unix.MS_RDONLY|unix.MS_NOSUID, ""); err != nil {
		log.Info("started by BIOS", "phase", "start")
		return
	}
	b, err := os.ReadFile(variables + "/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c")
	on := err == nil && len(b) == 5 && b[4] == 1 // four bytes of attributes come first
	log.Info(fmt.Sprintf("started by UEFI, Secure Boot %t", on), "phase", "start")
}

// guard turns a panic into an error: a first process that ends takes the kernel with it. The
// stack goes along without the panic's own words, which may quote what the program held.
func guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the agent broke down (%T): %s", p, debug.Stack())
		}
	}()
	return f()
}

// finish ends the stay.
func finish(ctx context.Context, end ending, log *slog.Logger) {
	unix.Sync()
	command := unix.LINUX_REBOOT_CMD_RESTART
	switch end.action {
	case "poweroff":
		command = unix.LINUX_REBOOT_CMD_POWER_OFF
		log.Info("powering off", "phase", "end")
	case "reboot":
		log.Info("rebooting", "phase", "end")
	default:
		log.Info(fmt.Sprintf("waiting to be powered off; rebooting in %s if nobody does", end.wait), "phase", "end")
		_ = pause(ctx, end.wait) // its end by the limit comes to the same
	}
	restart(command)
}

// restart unmounts what is still mounted, as far as it can, and ends.
func restart(command int) {
	unix.Sync()
	if dirs, err := os.ReadDir(mountDir); err == nil {
		for _, d := range dirs {
			_ = unix.Unmount(mountDir+"/"+d.Name(), 0)
		}
	}
	unix.Sync()
	time.Sleep(time.Second) // for the last lines on a serial console
	_ = unix.Reboot(command)
	select {} // a kernel that refuses both would panic if the first process ended
}
