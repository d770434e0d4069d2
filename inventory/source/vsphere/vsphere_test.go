package vsphere_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/vmware/govmomi/simulator"

	"unbrick/inventory"
	"unbrick/inventory/source/vsphere"
	"unbrick/inventory/sourcetest"
	"unbrick/remediate/driver/drivertest"
	"unbrick/remediate/driver/vsphere/vspheretest"
	"unbrick/remediate/swap/swaptest"
)

func TestMain(m *testing.M) {
	vspheretest.Quiet()
	os.Exit(m.Run())
}

func start(t *testing.T) (*vspheretest.Server, *swaptest.Line) {
	t.Helper()
	s, err := vspheretest.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	t.Setenv("UNBRICK_TEST_VSPHERE", vspheretest.Password)
	for _, m := range []vspheretest.Machine{{Name: "ws2"}, {Name: "ws1", Off: true, Host: 1}, {Name: "web", Guest: "debian12_64Guest"}} {
		if _, err := s.Add(m); err != nil {
			t.Fatal(err)
		}
	}
	return s, swaptest.NewLine(t, api(s))
}

func api(s *vspheretest.Server) swaptest.API {
	return swaptest.API{Server: s, Changes: vspheretest.Changes, Throttle: vspheretest.Throttle, Refuse: vspheretest.Refuse}
}

