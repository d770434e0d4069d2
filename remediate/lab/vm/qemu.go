package vm

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// The firmware: Secure Boot enforced, with Microsoft's keys enrolled.
const (
	firmwareCode = "/usr/share/OVMF/OVMF_CODE_4M.ms.fd"
	firmwareVars = "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"
)

// fwTPM is where the firmware of the host keeps what its TPM would: the stand-in for Windows
// looks there, and the rescue image does not.
const fwTPM = "opt/unbrick/tpm"

// An ending is why QEMU stopped by itself.
type ending string

const (
	off   ending = "guest-shutdown"
	reset ending = "guest-reset"
)

// args returns the command line of QEMU. The network card has no boot ROM: QEMU's own is not
// signed, and would take the boot from the disk under Secure Boot.
func (m *Machine) args(iso string) []string {
	cpu := "qemu64,+rdrand" // without, the guest waits minutes for its first random number
	if m.opt.Accel != "tcg" {
		cpu = "host"
	}
	args := []string{
		"-name", comma(m.opt.Name),
		"-machine", "q35,smm=on,accel=" + m.opt.Accel, "-cpu", cpu, "-smp", "1", "-m", "1024",
		"-nodefaults", "-display", "none", "-no-reboot",
		"-global", "driver=cfi.pflash01,property=secure,value=on",
		"-drive", "if=pflash,unit=0,format=raw,readonly=on,file=" + firmwareCode,
		"-drive", "if=pflash,unit=1,format=raw,file=" + comma(m.vars),
		"-smbios", "type=1,manufacturer=unbrick lab,product=VM,serial=" + comma(m.opt.Serial) + ",uuid=" + m.opt.UUID,
		"-drive", "if=none,id=disk,format=raw,cache=unsafe,file=" + comma(m.disk),
		"-device", "virtio-blk-pci,drive=disk,bootindex=1",
		"-netdev", "user,id=net,hostfwd=tcp:" + m.port.Address() + "-:5985",
		"-device", "virtio-net-pci,netdev=net,romfile=,mac=" + m.opt.MAC,
		"-chardev", "file,id=console,path=/dev/fd/3", "-serial", "chardev:console",
		"-qmp", "stdio",
	}
	if m.opt.Disk.Encrypted != nil {
		args = append(args, "-fw_cfg", "name="+fwTPM+",file="+comma(tpmName(m.disk)))
	}
	if iso != "" {
		args = append(args,
			"-drive", "if=none,id=cd,media=cdrom,readonly=on,format=raw,file="+comma(iso),
			"-device", "ide-cd,drive=cd,bus=ide.2,bootindex=0")
	}
	return args
}

// comma doubles the commas of a value on QEMU's command line.
func comma(s string) string { return strings.ReplaceAll(s, ",", ",,") }

// runQEMU runs the host until it resets itself, switches itself off, or ctx ends.
func (m *Machine) runQEMU(ctx context.Context, iso string) (ending, error) {
	console, guest, err := os.Pipe()
	if err != nil {
		return off, err
	}
	defer console.Close()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", m.args(iso)...)
	cmd.ExtraFiles = []*os.File{guest} // descriptor 3
	cmd.WaitDelay = 10 * time.Second
	dieWithUs(cmd)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	control, err := cmd.StdinPipe()
	if err != nil {
		return off, err
	}
	events, err := cmd.StdoutPipe()
	if err != nil {
		return off, err
	}
	err = cmd.Start()
	guest.Close()
	if err != nil {
		return off, fmt.Errorf("cannot start QEMU: %w", err)
	}
	written := make(chan struct{})
	go func() { defer close(written); m.console.copy(console) }()
	fmt.Fprintln(control, `{"execute":"qmp_capabilities"}`)
	end := readEnding(events)
	err = cmd.Wait()
	<-written // QEMU had the other end
	if ctx.Err() != nil {
		return off, ctx.Err()
	}
	if end == "" {
		return off, fmt.Errorf("QEMU died: %v: %s", err, strings.TrimSpace(complaint.String()))
	}
	return end, nil
}

// readEnding reads QEMU's events to their end, and returns the reason of the shutdown: empty
// if QEMU told none.
func readEnding(events io.Reader) (end ending) {
	lines := bufio.NewScanner(events)
	for lines.Scan() {
		var e struct {
			Event string
			Data  struct{ Reason ending }
		}
		if json.Unmarshal(lines.Bytes(), &e) == nil && e.Event == "SHUTDOWN" {
			end = e.Data.Reason
		}
	}
	return end
}
