package libvirt_test

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	lib "github.com/digitalocean/go-libvirt"

	"unbrick/inventory"
	"unbrick/playbooks"
	"unbrick/remediate"
	"unbrick/remediate/driver/libvirt"
	"unbrick/remediate/lab/testenv"
	"unbrick/remediate/lab/testenv/ports"
	"unbrick/remediate/lab/vm"
	"unbrick/remediate/rescue"
	"unbrick/remediate/rescue/agent/linux/ntfstest"
	"unbrick/remediate/rescue/image"
	"unbrick/remediate/swap"
)

const firmware = "/usr/share/OVMF/OVMF_CODE_4M.ms.fd"

// TestWholeWay is the whole way with nothing simulated: two domains loop on their disks under
// Secure Boot, a helper domain boots the rescue image, both disks are swapped and repaired
// there at the same time, and both domains come up, defined to the letter as they were.
func TestWholeWay(t *testing.T) {
	testenv.Need(t, "xorriso", "grub-mkimage", "ntfsrecover", "ntfsfix", "ntfsinfo", "mcopy", "sfdisk", "mkfs.vfat", firmware,
		"/usr/lib/shim/shimx64.efi.signed", "/usr/lib/grub/x86_64-efi-signed/gcdx64.efi.signed", "/usr/lib/grub/i386-pc/boot_hybrid.img")
	d := startDaemon(t)
	l := d.control(t, "qemu:///session")
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	clock := stopwatch(t)
	dir := d.folder(t)
	sys, err := vm.BuildSystem(ctx, vm.SystemOptions{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	server := startRescue(t, ctx)
	helper := bootHelper(t, ctx, d, l, dir, server)
	var guests []*guest
	for n := range 2 {
		guests = append(guests, newGuest(t, ctx, d, l, dir, n, sys))
	}
	clock("built")
	start(t, l, helper)
	for _, g := range guests {
		start(t, l, g.dom)
	}
	for _, g := range guests {
		await(t, ctx, g.console, "*** STOP: 0x00000050", 2)
	}
	await(t, ctx, filepath.Join(dir, "helper.log"), "helper unbrick-helper", 1)
	clock("two domains loop, the helper is up")

	driver := swap.New(swap.Options{Way: "libvirt", Platform: libvirt.New(libvirt.Options{}), Desk: server, Records: &rescue.MemRecords{}})
	ended := make(chan error, len(guests))
	for _, g := range guests {
		go func() { ended <- g.treat(ctx, d, driver, server) }()
	}
	for range guests {
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}
	clock("both repaired and put back")
	for _, g := range guests {
		await(t, ctx, g.console, "answers on port 5985", 1)
		if after := inactive(t, l, g.dom); after != g.before {
			t.Errorf("it was\n%s\nand is\n%s", g.before, after)
		}
		if err := l.DomainDestroyFlags(g.dom, lib.DomainDestroyGraceful); err != nil {
			t.Error(err)
		}
		want := maps.Clone(g.files)
		delete(want, vm.FaultyFile)
		if files, err := vm.ReadVolume(g.disk); err != nil || !maps.Equal(files, want) {
			t.Errorf("the volume is not as it should be: %v\n%v\nwant\n%v", err, files, want)
		}
	}
	clock("both are up")
	if live, err := l.DomainGetXMLDesc(helper, 0); err != nil || strings.Contains(live, "unbrick-0") || strings.Contains(live, guests[0].disk) {
		t.Errorf("left on the helper: %v\n%s", err, live)
	}
}

// A guest is a domain that loops.
type guest struct {
	name, disk, console string
	dom                 lib.Domain
	before              string // its XML
	files               map[string]vm.File
}

func newGuest(t *testing.T, ctx context.Context, d *daemon, l *lib.Libvirt, dir string, n int, sys *vm.System) *guest {
	t.Helper()
	g := &guest{name: fmt.Sprintf("ws%d", n+1)}
	g.disk, g.console = filepath.Join(dir, g.name+".img"), filepath.Join(dir, g.name+".log")
	content := vm.Disk{Faulty: true, Good: true}
	if n == 0 { // as Windows leaves it when it stops again and again
		content = vm.Disk{Volume: ntfstest.Crashed(t, 2, windows()...)}
	}
	if err := content.Build(ctx, g.disk, sys); err != nil {
		t.Fatal(err)
	}
	var err error
	if g.files, err = vm.ReadVolume(g.disk); err != nil {
		t.Fatal(err)
	}
	if _, there := g.files[vm.FaultyFile]; !there {
		t.Fatal("the volume is not what the test is about")
	}
	if err := d.Give(g.disk); err != nil {
		t.Fatal(err)
	}
	g.dom = define(t, l, fmt.Sprintf(`<domain type='qemu'><name>%[1]s</name><uuid>7b0c1f3e-0000-4000-8000-00000000010%[2]d</uuid><memory unit='MiB'>1024</memory>
<os><type arch='x86_64' machine='q35'>hvm</type><loader readonly='yes' secure='yes' type='pflash'>%[3]s</loader>
<nvram template='/usr/share/OVMF/OVMF_VARS_4M.ms.fd'>%[4]s/%[1]s.fd</nvram></os>
<features><acpi/><smm state='on'/></features>%[5]s<on_reboot>restart</on_reboot><devices>
<disk type='file' device='disk'><driver name='qemu' type='raw' cache='unsafe'/><source file='%[4]s/%[1]s.img'/><target dev='vda' bus='virtio'/><boot order='1'/></disk>
%[6]s<serial type='file'><source path='%[4]s/%[1]s.log'/></serial></devices></domain>`, g.name, n, firmware, dir, processor, network))
	g.before = inactive(t, l, g.dom)
	return g
}

// treat takes the guest through the stages, as the engine does.
func (g *guest) treat(ctx context.Context, d *daemon, driver remediate.Driver, medic remediate.Medic) error {
	target := remediate.Target{Run: "r1", Attempt: 1, Host: inventory.Host{Name: g.name, Serial: "of " + g.name},
		Route: inventory.Route{Driver: "libvirt", Address: "qemu+unix:///session?name=" + g.name + "&socket=" + url.QueryEscape(d.Socket)}}
	pb, err := playbooks.Open("crowdstrike-291")
	if err != nil {
		return err
	}
	posture, err := driver.Observe(ctx, target)
	if err != nil {
		return fmt.Errorf("observe: %w", err)
	}
	img, err := medic.Image(ctx, target)
	if err != nil {
		return fmt.Errorf("image: %w", err)
	}
	if err := driver.Enter(ctx, target, img); err != nil {
		return fmt.Errorf("enter: %w", err)
	}
	limit, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	report, err := medic.Repair(limit, target, pb)
	if err != nil || len(report.Removed()) != 1 {
		return fmt.Errorf("repair of %s: %+v: %w", g.name, report, err)
	}
	if err := driver.Leave(ctx, target, posture); err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	return nil
}

const (
	processor = `<cpu mode='custom' match='exact' check='none'><model>qemu64</model><feature policy='require' name='rdrand'/></cpu>`
	network   = `<interface type='user'><model type='virtio'/><rom enabled='no'/></interface><memballoon model='none'/>`
)

// bootHelper defines a helper that boots the rescue image with a credential of its own.
func bootHelper(t *testing.T, ctx context.Context, d *daemon, l *lib.Libvirt, dir string, server *rescue.Server) lib.Domain {
	t.Helper()
	built := filepath.Join(t.TempDir(), "image")
	if _, err := image.Build(ctx, image.Options{Out: built, Profile: image.Lab}); err != nil {
		t.Fatal(err)
	}
	img, err := image.Open(built)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	cfg, err := server.Helpers().Issue(ctx, rescue.HelperOrder{URL: server.AgentURL(), Name: "unbrick-helper", IssuedBy: "a test", Until: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	iso := filepath.Join(dir, "helper.iso")
	if err := image.Helper(iso, img, cfg); err != nil {
		t.Fatal(err)
	}
	if err := d.Give(iso); err != nil {
		t.Fatal(err)
	}
	return define(t, l, fmt.Sprintf(`<domain type='qemu'><name>unbrick-helper</name><uuid>7b0c1f3e-0000-4000-8000-0000000000fe</uuid><memory unit='MiB'>1024</memory>
<os><type arch='x86_64' machine='q35'>hvm</type><boot dev='cdrom'/></os><features><acpi/></features>%s<devices>
<disk type='file' device='cdrom'><source file='%s'/><target dev='sda' bus='sata'/><readonly/></disk>
<controller type='scsi' index='0' model='virtio-scsi'/>%s<serial type='file'><source path='%s/helper.log'/></serial></devices></domain>`,
		processor, iso, network, dir))
}

// startRescue starts a rescue server that guests find.
func startRescue(t *testing.T, ctx context.Context) *rescue.Server {
	t.Helper()
	port := ports.ForTest(t, ports.TCP) // known before the server listens
	s, err := rescue.Start(ctx, rescue.Config{
		Dir: t.TempDir(), Records: &rescue.MemRecords{}, Base: rescue.StubImage(),
		AgentListen: port.Address(), AgentURL: fmt.Sprintf("https://%s:%d", vm.Gateway, port.Number), ImageListen: "127.0.0.1:0",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// windows are the files of a small Windows with a faulty channel file and its successor.
func windows() []ntfstest.File {
	day := func(hour, minute int) time.Time { return time.Date(2024, 7, 19, hour, minute, 17, 0, time.UTC) }
	const header = "\xAA\xAA\xAA\xAA\x01\x00\x23\x01"
	return []ntfstest.File{
		{Name: "Windows/System32/config/SYSTEM", Content: "regf", Modified: day(1, 0)},
		{Name: vm.FaultyFile, Content: header + strings.Repeat("bad", 13000), Modified: day(4, 9)},
		{Name: vm.GoodFile, Content: header + strings.Repeat("good", 10000), Modified: day(5, 27)},
	}
}

// await returns when a console has n lines with the text.
func await(t *testing.T, ctx context.Context, console, text string, n int) {
	t.Helper()
	for {
		b, err := os.ReadFile(console)
		if strings.Count(string(b), text) >= n {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s does not say %q %d times (%v):\n%s", console, text, n, err, b)
		case <-time.After(200 * time.Millisecond): // QEMU writes it to a file, and tells nobody
		}
	}
}

// stopwatch logs the time since the last call, for the record: nothing depends on it.
func stopwatch(t *testing.T) func(what string) {
	last := time.Now()
	return func(what string) {
		t.Helper()
		t.Logf("%-40s %5.1f s", what, time.Since(last).Seconds())
		last = time.Now()
	}
}
