//go:build linux

package linux

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"unbrick/remediate/rescue/agent"
	"unbrick/remediate/rescue/wire"
)

const (
	stickDir    = mountDir + "/stick"
	stickLimit  = 20 * time.Second // for its partition to appear
	stickGoOn   = time.Minute      // until the host restarts: a person stands there
	stickNotice = "take the stick out now: the host restarts into Windows"
)

// keyboards are the drivers of keyboards and scanners, which may be plugged in at any time.
var keyboards = []string{"i8042", "atkbd", "usbhid", "hid_generic"}

// workByStick does the job of a host that was started from a stick: with the server if one
// answers, and else with a person who types.
func workByStick(ctx context.Context, version string, cfg wire.Config, d *drivers, log *slog.Logger) error {
	h := &Host{Mounts: mountDir, Patience: stickLimit, Log: log}
	o := agent.Options{Version: version, Log: log}
	for _, m := range keyboards {
		_ = d.load(m) // the kernel may have it built in
	}
	term := openTerminal()
	defer term.Close()
	log.Info(fmt.Sprintf("stick %s of %s, for %v until %s", cfg.Stick.ID, cfg.Stick.By, cfg.Stick.Sites, cfg.Stick.Until.Format(time.RFC3339)), "phase", "start")
	if !cfg.Stick.Offline {
		if err := reachByStick(ctx, cfg, d, term, log); err == nil {
			_, err := agent.Run(ctx, h, cfg, o)
			if err == nil {
				log.Info("the server has the report", "phase", "done")
			}
			if !errors.Is(err, agent.ErrNoServer) {
				return err
			}
		}
		log.Info("no rescue server is in reach: going on without one, with the card", "phase", "network")
	}
	place, closer, err := openStick(ctx, cfg.Stick.ID, d)
	if err != nil {
		return fmt.Errorf("nothing was changed, because the report could not be kept: %w", err)
	}
	_, err = agent.RunOffline(ctx, h, cfg, o, term, place)
	return errors.Join(err, closer.Close())
}

// reachByStick looks for the server until something listens there, the stick's patience ends,
// or the person presses Enter.
func reachByStick(ctx context.Context, cfg wire.Config, d *drivers, term *terminal, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, cfg.Stick.Patience)
	defer cancel()
	log.Info(fmt.Sprintf("looking for the rescue server for %s; Enter: go on without it", cfg.Stick.Patience), "phase", "network")
	listening := make(chan struct{})
	go func() {
		defer close(listening)
		for ctx.Err() == nil {
			if c, err := term.Typed(ctx); err == nil && (c == '\r' || c == '\n') {
				cancel()
			}
		}
	}()
	err := reach(ctx, cfg.URL, d, log)
	for err == nil {
		var c net.Conn
		if c, err = (&net.Dialer{Timeout: dialLimit}).DialContext(ctx, "tcp", hostPort(cfg.URL)); err == nil {
			err = c.Close()
			break
		}
		err = pause(ctx, time.Second)
	}
	cancel()
	<-listening
	return err
}

// openStick mounts the partition of the stick that takes reports. It is known by its label
// and by the stick's id.
func openStick(ctx context.Context, id string, d *drivers) (agent.Folder, io.Closer, error) {
	for _, m := range []string{"vfat", "nls_cp437", "nls_ascii", "nls_utf8"} {
		if err := d.load(m); err != nil && m == "vfat" {
			return "", nil, fmt.Errorf("cannot load the driver for the stick's file system: %w", err)
		}
	}
	device, err := awaitStick(ctx, id)
	if err != nil {
		return "", nil, err
	}
	if err := os.MkdirAll(stickDir, 0o700); err != nil {
		return "", nil, err
	}
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME
	if err := unix.Mount(device, stickDir, "vfat", flags, "codepage=437,iocharset=ascii"); err != nil {
		return "", nil, fmt.Errorf("cannot mount %s, the partition for reports: %w", device, err)
	}
	return stickDir, unmounter(stickDir), nil
}

// awaitStick returns the device of that partition: a stick may show late.
func awaitStick(ctx context.Context, id string) (string, error) {
	serial, err := strconv.ParseUint(id, 16, 32)
	if err != nil {
		return "", fmt.Errorf("%q is not the id of a stick", id)
	}
	for deadline := time.Now().Add(stickLimit); ; {
		if device := findStick("/sys/class/block", "/dev", uint32(serial)); device != "" {
			return device, nil
		}
		if time.Now().After(deadline) {
			return "", fmt.Errorf("cannot find the partition %s of stick %s: was it pulled out?", wire.StickVolume, id)
		}
		if err := pause(ctx, 500*time.Millisecond); err != nil {
			return "", err
		}
	}
}

// An unmounter unmounts its folder, after everything is written.
type unmounter string

func (u unmounter) Close() error {
	if err := unix.Unmount(string(u), 0); err != nil {
		return fmt.Errorf("cannot unmount the stick: %w", err)
	}
	return nil
}

// findStick returns the device with the file system of that serial number and our label, or
// the empty string.
func findStick(sysfs, dev string, serial uint32) string {
	entries, err := os.ReadDir(sysfs)
	if err != nil {
		return ""
	}
	for _, e := range entries {
		path := filepath.Join(dev, e.Name())
		if b, err := readSector(path); err == nil && isStick(b, serial) {
			return path
		}
	}
	return ""
}

// isStick looks at the first sector of a FAT16 file system.
func isStick(b []byte, serial uint32) bool {
	return string(b[43:43+11]) == wire.StickVolume && binary.LittleEndian.Uint32(b[39:]) == serial
}
