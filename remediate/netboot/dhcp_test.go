package netboot_test

import (
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"

	"unbrick/remediate/netboot"
)

// packet is what a firmware sends. The classes are as captures of real firmware have them:
// "PXEClient:Arch:00007:UNDI:003000" is OVMF, "PXEClient:Arch:00000:UNDI:002001" iPXE and
// Intel's boot agent; iPXE adds a user class, without the length that RFC 3004 wants.
func packet(t testing.TB, mac string, kind dhcpv4.MessageType, class string, arch iana.Arch, more ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	t.Helper()
	hw, err := net.ParseMAC(mac)
	if err != nil {
		t.Fatal(err)
	}
	m, err := dhcpv4.New(append([]dhcpv4.Modifier{
		dhcpv4.WithHwAddr(hw), dhcpv4.WithMessageType(kind), dhcpv4.WithBroadcast(true),
		dhcpv4.WithOption(dhcpv4.OptGeneric(dhcpv4.OptionClientMachineIdentifier, append([]byte{0}, make([]byte, 16)...))),
	}, more...)...)
	if err != nil {
		t.Fatal(err)
	}
	if class != "" {
		m.UpdateOption(dhcpv4.OptClassIdentifier(class))
		m.UpdateOption(dhcpv4.OptClientArch(arch))
	}
	return m
}

var (
	ipxe      = dhcpv4.WithOption(dhcpv4.OptGeneric(dhcpv4.OptionUserClassInformation, []byte("iPXE")))
	ipxeRFC   = dhcpv4.WithOption(dhcpv4.OptGeneric(dhcpv4.OptionUserClassInformation, []byte("\x04iPXE")))
	broadcast = &net.UDPAddr{IP: net.IPv4bcast, Port: 68}
	nobody    = &net.UDPAddr{IP: net.IPv4zero, Port: 68}
	client    = &net.UDPAddr{IP: net.IPv4(127, 0, 0, 9), Port: 4011}
)

const (
	discover = dhcpv4.MessageTypeDiscover
	request  = dhcpv4.MessageTypeRequest
	inform   = dhcpv4.MessageTypeInform
	uefi     = "PXEClient:Arch:00007:UNDI:003000"
	bios     = "PXEClient:Arch:00000:UNDI:002001"
	web      = "HTTPClient:Arch:00016:UNDI:003001"
)

func TestAnswer(t *testing.T) {
	s := start(t, nil)
	allow(t, s, mac, "http://10.0.0.1/i/t/rescue.iso")
	relay := dhcpv4.WithGatewayIP(net.IPv4(10, 9, 8, 1))
	has := dhcpv4.WithClientIP(net.IPv4(127, 0, 0, 9))
	for name, c := range map[string]struct {
		pxe  bool
		m    *dhcpv4.DHCPv4
		from *net.UDPAddr
		file string // empty: nothing is sent
		to   *net.UDPAddr
	}{
		"UEFI":                    {false, packet(t, mac, discover, uefi, 7), nobody, "shimx64.efi", broadcast},
		"UEFI, EFI BC":            {false, packet(t, mac, discover, "PXEClient:Arch:00009:UNDI:003016", 9), nobody, "shimx64.efi", broadcast},
		"UEFI asks again":         {true, packet(t, mac, request, uefi, 7, has), client, "shimx64.efi", client},
		"UEFI asks again, inform": {true, packet(t, mac, inform, uefi, 7, has), client, "shimx64.efi", client},
		"BIOS":                    {false, packet(t, mac, discover, bios, 0), nobody, "undionly.kpxe", broadcast},
		"BIOS with iPXE":          {false, packet(t, mac, discover, bios, 0, ipxe), nobody, s.Web() + "boot.ipxe", broadcast},
		"UEFI with iPXE":          {false, packet(t, mac, discover, uefi, 7, ipxeRFC), nobody, s.Web() + "boot.ipxe", broadcast},
		"HTTP boot":               {false, packet(t, mac, discover, web, 16), nobody, s.Web() + "rescue.iso", broadcast},
		"by a relay":              {false, packet(t, mac, discover, uefi, 7, relay), &net.UDPAddr{IP: net.IPv4(10, 9, 8, 1), Port: 67}, "shimx64.efi", &net.UDPAddr{IP: net.IPv4(10, 9, 8, 1), Port: 67}},
		"has an address":          {false, packet(t, mac, discover, uefi, 7, has), client, "shimx64.efi", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 9), Port: 68}},

		"a stranger":                   {false, packet(t, other, discover, uefi, 7), nobody, "", nil},
		"a stranger asks again":        {true, packet(t, other, request, uefi, 7, has), client, "", nil},
		"a host that does not boot":    {false, packet(t, mac, discover, "", 0), nobody, "", nil},
		"Windows":                      {false, packet(t, mac, discover, "MSFT 5.0", 0), nobody, "", nil},
		"a class that begins like it":  {false, packet(t, mac, discover, "PXEClientele", 7), nobody, "", nil},
		"a request to another server":  {false, packet(t, mac, request, uefi, 7), nobody, "", nil},
		"a release":                    {false, packet(t, mac, dhcpv4.MessageTypeRelease, uefi, 7), nobody, "", nil},
		"a discover on the other port": {true, packet(t, mac, discover, uefi, 7), client, "", nil},
		"ARM":                          {false, packet(t, mac, discover, "PXEClient:Arch:00011:UNDI:003000", 11), nobody, "", nil},
		"UEFI of 32 bits":              {false, packet(t, mac, discover, "PXEClient:Arch:00006:UNDI:003000", 6), nobody, "", nil},
		"HTTP boot of ARM":             {false, packet(t, mac, discover, "HTTPClient:Arch:00019", 19), nobody, "", nil},
		"an answer":                    {false, reply(packet(t, mac, discover, uefi, 7)), nobody, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			r, to := s.Answer(c.pxe, c.m, c.from)
			if r == nil {
				if c.file != "" {
					t.Fatal("no answer")
				}
				return
			}
			if r.BootFileName != c.file || to.String() != c.to.String() {
				t.Fatalf("told to load %q, at %v; want %q, at %v", r.BootFileName, to, c.file, c.to)
			}
			checkProxy(t, c.m, r)
		})
	}
}

