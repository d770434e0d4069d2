package netboot_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"unbrick/inventory"
	"unbrick/playbooks"
	"unbrick/remediate"
	"unbrick/remediate/driver/netboot"
	"unbrick/remediate/lab/testenv"
	server "unbrick/remediate/netboot"
	"unbrick/remediate/power"
	"unbrick/remediate/rescue"
	"unbrick/remediate/rescue/agent/linux/ntfstest"
	"unbrick/remediate/rescue/image"
)

// inside names, in the environment, the image that the test's other half boots: it runs in a
// network of its own, where the server has its real ports.
const inside = "UNBRICK_NETBOOT_IMAGE"

const (
	patience = 8 * time.Minute // quiet machines need a fifth of it
	gateway  = "10.77.0.1"
)

// TestMachines boots two machines from the network as a run does, and repairs them: one with
// UEFI and Secure Boot, one with BIOS and iPXE. A third, of which the run knows nothing, asks
// the same and gets nothing. The site's own DHCP server is dnsmasq, as nobody here wrote it.
func TestMachines(t *testing.T) {
	if dir := os.Getenv(inside); dir != "" {
		runMachines(t, dir)
		return
	}
	testenv.Need(t, "qemu-system-x86_64", "dnsmasq", "ip", "/dev/net/tun", ovmfCode, "/usr/lib/ipxe/qemu/pxe-virtio.rom", "go", "xorriso", "mcopy",
		"grub-mkimage", "/usr/lib/ipxe/undionly.kpxe", "/usr/lib/shim/shimx64.efi.signed", "/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed",
		"ntfs-3g", "ntfscat", "ntfsrecover")
	if os.Geteuid() != 0 {
		testenv.Missing(t, "root, for a network of its own")
	}
	dir := filepath.Join(t.TempDir(), "image")
	if _, err := image.Build(t.Context(), image.Options{Out: dir, Profile: image.Lab, Source: "../../.."}); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), self, "-test.run=^TestMachines$", "-test.v", "-test.timeout="+(patience+time.Minute).String())
	c.Env = append(os.Environ(), inside+"="+dir)
	// The first process of a name space takes with it all that it started, however it ends.
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	var said strings.Builder
	c.Stdout = io.MultiWriter(&said, t.Output())
	c.Stderr = c.Stdout
	err = c.Run()
	if err != nil || !strings.Contains(said.String(), "--- PASS: TestMachines") {
		t.Errorf("in a network of its own: %v", err)
	}
}

// runMachines is the half of the test that runs inside.
func runMachines(t *testing.T, dir string) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	network(t, "tap0", "tap1", "tap2")
	startDHCP(t, ctx)
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
	medic := startMedic(t, ctx, dir, log)
	boot, err := server.Start(ctx, server.Config{Dir: t.TempDir(), Interface: "br0", Lend: "10.77.0.240-10.77.0.250", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { boot.Close() })
	uefi := newMachine(t, "uefi", "52:54:00:00:00:01", "tap0", true)
	bios := newMachine(t, "bios", "52:54:00:00:00:02", "tap1", false)
	stranger := newMachine(t, "stranger", "52:54:00:00:00:03", "tap2", false)
	heard := sniff(t, stranger)
	driver := netboot.New(boot, power.Switches{"ipmi": rack{uefi.name: uefi, bios.name: bios}})

	var wg sync.WaitGroup
	for _, m := range []*machine{uefi, bios} {
		wg.Go(func() { repair(t, ctx, driver, medic, m) })
	}
	wg.Wait()
	uefi.await(t, ctx, "Secure Boot true")
	bios.await(t, ctx, "started by BIOS")

	if err := errors.Join(boot.Allow([]string{bios.mac}, "http://"+gateway+"/i/t/rescue.iso"), stranger.boot(power.Network)); err != nil {
		t.Fatal(err)
	}
	stranger.await(t, ctx, "Nothing to boot")
	stranger.off()
	if got := heard(); len(got) != 0 {
		t.Errorf("a host that is not of the run was sent %q", got)
	}
}

