package hyperv_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/inventory/secret"
	"unbrick/remediate"
	"unbrick/remediate/driver/drivertest"
	"unbrick/remediate/driver/hyperv"
	"unbrick/remediate/driver/hyperv/hypervtest"
	"unbrick/remediate/lab/testenv/powershell"
	"unbrick/remediate/rescue"
	"unbrick/remediate/swap"
	"unbrick/remediate/swap/swaptest"
	"unbrick/remediate/winrm"
	"unbrick/remediate/winrm/winrmtest"
)

const password = "correct horse battery"

// file has what a path on Windows may have: a blank, a quote, letters.
const file = `C:\ClusterStorage\Müller's VMs\ws1.vhdx`

func guest(n int, path string) hypervtest.VM {
	return hypervtest.VM{
		ID: fmt.Sprintf("11111111-0000-4000-8000-%012d", n), Name: fmt.Sprintf("WS-%04d", n), State: "Running", Generation: 2, Replication: "Disabled", SCSI: 1, TPM: true,
		Drives: []hypervtest.Drive{{Type: "SCSI", Path: path, Max: 500, Min: 10}, {Type: "SCSI", Location: 1, Path: path + ".data.vhdx"}}, DVDs: []int{2},
		Boot: []hypervtest.Entry{{Kind: "File", Key: `\EFI\Microsoft\Boot\bootmgfw.efi`}, {Kind: "Drive", Key: "SCSI:0:0"}, {Kind: "Network", Key: "Microsoft:1"}, {Kind: "Drive", Key: "SCSI:0:1"}},
	}
}

func helper() hypervtest.VM {
	return hypervtest.VM{ID: "99999999-0000-4000-8000-000000000001", Name: "unbrick-helper", State: "Running", Generation: 2, Replication: "Disabled", SCSI: 1,
		Drives: []hypervtest.Drive{{Type: "SCSI", Path: `D:\helper.vhdx`}}, Boot: []hypervtest.Entry{{Kind: "Drive", Key: "SCSI:0:0"}}}
}

// A line is the way to a hypervisor. It counts the scripts, and loses them as it is told.
type line struct {
	hv *hypervtest.Server

	mu       sync.Mutex
	requests []bool
	cut      int
	loss     drivertest.Loss
	dead     bool
	hanging  bool
}

func newLine(*testing.T) *line {
	l := &line{hv: hypervtest.New("HV1"), cut: -1}
	l.hv.Add(guest(1, file))
	l.hv.Add(helper())
	return l
}

// Run implements hyperv.Runner.
func (l *line) Run(ctx context.Context, host, script string) (string, error) {
	if host != "hv1.corp.example" {
		return "", fmt.Errorf("no host %q", host)
	}
	lost := &winrm.LostError{Host: host, Err: io.ErrUnexpectedEOF}
	loss, hanging, dead := l.admit(!strings.HasPrefix(script, "$id = "))
	switch {
	case hanging:
		<-ctx.Done()
		return "", ctx.Err()
	case dead || loss == drivertest.LostBefore:
		return "", lost
	case loss == drivertest.Throttled:
		return "", errors.New("The operation cannot be performed while the object is in use.")
	case loss == drivertest.Forbidden:
		return "", errors.New("You do not have the required permission to complete this task.")
	}
	if err := powershell.Check(script); err != nil {
		return "", err
	}
	out, err := l.hv.Run(script)
	if loss == drivertest.LostAfter || loss == drivertest.Death {
		return "", lost
	}
	return "a banner\r\n" + out, err
}

func (l *line) admit(changes bool) (loss drivertest.Loss, hanging, dead bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		return "", false, true
	}
	l.requests = append(l.requests, changes)
	if l.cut == 0 {
		loss = l.loss
		l.dead = loss == drivertest.Death
	}
	l.cut = max(l.cut-1, -1)
	return loss, l.hanging, false
}