func reply(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	m.OpCode = dhcpv4.OpcodeBootReply
	return m
}

// checkProxy checks an answer as firmware reads it off the wire: a proxy's, without an
// address, that belongs to the question.
func checkProxy(t *testing.T, m, sent *dhcpv4.DHCPv4) {
	t.Helper()
	r, err := dhcpv4.FromBytes(sent.ToBytes())
	if err != nil {
		t.Fatal(err)
	}
	if !r.YourIPAddr.IsUnspecified() || r.Options.Has(dhcpv4.OptionIPAddressLeaseTime) || r.Options.Has(dhcpv4.OptionSubnetMask) {
		t.Errorf("an address was handed out: %s", r.Summary())
	}
	want := dhcpv4.MessageTypeOffer
	if m.MessageType() != discover {
		want = dhcpv4.MessageTypeAck
	}
	class := "PXEClient"
	if m.ClassIdentifier() == web {
		class = "HTTPClient"
	}
	if r.OpCode != dhcpv4.OpcodeBootReply || r.MessageType() != want || r.TransactionID != m.TransactionID || r.ClientHWAddr.String() != mac || r.ClassIdentifier() != class {
		t.Errorf("answer %s", r.Summary())
	}
	if !r.ServerIPAddr.Equal(net.IPv4(127, 0, 0, 1)) || !r.ServerIdentifier().Equal(net.IPv4(127, 0, 0, 1)) {
		t.Errorf("server %v, %v", r.ServerIPAddr, r.ServerIdentifier())
	}
	if !slices.Equal(r.Options.Get(dhcpv4.OptionClientMachineIdentifier), m.Options.Get(dhcpv4.OptionClientMachineIdentifier)) {
		t.Error("the host's identifier is not sent back")
	}
	bios := len(m.ClientArch()) > 0 && m.ClientArch()[0] == 0
	if got := r.Options.Get(dhcpv4.OptionVendorSpecificInformation); bios != slices.Equal(got, []byte{6, 1, 8, 255}) {
		t.Errorf("option 43 is %v", got)
	}
}

// TestExpired forgets nobody, and answers nobody, once a host was allowed for too long.
func TestExpired(t *testing.T) {
	now := time.Now()
	s := start(t, func(c *netboot.Config) { c.TTL, c.Now = time.Hour, func() time.Time { return now } })
	allow(t, s, mac, "http://10.0.0.1/i/t/rescue.iso")
	s.Tie(mac, "127.0.0.9")
	for _, c := range []struct {
		after    time.Duration
		answered bool
	}{{time.Hour, true}, {time.Hour + time.Second, false}} {
		now = now.Add(c.after)
		if r, _ := s.Answer(false, packet(t, mac, discover, uefi, 7), nobody); (r != nil) != c.answered {
			t.Errorf("after %v: %v", c.after, r)
		}
		if s.Image([]string{mac}) == "" {
			t.Error("what is left of the host was forgotten")
		}
		now = now.Add(-c.after)
	}
}