func dial(t *testing.T, l *swaptest.Line, password string) *vsphere.Conn {
	t.Helper()
	t.Setenv("UNBRICK_TEST_VSPHERE", password)
	c, err := vsphere.NewConn(vsphere.Server{URL: l.URL, User: vspheretest.User, Password: "env:UNBRICK_TEST_VSPHERE"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestSource(t *testing.T) {
	s, l := start(t)
	good := dial(t, l, vspheretest.Password)
	sourcetest.Run(t, sourcetest.Case{
		Good:   func(*testing.T) inventory.Source { return vsphere.New(good, vsphere.Config{}) },
		Names:  []string{"web", "ws1", "ws2"},
		Broken: func(t *testing.T) inventory.Source { return vsphere.New(dial(t, l, "wrong"), vsphere.Config{}) },
	})
	template, err := s.Add(vspheretest.Machine{Name: "gold", Off: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Edit(template, func(m *simulator.VirtualMachine) { m.Config.Template, m.Summary.Config.Template = true, true })
	t.Setenv("UNBRICK_TEST_VSPHERE", vspheretest.Password)
	for _, c := range []struct {
		cfg  vsphere.Config
		want string
	}{
		{vsphere.Config{}, "web ws1 ws2"}, {vsphere.Config{Windows: true}, "ws1 ws2"}, {vsphere.Config{Running: true}, "web ws2"},
		{vsphere.Config{Names: []string{"ws1", "nobody"}}, "ws1"}, {vsphere.Config{Path: "/DC0/vm"}, "web ws1 ws2"},
		{vsphere.Config{Path: "/DC0/host/DC0_H1"}, "ws1"}, {vsphere.Config{Path: "/DC0/nowhere"}, "there is no /DC0/nowhere"},
	} {
		var got []string
		for h, err := range vsphere.New(good, c.cfg).Hosts(t.Context()) {
			if err != nil {
				got = append(got, err.Error())
				continue
			}
			got = append(got, h.Name)
			if h.Name == "ws1" {
				look(t, good, h)
			}
		}
		if text := strings.Join(got, " "); text != c.want && !(strings.HasPrefix(c.want, "there") && strings.Contains(text, c.want)) {
			t.Errorf("%+v: %q, want %q", c.cfg, text, c.want)
		}
	}
}

// look looks at all that is known of a host.
func look(t *testing.T, c *vsphere.Conn, h inventory.Host) {
	t.Helper()
	route, id, _ := strings.Cut(h.Routes[0].Address, "/")
	if len(h.Routes) != 2 || h.Routes[0].Driver != "vsphere" || h.Routes[1] != (inventory.Route{Driver: "vsphere-iso", Address: h.Routes[0].Address}) || route != c.Host() || len(id) != 36 {
		t.Errorf("routes %+v", h.Routes)
	}
	if h.Site != "DC0" || h.Labels["power"] != "off" || h.Labels["cluster"] != "DC0_H1" || h.Labels["os"] != "windows2019srv_64Guest" || h.Serial != vsphere.Serial(h.Labels["bios_uuid"]) || h.UUID != "" {
		t.Errorf("%+v", h)
	}
}

// The bytes are in the order in which the API, and uuid.bios of a .vmx file (Broadcom KB 344089),
// have them.
func TestSerial(t *testing.T) {
	for uuid, want := range map[string]string{
		"4203c0a5-2b1e-9f00-11aa-0123456789ab": "VMware-42 03 c0 a5 2b 1e 9f 00-11 aa 01 23 45 67 89 ab",
		"":                                     "", "4203": "", "4203c0a5-2b1e-9f00-11aa-0123456789xx": "",
	} {
		if got := vsphere.Serial(uuid); got != want {
			t.Errorf("%s: %q, want %q", uuid, got, want)
		}
	}
}

// Many machines come in many answers, a session may end in between, and nobody is left out.
func TestPages(t *testing.T) {
	s, err := vspheretest.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	const n = 12
	for i := range n {
		if _, err := s.Add(vspheretest.Machine{Name: "ws" + string(rune('a'+i)), Off: true}); err != nil {
			t.Fatal(err)
		}
	}
	l := swaptest.NewLine(t, api(s))
	src := vsphere.New(dial(t, l, vspheretest.Password), vsphere.Config{Page: 5})
	for range 2 {
		got := 0
		for _, err := range src.Hosts(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			got++
		}
		if got != n {
			t.Errorf("%d of %d", got, n)
		}
		s.EndSessions()
	}
}

// Check names the privilege that is missing, by VMware's name; a password that is wrong, and a
// server that refuses or has too much to do, say so too.
func TestCheck(t *testing.T) {
	s, l := start(t)
	c := dial(t, l, vspheretest.Password)
	if err := vsphere.New(c, vsphere.Config{Path: "/DC0"}).Check(t.Context(), "VirtualMachine.Interact.PowerOn"); err != nil {
		t.Error(err)
	}
	s.Allow("System.View", "System.Read", "VirtualMachine.Interact.PowerOn")
	err := vsphere.New(c, vsphere.Config{}).Check(t.Context(), "VirtualMachine.Interact.PowerOn", "VirtualMachine.Config.RemoveDisk")
	var lacks *inventory.RightError
	if !errors.As(err, &lacks) || lacks.Right != "VirtualMachine.Config.RemoveDisk on the root folder" || !strings.Contains(lacks.Where, vspheretest.User) {
		t.Error(err)
	}
	err = vsphere.New(dial(t, l, "wrong"), vsphere.Config{}).Check(t.Context())
	if err == nil || !strings.Contains(err.Error(), "cannot log in to "+c.Host()) || strings.Contains(err.Error(), "wrong") {
		t.Error(err)
	}
	for loss, want := range map[drivertest.Loss]string{drivertest.Throttled: "503", drivertest.Forbidden: "NoPermission"} {
		l.Cut(0, loss)
		if err := vsphere.New(c, vsphere.Config{}).Check(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", loss, err)
		}
	}
}

func TestNewConn(t *testing.T) {
	for _, c := range []struct {
		s    vsphere.Server
		want string
	}{
		{vsphere.Server{URL: "", User: "u", Password: "env:P"}, "no address"}, {vsphere.Server{URL: "https://u:p@vc/sdk", User: "u", Password: "env:P"}, "no address"},
		{vsphere.Server{URL: "vc1", Password: "env:P"}, "no user for vc1"}, {vsphere.Server{URL: "vc1", User: "u", Password: "hunter2"}, "not a reference"},
	} {
		if _, err := vsphere.NewConn(c.s); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%+v: %v, want %q", c.s, err, c.want)
		}
	}
}

func TestFromEnv(t *testing.T) {
	env := map[string]string{"GOVC_URL": "root@esx1.corp.example"}
	s, err := vsphere.FromEnv(vsphere.Server{}, func(k string) string { return env[k] })
	if err != nil || s.URL != "https://esx1.corp.example/sdk" || s.User != "root" || s.Password != "env:GOVC_PASSWORD" {
		t.Errorf("%+v, %v", s, err)
	}
	env = map[string]string{"GOVC_URL": "vc1.corp.example", "GOVC_USERNAME": "unbrick@vsphere.local"}
	if s, err := vsphere.FromEnv(vsphere.Server{}, func(k string) string { return env[k] }); err != nil || s.URL != "https://vc1.corp.example/sdk" || s.User != "unbrick@vsphere.local" {
		t.Errorf("without a user in the address: %+v, %v", s, err)
	}
	env["GOVC_URL"] = "root:hunter2@esx1"
	if _, err := vsphere.FromEnv(vsphere.Server{}, func(k string) string { return env[k] }); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Error(err)
	}
	given := vsphere.Server{URL: "vc1", User: "me", Password: "file:/p"}
	if s, err := vsphere.FromEnv(given, func(string) string { return "" }); err != nil || s.URL != "vc1" || s.User != "me" || s.Password != "file:/p" {
		t.Errorf("%+v, %v", s, err)
	}
}