func (l *line) asked() []bool { l.mu.Lock(); defer l.mu.Unlock(); return slices.Clone(l.requests) }
func (l *line) revive()       { l.mu.Lock(); l.dead = false; l.mu.Unlock() }

func (l *line) platform() swap.Platform { return hyperv.New(hyperv.Options{Runner: l}) }

// TestWinRM goes the whole way through a service of WinRM, which loses some answers.
func TestWinRM(t *testing.T) {
	l := newLine(t)
	s, err := winrmtest.Start(winrmtest.Options{User: "ops", Password: password, Handler: func(ctx context.Context, c *winrmtest.Command) int {
		raw, _ := io.ReadAll(c.Stdin)
		script, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(string(raw), "\r\n", ""))
		if err != nil || c.Line != winrm.PowerShellLine() {
			fmt.Fprint(c.Stderr, "no script came")
			return 1
		}
		out, err := l.Run(ctx, "hv1.corp.example", string(script))
		if err != nil {
			fmt.Fprint(c.Stderr, err)
			return 1
		}
		fmt.Fprint(c.Stdout, out)
		return 0
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	was := l.hv.Shown("WS-0001") + l.hv.Shown("unbrick-helper")
	driver := swap.New(swap.Options{Way: "hyperv", Desk: new(desk), Records: &rescue.MemRecords{}, Every: time.Millisecond,
		Platform: hyperv.New(hyperv.Options{Runner: winrm.Runner{Options: func(context.Context, string) (winrm.Options, error) {
			return winrm.Options{Address: s.URL(), Auth: winrm.NTLM{User: "ops", Password: secret.New(password)}, Times: winrm.Times{Goodbye: time.Second}}, nil
		}}})})
	for _, call := range []func() error{
		func() error { return driver.Enter(t.Context(), target("WS-0001"), remediate.Image{}) },
		func() error { return driver.Leave(t.Context(), target("WS-0001"), remediate.Posture{}) },
	} {
		s.Order(winrmtest.Fault{Kind: winrmtest.DropAfter, Op: winrmtest.Receive, Skip: 4})
		var retry *remediate.RetryError
		if err := call(); !errors.As(err, &retry) {
			t.Errorf("a lost answer: %v", err)
		}
		if err := call(); err != nil {
			t.Fatal(err)
		}
	}
	if is := l.hv.Shown("WS-0001") + l.hv.Shown("unbrick-helper"); is != was || fmt.Sprint(l.hv.Events(file)) != "[added to unbrick-helper started with WS-0001]" {
		t.Errorf("was %s\nis  %s\n%v", was, is, l.hv.Events(file))
	}
}

func target(vm string) remediate.Target {
	return remediate.Target{Run: "r1", Attempt: 1, Host: inventory.Host{Name: vm}, Route: inventory.Route{Driver: "hyperv", Address: "hv1.corp.example/" + vm}}
}

// desk remembers what is lent, and by which mark.
type desk struct {
	swaptest.Desk
	mu   sync.Mutex
	said []string
	lent int
}

func (d *desk) Lend(ctx context.Context, t remediate.Target, helper, mark string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.said, d.lent = append(d.said, helper+" "+mark), 1
	return d.Desk.Lend(ctx, t, helper, mark)
}

func (d *desk) Withdraw(ctx context.Context, t remediate.Target) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lent = 0
	return d.Desk.Withdraw(ctx, t)
}

func (l *line) driver(d swap.Desk, snapshot bool) *swap.Driver {
	return swap.New(swap.Options{Way: "hyperv", Platform: l.platform(), Desk: d, Records: &rescue.MemRecords{}, Snapshot: snapshot, Every: time.Millisecond})
}

// TestDriver has volume swap on Hyper-V pass the suite of drivers, with every script lost,
// refused and throttled.
func TestDriver(t *testing.T) {
	for _, snapshot := range []bool{false, true} {
		t.Run(fmt.Sprintf("snapshot %v", snapshot), func(t *testing.T) {
			drivertest.Run(t, func(t *testing.T) drivertest.Rig { return rig(t, snapshot) })
		})
	}
}

// TestFind: it is known whether the copy of a disk is still there.
func TestFind(t *testing.T) {
	l := newLine(t)
	swaptest.Find(t, l.platform(), target("WS-0001"), l.hv.Actions)
}

func rig(t *testing.T, snapshot bool) drivertest.Rig {
	l, d := newLine(t), new(desk)
	image := remediate.Image{URL: "http://192.0.2.1/i/x/rescue.iso"}
	was, beside := l.hv.Shown("WS-0001"), l.hv.Shown("unbrick-helper")
	return drivertest.Rig{
		Driver: l.driver(d, snapshot), Target: target("WS-0001"), Image: image, Refuses: true, Few: snapshot,
		Boots: func() (all []string) {
			for _, e := range l.hv.Events(file) {
				all = append(all, map[string]string{"added to unbrick-helper": image.URL, "started with WS-0001": drivertest.Disk}[e])
			}
			return all
		},
		Actions: l.hv.Actions, Requests: l.asked,
		Cut:    func(n int, loss drivertest.Loss) { l.mu.Lock(); l.cut, l.loss = n, loss; l.mu.Unlock() },
		Revive: l.revive,
		Hang:   func() { l.mu.Lock(); l.hanging = true; l.mu.Unlock() },
		Left: func() string {
			left := l.hv.Wrong()
			if is := l.hv.Shown("WS-0001"); is != was {
				left = append(left, "was "+was, "is "+is)
			}
			if is := l.hv.Shown("unbrick-helper"); is != beside {
				left = append(left, "was "+beside, "is "+is)
			}
			if d.lent > 0 {
				left = append(left, "the desk still lends the disk")
			}
			return strings.Join(left, "\n")
		},
	}
}

func wants(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}

// Two on one helper at once, at places of their own, which the desk is told when they are there.
func TestTwoAtOnce(t *testing.T) {
	l, d := newLine(t), new(desk)
	l.hv.Add(guest(2, `C:\ws2.vhdx`))
	was := l.hv.Shown("WS-0001") + l.hv.Shown("WS-0002") + l.hv.Shown("unbrick-helper")
	driver := l.driver(d, false)
	var all sync.WaitGroup
	for _, name := range []string{"WS-0001", "WS-0002"} {
		all.Go(func() {
			if err := driver.Enter(t.Context(), target(name), remediate.Image{}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if slices.Sort(d.said); fmt.Sprint(d.said) != "[HV1/unbrick-helper lun:1 HV1/unbrick-helper lun:2]" {
		t.Errorf("the desk was told %q", d.said)
	}
	for _, name := range []string{"WS-0001", "WS-0002"} {
		all.Go(func() {
			if err := driver.Leave(t.Context(), target(name), remediate.Posture{}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if is := l.hv.Shown("WS-0001") + l.hv.Shown("WS-0002") + l.hv.Shown("unbrick-helper"); is != was || len(l.hv.Wrong()) > 0 {
		t.Errorf("was %s\nis  %s\n%v", was, is, l.hv.Wrong())
	}
}

// Generation 1 starts from IDE, has no order of boot in the firmware, and may have a policy in
// place of limits.
func TestGeneration1(t *testing.T) {
	l := newLine(t)
	v := guest(3, `C:\ws3.vhd`)
	v.Generation, v.Boot, v.DVDs = 1, nil, nil
	v.Drives = []hypervtest.Drive{{Type: "SCSI", Path: `C:\data.vhdx`}, {Type: "IDE", Path: `C:\ws3.vhd`, QoS: "7e2d4a1c-0000-4000-8000-000000000001"}}
	l.hv.Add(v)
	was := l.hv.Shown("WS-0003")
	driver := l.driver(new(desk), false)
	p, err := driver.Observe(t.Context(), target("11111111-0000-4000-8000-000000000003"))
	if err != nil || p.Detail["volume"] != `C:\ws3.vhd as IDE:0:0 of WS-0003` || !strings.Contains(p.Detail["tpm"], "recovery key") {
		t.Errorf("%v, %v", p, err)
	}
	if err := driver.Enter(t.Context(), target("WS-0003"), remediate.Image{}); err != nil {
		t.Fatal(err)
	}
	if err := driver.Leave(t.Context(), target("ws-0003"), remediate.Posture{}); err != nil || l.hv.Shown("WS-0003") != was {
		t.Errorf("%v\nwas %s\nis  %s", err, was, l.hv.Shown("WS-0003"))
	}
}

// What must not be swapped is refused before anything is changed, and says what to do instead.
func TestRefusals(t *testing.T) {
	drive := func(change func(*hypervtest.Drive)) func(*hypervtest.VM) {
		return func(v *hypervtest.VM) { change(&v.Drives[0]) }
	}
	for name, c := range map[string]struct {
		change func(*hypervtest.VM) // of the guest
		beside func(*hypervtest.VM) // of the helper
		vm     string
		want   string
	}{
		"checkpoints":    {change: func(v *hypervtest.VM) { v.Checkpoints = 2 }, want: "Get-VMSnapshot -VMName 'WS-0001' | Remove-VMSnapshot"},
		"a chain":        {change: drive(func(d *hypervtest.Drive) { d.Path = `C:\ws1_1.avhdx` }), want: "merge them"},
		"shielded":       {change: func(v *hypervtest.VM) { v.Shielded = true }, want: "guardian"},
		"clustered":      {change: func(v *hypervtest.VM) { v.Clustered = true }, want: "Remove-ClusterGroup"},
		"replicated":     {change: func(v *hypervtest.VM) { v.Replication = "Replicating" }, want: "Remove-VMReplication"},
		"saved":          {change: func(v *hypervtest.VM) { v.State = "Saved" }, want: "Remove-VMSavedState"},
		"passed through": {change: drive(func(d *hypervtest.Drive) { d.Disk = "2" }), want: "passed through whole"},
		"reservations":   {change: drive(func(d *hypervtest.Drive) { d.Reservations = true }), want: "shared with other"},
		"a VHD set":      {change: drive(func(d *hypervtest.Drive) { d.Path = `C:\x.vhds` }), want: "shared with other"},
		"no file":        {change: drive(func(d *hypervtest.Drive) { d.Path = "" }), want: "no file"},
		"on two":         {beside: func(v *hypervtest.VM) { v.Name, v.Drives[0].Path = "other", strings.ToUpper(file) }, want: "other has"},
		"which disk":     {change: func(v *hypervtest.VM) { v.Boot = nil }, want: "?disk=SCSI:0:0"},
		"no such disk":   {vm: "WS-0001?disk=SCSI:0:7", want: "no disk at SCSI:0:7"},
		"a helper":       {vm: "unbrick-helper", want: "it is a helper"},
		"none":           {vm: "WS-0009", want: "Hyper-V Administrators"},
		"two":            {beside: func(v *hypervtest.VM) { v.Name = "WS-0001" }, want: "by its id"},
		"helper is off":  {beside: func(v *hypervtest.VM) { v.State = "Off" }, want: "no helper"},
		"helper's SCSI":  {beside: func(v *hypervtest.VM) { v.SCSI = 0 }, want: "Add-VMScsiController"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLine(t)
			if c.change != nil {
				l.hv.Change("WS-0001", c.change)
			}
			if c.beside != nil {
				l.hv.Change("unbrick-helper", c.beside)
			}
			if c.vm == "" {
				c.vm = "WS-0001"
			}
			_, err := l.driver(new(desk), false).Observe(t.Context(), target(c.vm))
			wants(t, err, c.want)
			if l.hv.Actions() > 0 {
				t.Error("something was changed")
			}
		})
	}
}

func TestDenied(t *testing.T) {
	l := newLine(t)
	l.hv.Deny()
	_, err := l.driver(new(desk), false).Observe(t.Context(), target("WS-0001"))
	wants(t, err, "required permission")
}

// A disk that is back while its order of boot is not goes on from there, forth or back.
func TestHalfBack(t *testing.T) {
	for _, again := range []bool{false, true} {
		l := newLine(t)
		was, driver := l.hv.Shown("WS-0001"), l.driver(new(desk), false)
		enter := func() error { return driver.Enter(t.Context(), target("WS-0001"), remediate.Image{}) }
		leave := func() error { return driver.Leave(t.Context(), target("WS-0001"), remediate.Posture{}) }
		if err := enter(); err != nil {
			t.Fatal(err)
		}
		l.hv.FailBoot("WS-0001")
		wants(t, leave(), "modify device settings")
		if len(l.hv.Events(file)) != 1 {
			t.Error("it was started without its order of boot")
		}
		if again {
			if err := enter(); err != nil {
				t.Fatal(err)
			}
		}
		if err := leave(); err != nil || l.hv.Shown("WS-0001") != was || len(l.hv.Wrong()) > 0 {
			t.Errorf("%v\nwas %s\nis  %s\n%v", err, was, l.hv.Shown("WS-0001"), l.hv.Wrong())
		}
	}
}

// The place of the disk that somebody has taken meanwhile is not taken from them, and a disk
// that somebody hung elsewhere is left there.
func TestMeanwhile(t *testing.T) {
	l := newLine(t)
	driver := l.driver(new(desk), false)
	if err := driver.Enter(t.Context(), target("WS-0001"), remediate.Image{}); err != nil {
		t.Fatal(err)
	}
	l.hv.Change("WS-0001", func(v *hypervtest.VM) {
		v.Drives = append(v.Drives, hypervtest.Drive{Type: "SCSI", Path: `C:\new.vhdx`})
	})
	wants(t, driver.Leave(t.Context(), target("WS-0001"), remediate.Posture{}), "take that off")

	l = newLine(t)
	driver = l.driver(new(desk), false)
	if err := driver.Enter(t.Context(), target("WS-0001"), remediate.Image{}); err != nil {
		t.Fatal(err)
	}
	l.hv.Change("unbrick-helper", func(v *hypervtest.VM) { v.Name = "somebody" })
	wants(t, driver.Leave(t.Context(), target("WS-0001"), remediate.Posture{}), "did not hang it there")
}

// A copy is made once, beside the disk, and the command that removes it names it.
func TestCopy(t *testing.T) {
	l, records := newLine(t), &rescue.MemRecords{}
	driver := swap.New(swap.Options{Way: "hyperv", Platform: l.platform(), Desk: new(desk), Records: records, Snapshot: true, Every: time.Millisecond})
	for range 2 {
		if err := driver.Enter(t.Context(), target("WS-0001"), remediate.Image{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := driver.Leave(t.Context(), target("WS-0001"), remediate.Posture{}); err != nil {
		t.Fatal(err)
	}
	all, err := swap.NewJournal(records).All(t.Context())
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	copied := file + "." + all[0].Mark + ".copy"
	if want := "Remove-Item -LiteralPath '" + strings.ReplaceAll(copied, "'", "''") + "'"; !l.hv.Has(copied) || l.hv.Has(copied+".part") || hyperv.Removal(all[0]) != want {
		t.Errorf("%q, want %q", hyperv.Removal(all[0]), want)
	}
	l = newLine(t)
	l.hv.Fill()
	driver = l.driver(new(desk), true)
	wants(t, driver.Enter(t.Context(), target("WS-0001"), remediate.Image{}), "is there room")
	if err := driver.Leave(t.Context(), target("WS-0001"), remediate.Posture{}); err != nil || l.hv.Events(file)[0] != "started with WS-0001" {
		t.Errorf("%v, %v", err, l.hv.Events(file))
	}
}
