package rollback_test

import (
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	lib "github.com/digitalocean/go-libvirt"

	"unbrick/remediate/driver/libvirt/libvirttest"
	"unbrick/remediate/driver/vsphere/vspheretest"
	"unbrick/remediate/lab/testenv"
)

var shared = sync.OnceValues(libvirttest.Start)

// started says that a test has asked for the daemon, which all share: it takes a second.
var started atomic.Bool

func TestMain(m *testing.M) {
	vspheretest.Quiet()
	code := m.Run()
	if started.Load() {
		if d, err := shared(); err == nil {
			_ = d.Close()
		}
	}
	os.Exit(code)
}

func startDaemon(t *testing.T) *libvirttest.Daemon {
	t.Helper()
	testenv.Need(t, "libvirtd", "qemu-system-x86_64")
	started.Store(true)
	d, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// control connects a test to the daemon, by the way that a person's tool takes.
func control(t *testing.T, d *libvirttest.Daemon, uri string) *lib.Libvirt {
	t.Helper()
	l, err := d.Connect(uri)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Disconnect() })
	return l
}

// folder makes a folder for one test, which guests reach.
func folder(t *testing.T, d *libvirttest.Daemon) string {
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

// define makes a domain, and removes it with its snapshots after the test.
func define(t *testing.T, l *lib.Libvirt, xml string) lib.Domain {
	t.Helper()
	dom, err := l.DomainDefineXML(xml)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { remove(t, l, dom) })
	return dom
}

func remove(t *testing.T, l *lib.Libvirt, dom lib.Domain) {
	t.Helper()
	_ = l.DomainDestroy(dom) // it may be off
	err := l.DomainUndefineFlags(dom, lib.DomainUndefineSnapshotsMetadata|lib.DomainUndefineManagedSave)
	if err != nil && !lib.IsNotFound(err) {
		t.Error(err)
	}
}

func snapshot(t *testing.T, l *lib.Libvirt, dom lib.Domain, name string) {
	t.Helper()
	if _, err := l.DomainSnapshotCreateXML(dom, "<domainsnapshot><name>"+name+"</name></domainsnapshot>", 0); err != nil {
		t.Fatal(err)
	}
}

// names returns the names of the domain's snapshots, and the current one.
func names(t *testing.T, l *lib.Libvirt, dom lib.Domain) (all []string, current string) {
	t.Helper()
	list, _, err := l.DomainListAllSnapshots(dom, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range list {
		all = append(all, one.Name)
	}
	if has, err := l.DomainHasCurrentSnapshot(dom, 0); err != nil {
		t.Fatal(err)
	} else if has != 0 {
		one, err := l.DomainSnapshotCurrent(dom, 0)
		if err != nil {
			t.Fatal(err)
		}
		current = one.Name
	}
	return all, current
}

func kept(all []string) (name string, n int) {
	for _, one := range all {
		if strings.HasPrefix(one, "unbrick-") {
			name, n = one, n+1
		}
	}
	return name, n
}
