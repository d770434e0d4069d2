package vm_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"unbrick/bitlocker"
	"unbrick/inventory"
	"unbrick/inventory/secret"
	"unbrick/playbooks"
	"unbrick/remediate"
	"unbrick/remediate/driver/redfish"
	"unbrick/remediate/driver/redfish/redfishtest"
	"unbrick/remediate/lab/testenv"
	"unbrick/remediate/lab/testenv/ports"
	"unbrick/remediate/lab/vm"
	"unbrick/remediate/rescue"
	"unbrick/remediate/rescue/agent/linux/ntfstest"
	"unbrick/remediate/rescue/image"
	"unbrick/remediate/tlspin"
)

// TestRepair is the whole way with nothing simulated but the BMC: a host loops, the driver
// boots the rescue image on it under Secure Boot, the agent repairs the volume and reports,
// the host is put back and comes up. The volume is then read from outside. It is as Windows
// leaves it when it stops again and again: formatted by Windows, its journal not at its end.
func TestRepair(t *testing.T) {
	needs(t)
	testenv.Need(t, "xorriso", "grub-mkimage", "ntfsrecover", "ntfsfix", "ntfsinfo", "/usr/lib/grub/x86_64-efi-signed/gcdx64.efi.signed",
		"/usr/lib/grub/i386-pc/boot_hybrid.img")
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	server := startServer(t, ctx, nil)
	m := newMachine(t, vm.Disk{Volume: crashed(t)})
	before, err := vm.ReadVolume(m.DiskImage())
	if err != nil {
		t.Fatal(err)
	}
	bmc, err := redfishtest.Start(redfishtest.Options{User: "root", Password: "calvin", UUID: uuid, Serial: serial, Host: m})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bmc.Close)
	m.Attach(bmc)
	clock := stopwatch(t)

	m.Start(redfishtest.Boot{Device: redfishtest.Hdd})
	for n := range 2 {
		await(t, ctx, m, "*** STOP: 0x00000050", n+1)
		clock(fmt.Sprintf("power on to stop %d", n+1))
	}
	await(t, ctx, m, "Secure Boot is on", 2)
	clock = stopwatch(t)
	driver := newDriver()
	target := remediate.Target{Run: "r1", Attempt: 1, Route: inventory.Route{Driver: "redfish", Address: bmc.URL()},
		Host: inventory.Host{Name: "WS-0001", Serial: serial, UUID: uuid, MAC: []string{mac}, Address: m.Address()}}
	report := repair(t, ctx, driver, server, target, clock)
	await(t, ctx, m, "answers on port 5985", 1)
	clock("power on after the repair to up")
	checkUp(t, m.Address())

	state := bmc.State()
	if len(state.Media) != 0 || state.Override.Enabled != "Disabled" || state.Sessions != 0 {
		t.Errorf("left on the BMC: media %v, override %+v, %d sessions", state.Media, state.Override, state.Sessions)
	}
	if boots := slices.DeleteFunc(state.Boots, func(b redfishtest.Boot) bool { return b.Device != redfishtest.Cd }); len(boots) != 1 {
		t.Errorf("the rescue image was booted %d times", len(boots))
	}
	m.Stop()
	if _, err := http.Get("http://" + m.Address() + "/wsman"); err == nil {
		t.Error("a host without power answers")
	}
	checkVolume(t, m.DiskImage(), before, report)
}

// repair takes the host through the stages, as the engine does, to a repair that goes well.
func repair(t *testing.T, ctx context.Context, d remediate.Driver, medic remediate.Medic, target remediate.Target, clock func(string)) remediate.Report {
	t.Helper()
	report, err := stay(t, ctx, d, medic, target, clock, func() {})
	if err != nil {
		t.Fatal("repair: ", err)
	}
	return report
}

// stay boots the rescue image on the host and puts the host back. While the agent waits to be
// switched off it calls then. It returns the end of the repair.
func stay(t *testing.T, ctx context.Context, d remediate.Driver, medic remediate.Medic, target remediate.Target, clock func(string), then func()) (remediate.Report, error) {
	t.Helper()
	pb, err := playbooks.Open("crowdstrike-291")
	if err != nil {
		t.Fatal(err)
	}
	posture, err := d.Observe(ctx, target)
	if err != nil {
		t.Fatal("observe: ", err)
	}
	img, err := medic.Image(ctx, target)
	if err != nil {
		t.Fatal("image: ", err)
	}
	if err := d.Enter(ctx, target, img); err != nil {
		t.Fatal("enter: ", err)
	}
	report, end := medic.Repair(ctx, target, pb)
	clock("enter to report")
	for _, v := range report.Volumes {
		t.Logf("%s: %s %s", v.Volume, v.Verdict, v.Error)
	}
	then()
	if err := d.Leave(ctx, target, posture); err != nil {
		t.Fatal("leave: ", err)
	}
	return report, end
}