// repair takes a host through the stages, as the engine does.
func repair(t *testing.T, ctx context.Context, d remediate.Driver, medic *rescue.Server, m *machine) {
	target := remediate.Target{Run: "r1", Attempt: 1, Host: inventory.Host{Name: m.name, MAC: []string{m.mac}},
		Route: inventory.Route{Driver: "netboot", Address: "ipmi:" + m.name}}
	pb, err := playbooks.Open("crowdstrike-291")
	if err != nil {
		t.Error(err)
		return
	}
	start := time.Now()
	before, err := d.Observe(ctx, target)
	if err != nil {
		t.Error("observe:", err)
		return
	}
	img, err := medic.Image(ctx, target)
	if err != nil {
		t.Error("image:", err)
		return
	}
	if err := d.Enter(ctx, target, img); err != nil {
		t.Error("enter:", err)
		return
	}
	report, err := medic.Repair(ctx, target, pb)
	if err != nil {
		t.Errorf("repair of %s: %v; %s; its console:\n%s", m.name, err, medic.Fetched(target), m.tail())
	}
	t.Logf("%s: from enter to its report %s", m.name, time.Since(start).Round(100*time.Millisecond))
	if err := d.Leave(ctx, target, before); err != nil {
		t.Error("leave:", err)
	}
	if boots := m.booted(); !slices.Equal(boots, []power.Source{power.Network, power.Disk}) {
		t.Errorf("%s was started from %v", m.name, boots)
	}
	m.off()
	if removed := report.Removed(); len(removed) != 1 || removed[0].Path != faulty || !removed[0].Removed {
		t.Errorf("%s: removed %+v", m.name, removed)
	}
	part := ntfstest.Partition(t, m.disk)
	if got, err := ntfstest.Cat(part, good); err != nil || got != channel+"good" {
		t.Errorf("%s: the good file reads %q, %v", m.name, got, err)
	}
	if _, err := ntfstest.Cat(part, faulty); err == nil {
		t.Errorf("%s: the faulty file is still there", m.name)
	}
}

// startMedic starts the real rescue server with the image in dir.
func startMedic(t *testing.T, ctx context.Context, dir string, log *slog.Logger) *rescue.Server {
	t.Helper()
	img, err := image.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { img.Close() })
	medic, err := rescue.Start(ctx, rescue.Config{
		Dir: t.TempDir(), Records: &rescue.MemRecords{}, AgentListen: net.JoinHostPort(gateway, "8443"), ImageListen: net.JoinHostPort(gateway, "8080"),
		Base:    rescue.Base{ReaderAt: img, Size: img.Size, ConfigOffset: img.ConfigOffset},
		Netboot: os.DirFS(filepath.Join(dir, image.NetbootName)), Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { medic.Close() })
	return medic
}

// startDHCP starts the site's own DHCP server, as a machine of its own on the bridge. It names
// itself as next server.
func startDHCP(t *testing.T, ctx context.Context) {
	t.Helper()
	c := exec.CommandContext(ctx, "sh", "-c", `read go && ip address add 10.77.0.2/24 dev eth0 && ip link set eth0 up && exec dnsmasq "$@"`, "dnsmasq",
		"--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--interface=eth0", "--dhcp-range=10.77.0.100,10.77.0.200,1h",
		"--dhcp-leasefile="+filepath.Join(t.TempDir(), "leases"), "--user=root", "--no-ping", "--log-facility=-")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	c.Stderr = t.Output()
	begin, err := c.StdinPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	bridge, err := netlink.LinkByName("br0")
	if err != nil {
		t.Fatal(err)
	}
	cable := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "site"}, PeerName: "eth0", PeerNamespace: netlink.NsPid(c.Process.Pid)}
	if err := errors.Join(netlink.LinkAdd(cable), netlink.LinkSetMaster(cable, bridge), netlink.LinkSetUp(cable)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(begin, "go\n"); err != nil {
		t.Fatal(err)
	}
}

const (
	folder  = "Windows/System32/drivers/CrowdStrike/"
	faulty  = folder + "C-00000291-00000000-00000032.sys"
	good    = folder + "C-00000291-00000000-00000033.sys"
	channel = "\xAA\xAA\xAA\xAA\x01\x00\x23\x01"
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
