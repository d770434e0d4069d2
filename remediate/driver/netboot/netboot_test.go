package netboot_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/pin/tftp/v3"

	"unbrick/inventory"
	"unbrick/remediate"
	"unbrick/remediate/driver/drivertest"
	"unbrick/remediate/driver/netboot"
	"unbrick/remediate/lab/testenv/ports"
	server "unbrick/remediate/netboot"
	"unbrick/remediate/power"
	"unbrick/remediate/power/powertest"
)

const hostMAC = "52:54:00:00:00:01"

// TestDriver runs the suite over a host whose firmware speaks DHCP and TFTP to the server.
func TestDriver(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) drivertest.Rig { return newRig(t).rig() })
}

// A rig is a host, its controller, and the server that it boots from. What the driver asks of
// the two is counted, and cut off as ordered.
type rig struct {
	t      *testing.T
	fake   *powertest.Fake
	server *server.Server
	image  string
	dhcp   *net.UDPAddr
	pxe    *net.UDPAddr
	tftp   string

	mu     sync.Mutex
	boots  []string
	asked  []bool // true: to change something
	cutAt  int    // of asked; -1: nowhere
	loss   drivertest.Loss
	dead   bool
	hang   bool
	target remediate.Target
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, cutAt: -1}
	images := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		// The host's own file names its image.
		_, _ = w.Write([]byte("http://" + q.Host + strings.Replace(q.URL.Path, "netboot/site.img", "rescue.iso", 1)))
	}))
	t.Cleanup(images.Close)
	r.image = images.URL + "/i/token/rescue.iso"
	r.dhcp, r.pxe, r.tftp = freePort(t), freePort(t), freePort(t).String()
	var err error
	r.server, err = server.Start(t.Context(), server.Config{
		Dir: t.TempDir(), Address: "127.0.0.1", DHCP: r.dhcp.String(), PXE: r.pxe.String(), TFTP: r.tftp, HTTP: "127.0.0.1:0",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.server.Close() })
	r.fake = &powertest.Fake{Started: r.started, OnlyOff: true}
	r.target = remediate.Target{Run: "r1", Attempt: 1, Host: inventory.Host{Name: "pc1", MAC: []string{hostMAC}},
		Route: inventory.Route{Driver: "netboot", Address: "fake:pc1"}}
	return r
}

// freePort returns an address of loopback that nobody has, for UDP.
func freePort(t *testing.T) *net.UDPAddr {
	t.Helper()
	return &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: ports.ForTest(t, ports.UDP).Number}
}

func (r *rig) rig() drivertest.Rig {
	return drivertest.Rig{
		Driver: netboot.New(allower{r}, power.Switches{"fake": controller{r}}),
		Target: r.target, Image: remediate.Image{URL: r.image},
		Boots:    func() []string { r.mu.Lock(); defer r.mu.Unlock(); return slices.Clone(r.boots) },
		Requests: func() []bool { r.mu.Lock(); defer r.mu.Unlock(); return slices.Clone(r.asked) },
		Actions: func() (n int) {
			r.mu.Lock()
			defer r.mu.Unlock()
			for _, changes := range r.asked {
				if changes {
					n++
				}
			}
			return n
		},
		Left: r.left,
		Cut: func(n int, l drivertest.Loss) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.cutAt, r.loss = len(r.asked)+n, l
		},
		Revive: func() { r.mu.Lock(); defer r.mu.Unlock(); r.dead = false },
		Hang:   func() { r.mu.Lock(); defer r.mu.Unlock(); r.hang = true },
	}
}

func (r *rig) left() string {
	s := r.fake.State("pc1")
	switch {
	case r.server.Image([]string{hostMAC}) != "":
		return "the host is still allowed to boot our image"
	case s.Next != power.Disk && s.Next != "":
		return "the next start boots " + string(s.Next)
	case s.Power != power.On:
		return "the power is " + string(s.Power)
	}
	return ""
}

// started is the firmware of the host.
func (r *rig) started(_ string, from power.Source) {
	what := drivertest.Disk
	if from == power.Network {
		what = r.pxeBoot()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.boots = append(r.boots, what)
}

// pxeBoot boots from the network as UEFI firmware, shim and GRUB do, and returns the image.
func (r *rig) pxeBoot() string {
	mac, _ := net.ParseMAC(hostMAC)
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	// It takes an address of its own DHCP server, which ours overhears.
	ask, err := dhcpv4.New(dhcpv4.WithHwAddr(mac), dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest),
		dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.IPv4(127, 0, 0, 1))))
	if err != nil {
		return err.Error()
	}
	if _, err := conn.WriteToUDP(ask.ToBytes(), r.dhcp); err != nil {
		return err.Error()
	}
	ask.UpdateOption(dhcpv4.OptClassIdentifier("PXEClient:Arch:00007:UNDI:003000"))
	ask.UpdateOption(dhcpv4.OptClientArch(iana.EFI_X86_64))
	if _, err := conn.WriteToUDP(ask.ToBytes(), r.pxe); err != nil {
		return err.Error()
	}
	buf := make([]byte, 4096)
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	n, err := conn.Read(buf)
	if err != nil {
		return err.Error()
	}
	told, err := dhcpv4.FromBytes(buf[:n])
	if err != nil {
		return err.Error()
	}
	var own string
	for _, name := range []string{told.BootFileName, "grubx64.efi", "/grub/grub.cfg", "/vmlinuz", "/initrd.img", "/site.img"} {
		if own, err = r.load(name); err != nil {
			return name + ": " + err.Error()
		}
	}
	return own
}