// checkVolume reads the volume and compares it with what it was: only the faulty file may be
// gone, and the report must say so.
func checkVolume(t *testing.T, disk string, before map[string]vm.File, report remediate.Report) {
	t.Helper()
	after, err := vm.ReadVolume(disk)
	if err != nil {
		t.Fatal(err)
	}
	want := maps.Clone(before)
	faulty, there := want[vm.FaultyFile]
	delete(want, vm.FaultyFile)
	if _, good := want[vm.GoodFile]; !there || !good {
		t.Fatal("the volume was not what the test is about")
	}
	if !maps.Equal(after, want) {
		t.Errorf("the volume is not as it should be:\n%v\nwant\n%v", after, want)
	}
	var removed []string
	for _, v := range report.Volumes {
		for _, finding := range v.Findings {
			for _, f := range finding.Files {
				if f.Removed {
					removed = append(removed, f.Path+" "+f.SHA256)
				}
			}
		}
	}
	if !slices.Equal(removed, []string{vm.FaultyFile + " " + faulty.SHA256}) {
		t.Errorf("the report says that these were removed: %v", removed)
	}
}

// checkUp asks the host as a stranger does, and wants the answer that Windows gives.
func checkUp(t *testing.T, address string) {
	t.Helper()
	resp, err := http.Get("http://" + address + "/wsman")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Server") != "Microsoft-HTTPAPI/2.0" {
		t.Errorf("the stand-in answers %s, %v: not as Windows does", resp.Status, resp.Header)
	}
}

// crashed returns an NTFS volume that Windows formatted, and on which it crashed.
func crashed(t *testing.T) string { return ntfstest.Crashed(t, 2, windows()...) }

// windows are the files of a small Windows with a faulty channel file and its successor.
func windows() []ntfstest.File {
	day := func(hour, minute int) time.Time { return time.Date(2024, 7, 19, hour, minute, 17, 0, time.UTC) }
	const header = "\xAA\xAA\xAA\xAA\x01\x00\x23\x01"
	return []ntfstest.File{
		{Name: "Windows/System32/config/SYSTEM", Content: "regf", Modified: day(1, 0)},
		{Name: "Windows/System32/drivers/ntfs.sys", Content: strings.Repeat("MZ", 30000), Modified: day(1, 0)},
		{Name: vm.FaultyFile, Content: header + strings.Repeat("bad", 13000), Modified: day(4, 9)},
		{Name: vm.GoodFile, Content: header + strings.Repeat("good", 10000), Modified: day(5, 27)},
		{Name: vm.ChannelDir + "/C-00000285-00000000-00000031.sys", Content: strings.Repeat("other", 4000), Modified: day(4, 9)},
	}
}

// rescueImage is built by the first test that needs it.
var rescueImage = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(shared, "image")
	_, err := image.Build(context.Background(), image.Options{Out: dir, Profile: image.Lab})
	return dir, err
})

// startServer serves the rescue image, and keys from the broker if there is one.
func startServer(t *testing.T, ctx context.Context, broker *bitlocker.Broker) *rescue.Server {
	t.Helper()
	dir, err := rescueImage()
	if err != nil {
		t.Fatal(err)
	}
	img, err := image.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { img.Close() })
	port := ports.ForTest(t, ports.TCP) // known before the server listens
	s, err := rescue.Start(ctx, rescue.Config{
		Dir: t.TempDir(), Records: &rescue.MemRecords{}, Broker: broker,
		AgentListen: port.Address(), AgentURL: fmt.Sprintf("https://%s:%d", vm.Gateway, port.Number), ImageListen: "127.0.0.1:0",
		Base: rescue.Base{ReaderAt: io.ReaderAt(img), Size: img.Size, ConfigOffset: img.ConfigOffset},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func newDriver() *redfish.Driver {
	return redfish.New(redfish.Options{
		Login: func(context.Context, remediate.Target) (string, secret.Value, error) {
			return "root", secret.New("calvin"), nil
		},
		TLS: tlspin.Policy{Records: &rescue.MemRecords{}},
	})
}

func await(t *testing.T, ctx context.Context, m *vm.Machine, text string, n int) {
	t.Helper()
	if err := m.Await(ctx, text, n); err != nil {
		t.Fatal(err)
	}
}

// stopwatch logs the time since the last call, for the record: nothing depends on it.
func stopwatch(t *testing.T) func(what string) {
	last := time.Now()
	return func(what string) {
		t.Helper()
		t.Logf("%-32s %5.1f s", what, time.Since(last).Seconds())
		last = time.Now()
	}
}
