package libvirt_test

import (
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"unbrick/inventory"
	"unbrick/inventory/source/libvirt"
	"unbrick/inventory/sourcetest"
	"unbrick/remediate/driver/libvirt/libvirttest"
	"unbrick/remediate/lab/testenv"
)

func TestCheck(t *testing.T) {
	testenv.Need(t, "libvirtd")
	d, err := libvirttest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	at := func(socket string) inventory.Source {
		s, err := libvirt.New(libvirt.Config{URI: "test+unix:///default?socket=" + url.QueryEscape(socket)})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	closed := filepath.Join(t.TempDir(), "closed")
	l, err := net.Listen("unix", closed)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Chmod(closed, 0); err != nil {
		t.Fatal(err)
	}
	if err := inventory.Check(t.Context(), at(d.Socket)); err != nil {
		t.Errorf("a hypervisor with domains: %v", err)
	}
	if err := inventory.Check(t.Context(), at(closed+"-not")); err == nil || !strings.Contains(err.Error(), "cannot reach it") {
		t.Errorf("no socket: %v", err)
	}
	// Root may connect to everything: this thread is somebody else for the rest of its life.
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err := syscall.Setfsuid(65534); err != nil {
			t.Error(err)
			return
		}
		sourcetest.CheckRights(t, sourcetest.Rights{Lacking: at(closed), Right: "libvirt's socket"})
	}()
	<-done
}
