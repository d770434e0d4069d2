package image_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/playbooks"
	"unbrick/remediate"
	"unbrick/remediate/lab/testenv"
	"unbrick/remediate/lab/testenv/ports"
	"unbrick/remediate/rescue"
	"unbrick/remediate/rescue/agent/linux/ntfstest"
	"unbrick/remediate/rescue/image"
)

const (
	hostUUID  = "4c4c4544-0042-3510-8052-b4c04f4e3132"
	folder    = "Windows/System32/drivers/CrowdStrike/"
	faulty    = folder + "C-00000291-00000000-00000032.sys"
	good      = folder + "C-00000291-00000000-00000033.sys"
	channel   = "\xAA\xAA\xAA\xAA\x01\x00\x23\x01"
	bootLimit = 6 * time.Minute // quiet machines need a tenth of it
)

// windowsFiles are a Windows that the incident hit.
func windowsFiles() []ntfstest.File {
	day := func(hour, minute int) time.Time { return time.Date(2024, 7, 19, hour, minute, 0, 0, time.UTC) }
	return []ntfstest.File{
		{Name: "Windows/System32/config/SYSTEM", Content: "regf", Modified: day(1, 0)},
		{Name: faulty, Content: channel + "bad", Modified: day(4, 9)},
		{Name: good, Content: channel + "good", Modified: day(5, 27)},
	}
}

// A machine is QEMU with OVMF, Secure Boot on, Microsoft's keys enrolled.
type machine struct {
	lines    chan string    // of the serial console
	keyboard io.WriteCloser // of the serial console
	said     bytes.Buffer   // all of it; only after off
	kill     context.CancelFunc
}

// startMachine starts a machine that boots an ISO from USB, as a BMC presents virtual media,
// and has a disk on NVMe.
func startMachine(t *testing.T, iso, disk string) *machine {
	t.Helper()
	return startQEMU(t, disk, "-drive", "if=none,id=boot,media=cdrom,readonly=on,format=raw,file="+iso)
}

// startQEMU starts a machine that boots the drive called boot from USB. UNBRICK_QEMU_ACCEL
// chooses the accelerator; it is tcg if empty.
func startQEMU(t *testing.T, disk string, boot ...string) *machine {
	t.Helper()
	const code, vars = "/usr/share/OVMF/OVMF_CODE_4M.ms.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"
	testenv.Need(t, "qemu-system-x86_64", code, vars)
	b, err := os.ReadFile(vars)
	if err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(t.TempDir(), "vars.fd")
	if err := os.WriteFile(own, b, 0o600); err != nil {
		t.Fatal(err)
	}
	accel := os.Getenv("UNBRICK_QEMU_ACCEL")
	if accel == "" {
		accel = "tcg"
	}
	ctx, kill := context.WithTimeout(context.Background(), bootLimit)
	c := exec.CommandContext(ctx, "qemu-system-x86_64", append(boot, "-machine", "q35,smm=on,accel="+accel, "-cpu", "qemu64", "-smp", "1", "-m", "512",
		"-global", "driver=cfi.pflash01,property=secure,value=on", "-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio",
		"-smbios", "type=1,manufacturer=Contoso,product=PC,serial=SN0001,uuid="+hostUUID,
		"-drive", "if=pflash,unit=0,format=raw,readonly=on,file="+code,
		"-drive", "if=pflash,unit=1,format=raw,file="+own,
		"-device", "qemu-xhci", "-device", "usb-storage,drive=boot,bootindex=0",
		"-drive", "if=none,id=disk,format=raw,file="+disk, "-device", "nvme,drive=disk,serial=n1",
		"-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile=")...)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	keyboard, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	m := &machine{lines: make(chan string, 10000), keyboard: keyboard, kill: kill}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(m.lines)
		for s := bufio.NewScanner(io.TeeReader(out, &m.said)); s.Scan(); {
			m.lines <- s.Text()
		}
		_ = c.Wait()
	}()
	t.Cleanup(func() { kill(); <-done })
	return m
}

// until returns when the console has said a text; the test fails if the machine ends first.
func (m *machine) until(t *testing.T, text string) {
	t.Helper()
	var said []string
	for line := range m.lines {
		if strings.Contains(line, "[unbrick") {
			t.Log(line[strings.Index(line, "[unbrick"):])
		}
		if strings.Contains(line, text) {
			return
		}
		said = append(said, line)
	}
	t.Fatalf("the machine ended without %q; its console:\n%s", text, strings.Join(said, "\n"))
}

