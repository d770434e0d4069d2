//go:build linux

// The stand-in for Windows that lab hosts boot from their own disk: the init of a small
// Linux, which looks at the NTFS volume as the sensor's driver did on 2024-07-19. The faulty
// channel file is there: a stop code and a reset, for ever. It is gone: the network comes up
// and port 5985 answers as Windows does.
//
// It decides by its own few lines, and not by package playbooks, so that a test of the
// product does not check a belief against itself.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The stop codes: what the driver died of, and what Windows says of a volume that it cannot
// use.
const (
	stopFault  = "*** STOP: 0x00000050 PAGE_FAULT_IN_NONPAGED_AREA csagent.sys"
	stopVolume = "*** STOP: 0x0000007B INACCESSIBLE_BOOT_DEVICE"
)

// linger is how long a stop code stays on the screen before the reset.
const linger = time.Second

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "this is the init of a lab host, a stand-in for Windows; it does nothing elsewhere")
		os.Exit(2)
	}
	say("a stand-in for Windows is starting")
	err := boot()
	var fault *faultError
	switch {
	case errors.As(err, &fault):
		stop(stopFault + ": " + fault.Error())
	case err != nil:
		stop(stopVolume + ": " + err.Error())
	}
	say("the volume is sound")
	if err := serve(); err != nil {
		say("up, but not on the network: " + err.Error())
	}
	forever()
}

// forever keeps the process: an init must not return, and a Go program with nothing left to
// wake it dies.
func forever() {
	for {
		time.Sleep(time.Hour)
	}
}

// stop shows a stop code and resets the host.
func stop(text string) {
	say(text)
	time.Sleep(linger)
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART); err != nil {
		say("cannot reset: " + err.Error())
		forever()
	}
}

// say writes one line to the console with the seconds since power-on of the kernel.
func say(text string) {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	fmt.Printf("[standin %6.2f] %s\n", float64(ts.Nano())/1e9, text)
}

// boot makes ready what the rest needs and looks at the volume. Its error is the reason for a
// stop.
func boot() error {
	for _, m := range [][2]string{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/run"}, {"securityfs", "/sys/kernel/security"}} {
		if err := os.MkdirAll(m[1], 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m[0], m[1], m[0], 0, ""); err != nil && err != unix.EBUSY {
			return fmt.Errorf("cannot mount %s: %w", m[1], err)
		}
	}
	if err := loadModules("virtio_pci", "virtio_blk", "fuse", "virtio_net", "af_packet", "qemu_fw_cfg"); err != nil {
		return err
	}
	if b, err := os.ReadFile("/sys/kernel/security/lockdown"); err == nil && strings.Contains(string(b), "[integrity]") {
		say("Secure Boot is on") // Debian's kernel locks itself down under Secure Boot alone
	}
	return look()
}

// look opens the volume read-only and returns a *faultError if it holds the faulty file.
func look() error {
	dev, locked, err := findVolume(10 * time.Second)
	if err != nil {
		return err
	}
	if locked {
		return lookInside(dev)
	}
	const dir = "/run/c"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	cmd := exec.Command("/usr/bin/ntfs-3g", "-o", "ro", dev, dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot mount %s: %v: %s", dev, err, out)
	}
	fault := inspect(os.DirFS(dir))
	if err := unix.Unmount(dir, 0); err != nil {
		return fmt.Errorf("cannot unmount %s: %w", dev, err)
	}
	return fault
}
