// Package vm is the part of the lab that is real: hosts in QEMU with UEFI firmware and Secure
// Boot on, a GPT disk with a real NTFS volume, and on it a stand-in for Windows that stops
// and resets for as long as the faulty file is there.
//
// A [Machine] is such a host. It stands behind a simulated BMC of package redfishtest, which
// switches it on and off and says what it boots; when the guest resets itself, the machine
// asks the BMC what to boot next, as firmware does. All resets are real.
package vm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"unbrick/remediate/driver/redfish/redfishtest"
	"unbrick/remediate/lab/testenv/ports"
)

// Gateway is where a guest finds what listens on 127.0.0.1 of the machine that the lab runs
// on: the rescue server's agents must be told this address.
const Gateway = "10.0.2.2"

// A Board is what the host asks when it resets or switches itself off. *redfishtest.BMC is
// one.
type Board interface {
	Reboot() redfishtest.Boot
	PoweredOff()
}

// Options say what host to make.
type Options struct {
	Dir    string // for its disk, firmware variables and console.log; made if need be
	Name   string
	Serial string // SMBIOS
	UUID   string // SMBIOS
	MAC    string // of its one network card

	System *System // what its own disk boots
	Disk   Disk    // what is on its volume

	// Accel is QEMU's accelerator, "tcg" if empty: slow, and the same everywhere.
	Accel string
	Log   *slog.Logger // nil: discard
}

// A Machine is one host in QEMU. Use New.
type Machine struct {
	opt     Options
	log     *slog.Logger
	disk    string
	vars    string
	port    *ports.Port // where Windows answers
	console *console

	mu     sync.Mutex // guards the rest
	board  Board
	cut    context.CancelFunc // takes the power away; nil while there is none
	closed bool

	lives sync.WaitGroup // what runs between power on and power off
	qemu  sync.Mutex     // held while a QEMU process of this host exists
}

// New builds the disk of a host that is switched off. Close it.
func New(ctx context.Context, o Options) (*Machine, error) {
	if o.System == nil {
		return nil, errors.New("cannot make a host without a system to boot")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Accel == "" {
		o.Accel = "tcg"
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot make host %s: %w", o.Name, err)
	}
	m := &Machine{
		opt: o, log: o.Log.With("host", o.Name), board: nobody{},
		disk: filepath.Join(o.Dir, "disk.img"), vars: filepath.Join(o.Dir, "vars.fd"),
	}
	if err := o.Disk.Build(ctx, m.disk, o.System); err != nil {
		return nil, fmt.Errorf("cannot make host %s: %w", o.Name, err)
	}
	if err := copyFile(m.vars, firmwareVars); err != nil {
		return nil, fmt.Errorf("cannot make host %s: %w", o.Name, err)
	}
	var err error
	if m.port, err = ports.TCP(); err != nil {
		return nil, fmt.Errorf("cannot make host %s: %w", o.Name, err)
	}
	if m.console, err = openConsole(filepath.Join(o.Dir, "console.log")); err != nil {
		m.port.Close()
		return nil, fmt.Errorf("cannot make host %s: %w", o.Name, err)
	}
	return m, nil
}

// Attach puts the host behind a board. Before, it is a host without a BMC: it boots its disk.
func (m *Machine) Attach(b Board) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.board = b
}

// Address is where Windows answers when it is up: 127.0.0.1 and a port. While the host runs,
// QEMU accepts connections there for a guest that does not answer, so that only an answer is
// a sign of life.
func (m *Machine) Address() string { return m.port.Address() }

// DiskImage is the path of the disk. It may be read or changed while the host is off.
func (m *Machine) DiskImage() string { return m.disk }

// Await returns when the host has written n lines with text in them to its console since it
// was made. It fails when ctx ends, or QEMU fails, before.
func (m *Machine) Await(ctx context.Context, text string, n int) error {
	return m.console.await(ctx, text, n)
}

// Start switches the host on, or resets it, and boots b.
func (m *Machine) Start(b redfishtest.Boot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stop()
	if m.closed {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.cut = cancel
	m.lives.Go(func() { m.live(ctx, m.board, b) })
}

// Stop takes the power away. When it returns, no process of the host runs.
func (m *Machine) Stop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stop()
}

func (m *Machine) stop() {
	if m.cut == nil {
		return
	}
	m.cut()
	m.cut = nil
	m.qemu.Lock() // the process is gone
	m.qemu.Unlock()
}

// Close takes the power away for good. The files stay.
func (m *Machine) Close() error {
	m.mu.Lock()
	closed := m.closed
	m.closed = true
	m.stop()
	m.mu.Unlock()
	m.lives.Wait()
	if closed {
		return nil
	}
	m.port.Close()
	return m.console.close()
}

// live runs the host from power on until it is off.
func (m *Machine) live(ctx context.Context, board Board, boot redfishtest.Boot) {
	for boot.Device != "" {
		end, err := m.boot(ctx, boot)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			m.log.Error("the host died", "error", err)
			m.console.fail(err)
		}
		if end != reset {
			board.PoweredOff()
			return
		}
		boot = board.Reboot()
	}
}

// boot runs QEMU from power-on or reset until the next.
func (m *Machine) boot(ctx context.Context, boot redfishtest.Boot) (ending, error) {
	m.qemu.Lock()
	defer m.qemu.Unlock()
	if ctx.Err() != nil {
		return off, ctx.Err()
	}
	iso := ""
	if boot.Device == redfishtest.Cd {
		file, err := fetch(ctx, boot.Image, m.opt.Dir)
		if err != nil {
			// What a real one does: nothing in the drive, so the next device.
			m.log.Warn("no virtual media: booting the disk", "image", boot.Image, "error", err)
			m.console.note("lab: cannot fetch " + boot.Image + ": " + err.Error())
		} else {
			defer os.Remove(file)
			iso = file
		}
	}
	return m.runQEMU(ctx, iso)
}

// nobody is the board of a host without a BMC.
type nobody struct{}

func (nobody) Reboot() redfishtest.Boot { return redfishtest.Boot{Device: redfishtest.Hdd} }
func (nobody) PoweredOff()              {}

func copyFile(to, from string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o644)
}
