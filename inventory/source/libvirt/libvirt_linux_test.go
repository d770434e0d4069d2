package libvirt_test

import (
	"context"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/inventory/source/libvirt"
	"unbrick/inventory/sourcetest"
	"unbrick/remediate/driver/libvirt/libvirttest"
	"unbrick/remediate/lab/testenv"
)

const (
	windows = `<metadata><libosinfo:libosinfo xmlns:libosinfo="http://libosinfo.org/xmlns/libvirt/domain/1.0"><libosinfo:os id="http://microsoft.com/win/10"/></libosinfo:libosinfo></metadata>`
	debian  = `<metadata><libosinfo:libosinfo xmlns:libosinfo="http://libosinfo.org/xmlns/libvirt/domain/1.0"><libosinfo:os id="http://debian.org/debian/12"/></libosinfo:libosinfo></metadata>`
)

// TestSource passes the suite on a real daemon, whose own domain "test" is always there.
func TestSource(t *testing.T) {
	testenv.Need(t, "libvirtd")
	d, err := libvirttest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	l, err := d.Connect("test:///default") // the driver forgets all when nobody is connected
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Disconnect() })
	for _, xml := range []string{
		`<domain type='test'><name>WS-0002</name><uuid>5f1b2c3d-0000-4000-8000-000000000002</uuid><title>finance, Sydney</title>` + windows + `<memory>65536</memory>
<sysinfo type='smbios'><system><entry name='serial'>SN-2</entry></system></sysinfo><os><type>hvm</type></os>
<devices><interface type='user'><mac address='52:54:00:00:00:02'/></interface></devices></domain>`,
		`<domain type='test'><name>WS-0001</name>` + windows + `<memory>65536</memory><os><type>hvm</type></os></domain>`,
		`<domain type='test'><name>web</name>` + debian + `<memory>65536</memory><os><type>hvm</type></os></domain>`,
	} {
		dom, err := l.DomainDefineXML(xml)
		if err == nil && strings.Contains(xml, "WS-0002") {
			err = l.DomainCreate(dom)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	source := func(c libvirt.Config) func(*testing.T) inventory.Source {
		return func(t *testing.T) inventory.Source {
			if c.URI == "" {
				c.URI = "test+unix:///default?socket=" + url.QueryEscape(d.Socket)
			}
			s, err := libvirt.New(c)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
	}
	sourcetest.Run(t, sourcetest.Case{
		Good: source(libvirt.Config{}), Names: []string{"WS-0001", "WS-0002", "test", "web"},
		Broken: source(libvirt.Config{URI: "test+unix:///default?socket=/nowhere"}),
	})
	for _, c := range []struct {
		cfg  libvirt.Config
		want string
	}{
		{libvirt.Config{Windows: true}, "WS-0001 WS-0002"}, {libvirt.Config{Running: true}, "WS-0002 test"},
		{libvirt.Config{Title: "FINANCE"}, "WS-0002"}, {libvirt.Config{Title: "finance", Windows: true}, "WS-0002"}, {libvirt.Config{Title: "sales"}, ""},
	} {
		var names []string
		for h, err := range source(c.cfg)(t).Hosts(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, h.Name)
			if h.Name == "WS-0002" && (h.Serial != "SN-2" || h.UUID != "5f1b2c3d-0000-4000-8000-000000000002" || len(h.MAC) != 1 ||
				len(h.Routes) != 1 || h.Routes[0].Driver != "libvirt" || !strings.Contains(h.Routes[0].Address, "name=5f1b2c3d-0000-4000-8000-000000000002")) {
				t.Errorf("%+v", h)
			}
		}
		if strings.Join(names, " ") != c.want {
			t.Errorf("%+v: %q, want %q", c.cfg, names, c.want)
		}
	}
}

// A daemon that does not answer is left when time is up.
func TestHanging(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	ls, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ls.Close() })
	s, err := libvirt.New(libvirt.Config{URI: "qemu+unix:///system?socket=" + url.QueryEscape(socket)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	for _, err := range s.Hosts(ctx) {
		if err == nil || !strings.Contains(err.Error(), "deadline") {
			t.Errorf("it hangs: %v", err)
		}
	}
}

func TestNew(t *testing.T) {
	for uri, want := range map[string]string{"hv1": "no address", "qemu:///system?name=a": "no address", "qemu+ssh://hv1/system": "ssh -L", "qemu://u:p@hv1/system": "no address"} {
		if _, err := libvirt.New(libvirt.Config{URI: uri}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", uri, err, want)
		}
	}
}