// TestLend says who is lent an address, and which.
func TestLend(t *testing.T) {
	s := start(t, func(c *netboot.Config) { c.Lend = "127.0.0.240 - 127.0.0.241" })
	hosts := []string{"52:54:00:00:00:01", "52:54:00:00:00:02", "52:54:00:00:00:03"}
	for _, m := range hosts {
		allow(t, s, m, "http://10.0.0.1/i/t/rescue.iso")
	}
	us, them := dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(127, 0, 0, 1))), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(127, 0, 0, 2)))
	for i, c := range []struct {
		pxe  bool
		m    *dhcpv4.DHCPv4
		want string
	}{
		{false, packet(t, hosts[0], discover, uefi, 7), "127.0.0.240"},
		{false, packet(t, hosts[0], discover, uefi, 7), "127.0.0.240"}, // again
		{false, packet(t, hosts[1], discover, uefi, 7), "127.0.0.241"},
		{false, packet(t, hosts[0], request, uefi, 7, us), "127.0.0.240"},
		{false, packet(t, hosts[0], request, uefi, 7, them), ""}, // it took the other's
		{true, packet(t, hosts[0], request, uefi, 7, us), "0.0.0.0"},
		{false, packet(t, hosts[2], discover, uefi, 7), "0.0.0.0"}, // none is left: as a proxy
		{false, packet(t, hosts[0], discover, bios, 0), "0.0.0.0"},
		{false, packet(t, hosts[0], discover, bios, 0, ipxe), "0.0.0.0"},
		{false, packet(t, hosts[0], discover, web, 16), "0.0.0.0"},
		{false, packet(t, hosts[0], discover, uefi, 7, dhcpv4.WithGatewayIP(net.IPv4(10, 9, 8, 1))), "0.0.0.0"},
		{false, packet(t, hosts[0], discover, "", 0), ""},
		{false, packet(t, "52:54:00:00:00:99", discover, uefi, 7), ""},
	} {
		r, _ := s.Answer(c.pxe, c.m, client)
		got := ""
		if r != nil {
			got = r.YourIPAddr.String()
		}
		if got != c.want {
			t.Errorf("packet %d: lent %q, want %q", i, got, c.want)
		}
		if c.want != "" && c.want != "0.0.0.0" && (r.SubnetMask() == nil || r.IPAddressLeaseTime(0) == 0) {
			t.Errorf("packet %d: no mask or time: %s", i, r.Summary())
		}
	}
	if err := s.Forget(hosts[:1]); err != nil {
		t.Fatal(err)
	}
	if r, _ := s.Answer(false, packet(t, hosts[2], discover, uefi, 7), nobody); r == nil || r.YourIPAddr.String() != "127.0.0.240" {
		t.Errorf("an address that was given back is not lent: %v", r)
	}
}

// TestDHCPOnTheWire asks by real sockets. The stranger asks first: had it an answer, that
// would come before the other's.
func TestDHCPOnTheWire(t *testing.T) {
	s := start(t, nil)
	allow(t, s, mac, "http://10.0.0.1/i/t/rescue.iso")
	conn, err := net.DialUDP("udp4", nil, s.PXEAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ours := packet(t, mac, request, uefi, 7, dhcpv4.WithClientIP(net.IPv4(127, 0, 0, 1)))
	for _, p := range [][]byte{packet(t, other, request, uefi, 7).ToBytes(), nil, []byte("not DHCP"), ours.ToBytes()[:200], ours.ToBytes()} {
		if _, err := conn.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	buf := make([]byte, 4096)
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	r, err := dhcpv4.FromBytes(buf[:n])
	if err != nil || r.TransactionID != ours.TransactionID {
		t.Errorf("the first answer is %v, %v", r, err)
	}
}

// FuzzAnswer holds the law that nothing is sent to a host that is not allowed, and no address
// to any, whatever a packet has in it.
func FuzzAnswer(f *testing.F) {
	s := start(f, func(c *netboot.Config) { c.Log = nil })
	allow(f, s, mac, "http://10.0.0.1/i/t/rescue.iso")
	for _, m := range []string{mac, other} {
		for _, kind := range []dhcpv4.MessageType{discover, request, inform} {
			f.Add(packet(f, m, kind, uefi, 7, ipxe).ToBytes(), kind != discover)
			f.Add(packet(f, m, kind, bios, 0).ToBytes(), kind != discover)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, pxe bool) {
		m, err := dhcpv4.FromBytes(b)
		if err != nil {
			return
		}
		r, to := s.Answer(pxe, m, client)
		if r == nil {
			return
		}
		if m.ClientHWAddr.String() != mac {
			t.Fatalf("a stranger was answered: %s", m.Summary())
		}
		back, err := dhcpv4.FromBytes(r.ToBytes())
		if err != nil || to == nil || !back.YourIPAddr.IsUnspecified() || back.ClientHWAddr.String() != mac || back.TransactionID != m.TransactionID {
			t.Fatal(fmt.Sprint("answer ", r.Summary(), to, err))
		}
	})
}
