package libvirt_test

import (
	"context"
	"os"
	"strings"
	"sync"
	"testing"

	lib "github.com/digitalocean/go-libvirt"

	"unbrick/remediate"
	"unbrick/remediate/driver/libvirt/libvirttest"
	"unbrick/remediate/lab/testenv"
)

// daemon is the one of all tests of the package: it takes a second to start.
type daemon struct{ *libvirttest.Daemon }

var shared = sync.OnceValues(libvirttest.Start)

func TestMain(m *testing.M) {
	code := m.Run()
	if started {
		if d, err := shared(); err == nil {
			_ = d.Close()
		}
	}
	os.Exit(code)
}

// started says that a test has asked for the daemon.
var started bool

func startDaemon(t *testing.T) *daemon {
	t.Helper()
	testenv.Need(t, "libvirtd", "qemu-system-x86_64")
	started = true
	d, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return &daemon{d}
}

// folder makes a folder for one test.
func (d *daemon) folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(d.Dir, "t")
	if err == nil {
		err = d.Give(dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// control connects a test to the daemon, by the way that a person's tool takes.
func (d *daemon) control(t *testing.T, uri string) *lib.Libvirt {
	t.Helper()
	l, err := d.Connect(uri)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Disconnect() })
	return l
}

// define makes a domain, and removes it after the test whatever became of it.
func define(t *testing.T, l *lib.Libvirt, xml string) lib.Domain {
	t.Helper()
	dom, err := l.DomainDefineXML(xml)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = l.DomainDestroy(dom) // it may be off
		flags := lib.DomainUndefineFlagsValues(0)
		if strings.Contains(xml, "<nvram") {
			flags = lib.DomainUndefineNvram
		}
		if err := l.DomainUndefineFlags(dom, flags); err != nil && !lib.IsNotFound(err) {
			t.Error(err)
		}
	})
	return dom
}

func start(t *testing.T, l *lib.Libvirt, dom lib.Domain) {
	t.Helper()
	if err := l.DomainCreate(dom); err != nil {
		t.Fatal(err)
	}
}

// inactive is the XML that a domain is started as.
func inactive(t *testing.T, l *lib.Libvirt, dom lib.Domain) string {
	t.Helper()
	text, err := l.DomainGetXMLDesc(dom, lib.DomainXMLInactive|lib.DomainXMLSecure)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func state(t *testing.T, l *lib.Libvirt, dom lib.Domain) lib.DomainState {
	t.Helper()
	s, _, err := l.DomainGetState(dom, 0)
	if err != nil {
		t.Fatal(err)
	}
	return lib.DomainState(s)
}

// desk is where nobody stands.
type desk struct{}

func (desk) Lend(context.Context, remediate.Target, string, string) error { return nil }
func (desk) Withdraw(context.Context, remediate.Target) error             { return nil }