func (r *rig) load(name string) (string, error) {
	c, err := tftp.NewClient(r.tftp)
	if err != nil {
		return "", err
	}
	from, err := c.Receive(name, "octet")
	if err != nil {
		return "", err
	}
	var b strings.Builder
	_, err = from.WriteTo(&b)
	return b.String(), err
}

// ask is one thing that the driver asks for.
func (r *rig) ask(ctx context.Context, changes bool, do func() error) error {
	r.mu.Lock()
	loss := drivertest.Loss("")
	if len(r.asked) == r.cutAt {
		loss = r.loss
	}
	r.asked = append(r.asked, changes)
	dead, hang := r.dead, r.hang
	r.dead = r.dead || loss == drivertest.Death
	r.mu.Unlock()
	switch {
	case hang:
		<-ctx.Done()
		return ctx.Err()
	case dead || loss == drivertest.LostBefore:
		return errLost
	}
	if err := do(); err != nil || loss == "" {
		return err
	}
	return errLost
}

var errLost = errors.New("lost")

// A controller is the host's, on its way through the rig.
type controller struct{ *rig }

func (c controller) Power(ctx context.Context, t remediate.Target) (s power.State, err error) {
	err = c.ask(ctx, false, func() (err error) { s, err = c.fake.Power(ctx, t); return err })
	return s, err
}

func (c controller) Turn(ctx context.Context, t remediate.Target, s power.State) error {
	return c.ask(ctx, true, func() error { return c.fake.Turn(ctx, t, s) })
}

func (c controller) Next(ctx context.Context, t remediate.Target, from power.Source) error {
	return c.ask(ctx, true, func() error { return c.fake.Next(ctx, t, from) })
}

// An allower is the server, on its way through the rig.
type allower struct{ *rig }

func (a allower) Allow(macs []string, image string) error {
	return a.ask(a.t.Context(), true, func() error { return a.server.Allow(macs, image) })
}

func (a allower) Forget(macs []string) error {
	return a.ask(a.t.Context(), true, func() error { return a.server.Forget(macs) })
}

func (a allower) Image(macs []string) string { return a.server.Image(macs) }

// TestUp leaves a host that came up by itself while our image was allowed: it is not switched
// off, and nothing is left.
func TestUp(t *testing.T) {
	r := newRig(t)
	d := r.rig().Driver
	if err := d.Enter(t.Context(), r.target, remediate.Image{URL: r.image}); err != nil {
		t.Fatal(err)
	}
	r.fake.Crash("pc1") // its firmware gave up on us, or it reset itself
	r.target.Up = true
	ops := len(r.fake.Ops())
	if err := d.Leave(t.Context(), r.target, remediate.Posture{}); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(r.fake.Ops()[ops:], powertest.TurnOff) || r.left() != "" {
		t.Errorf("did %v, left: %s", r.fake.Ops()[ops:], r.left())
	}
}

// TestAnotherImage enters a host on which an attempt before this one has left its image.
func TestAnotherImage(t *testing.T) {
	r := newRig(t)
	if err := r.server.Allow([]string{hostMAC}, strings.Replace(r.image, "token", "older", 1)); err != nil {
		t.Fatal(err)
	}
	g := r.rig()
	if err := g.Driver.Enter(t.Context(), g.Target, g.Image); err != nil {
		t.Fatal(err)
	}
	if got := g.Boots(); !slices.Equal(got, []string{r.image}) {
		t.Errorf("booted %q", got)
	}
}

// TestObserveRefuses says what is wrong before anything is done.
func TestObserveRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*remediate.Target)
		want   string
	}{
		"no MAC":        {func(t *remediate.Target) { t.Host.MAC = nil }, "add the MAC"},
		"no controller": {func(t *remediate.Target) { t.Route.Address = "auto" }, "no redfish, ipmi or amt address"},
		"another one":   {func(t *remediate.Target) { t.Route.Address = "x:1" }, "neither auto nor a controller"},
	} {
		g := newRig(t).rig()
		c.change(&g.Target)
		_, err := g.Driver.Observe(t.Context(), g.Target)
		if err == nil || !strings.Contains(err.Error(), c.want) || g.Actions() != 0 {
			t.Errorf("%s: said %v, did %d things", name, err, g.Actions())
		}
	}
	r := newRig(t)
	r.fake.Set("pc1", func(s *powertest.State) { s.Power = power.Unknown })
	var later *remediate.RetryError
	if _, err := r.rig().Driver.Observe(t.Context(), r.target); !errors.As(err, &later) {
		t.Errorf("a controller that cannot tell: %v", err)
	}
}