// off switches the machine off, as a BMC does, and returns when it is.
func (m *machine) off() {
	m.kill()
	for range m.lines {
	}
}

// startServer starts the real rescue server with the image in dir. A machine sees this
// machine's loopback at 10.0.2.2.
func startServer(t *testing.T, dir string) *rescue.Server {
	t.Helper()
	img, err := image.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { img.Close() })
	port := ports.ForTest(t, ports.TCP) // named before anybody listens
	s, err := rescue.Start(t.Context(), rescue.Config{
		Dir:         filepath.Join(t.TempDir(), "rescue"),
		AgentListen: port.Address(), AgentURL: fmt.Sprintf("https://10.0.2.2:%d", port.Number),
		ImageListen: "127.0.0.1:0",
		Base:        rescue.Base{ReaderAt: img, Size: img.Size, ConfigOffset: img.ConfigOffset},
		Records:     &rescue.MemRecords{},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// fetch downloads the image of one host, as a BMC does.
func fetch(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	iso := filepath.Join(t.TempDir(), "host.iso")
	f, err := os.Create(iso)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.Copy(f, resp.Body); err != nil {
		t.Fatal(err)
	}
	return iso
}

// checkRepair boots the real thing: a host whose Windows crashed in the incident, its journal
// unclean, Secure Boot on, is repaired by the real server over the network.
func checkRepair(t *testing.T, dir string) {
	testenv.Need(t, "qemu-system-x86_64", "ntfs-3g", "ntfscat")
	s := startServer(t, dir)
	target := remediate.Target{Run: "r1", Attempt: 1, Host: inventory.Host{Name: "pc1", UUID: hostUUID, Serial: "SN0001"},
		Route: inventory.Route{Driver: "redfish"}}
	img, err := s.Image(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	disk := ntfstest.Disk(t, ntfstest.Crashed(t, 2, windowsFiles()...))
	start := time.Now()
	m := startMachine(t, fetch(t, img.URL), disk)
	pb, err := playbooks.Open("crowdstrike-291")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	defer cancel()
	reports := make(chan remediate.Report, 1)
	go func() {
		report, err := s.Repair(ctx, target, pb)
		if err != nil {
			t.Errorf("repair: %v", err)
			m.kill()
		}
		reports <- report
	}()
	m.until(t, "Secure Boot true")
	m.until(t, "waiting to be powered off")
	report := <-reports
	t.Logf("from power on to the report %s; the agent took %s", time.Since(start).Round(100*time.Millisecond), report.Elapsed.Round(100*time.Millisecond))
	m.off()

	if len(report.Volumes) != 1 || !strings.Contains(report.Volumes[0].Volume, "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee") {
		t.Errorf("volumes %+v; want the one partition, by its GUID", report.Volumes)
	}
	if removed := report.Removed(); len(removed) != 1 || removed[0].Path != faulty || !removed[0].Removed {
		t.Errorf("removed %+v", removed)
	}
	part := ntfstest.Partition(t, disk)
	if got, err := ntfstest.Cat(part, good); err != nil || got != channel+"good" {
		t.Errorf("the good file reads %q, %v", got, err)
	}
	if _, err := ntfstest.Cat(part, faulty); err == nil {
		t.Error("the faulty file is still there")
	}
}

// checkRefused boots an ISO whose kernel has one bit changed. Secure Boot refuses it, and the
// host must not wait at a menu for a person who is not there.
func checkRefused(t *testing.T, dir string) {
	b, err := os.ReadFile(filepath.Join(dir, image.ISOName))
	if err != nil {
		t.Fatal(err)
	}
	kernel, err := os.ReadFile(filepath.Join(dir, image.NetbootName, "vmlinuz"))
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(b), string(kernel[:64<<10]))
	if at < 0 {
		t.Fatal("the kernel is not in the ISO in one piece")
	}
	b[at+len(kernel)/2] ^= 1
	iso, disk := filepath.Join(t.TempDir(), "changed.iso"), filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(iso, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(disk, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	m := startMachine(t, iso, disk)
	m.until(t, "bad shim signature")
	m.until(t, "could not be started, restarting")
	for line := range m.lines { // ends when the machine restarts, which ends QEMU
		if strings.Contains(line, "[unbrick") {
			t.Errorf("the changed kernel was started: %s", line)
		}
	}
}
