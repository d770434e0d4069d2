package libvirt_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	lib "github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket/dialers"

	"unbrick/remediate"
	"unbrick/remediate/lab/testenv"
)

// nobody is who Debian's daemon runs as here: as root it would write to /etc and /var. The
// drivers are the same.
const nobody = 65534

// A daemon is a libvirtd of its own, with all that it writes in one folder.
type daemon struct {
	dir, socket string
	said        string // the file with its complaints
}

// shared is the daemon of all tests of the package: it takes a second to start.
var shared struct {
	once sync.Once
	d    *daemon
	err  error
	stop func()
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.stop != nil {
		shared.stop()
	}
	os.Exit(code)
}

func startDaemon(t *testing.T) *daemon {
	t.Helper()
	testenv.Need(t, "libvirtd", "qemu-system-x86_64")
	shared.once.Do(func() { shared.d, shared.stop, shared.err = newDaemon() })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.d
}

func newDaemon() (*daemon, func(), error) {
	dir, err := os.MkdirTemp("", "lv") // short: the name of a socket has 107 bytes
	if err != nil {
		return nil, nil, err
	}
	d := &daemon{dir: dir, socket: filepath.Join(dir, "libvirt-sock"), said: filepath.Join(dir, "said")}
	env := os.Environ()
	for _, v := range []string{"HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"} {
		sub := filepath.Join(dir, v)
		if err := d.mkdir(sub); err != nil {
			return nil, nil, err
		}
		env = append(env, v+"="+sub)
	}
	conf := fmt.Sprintf("unix_sock_dir = %q\nauth_unix_rw = \"none\"\nauth_unix_ro = \"none\"\nlog_outputs = \"3:file:%s\"\n", dir, d.said)
	if err := os.WriteFile(filepath.Join(dir, "libvirtd.conf"), []byte(conf), 0o644); err != nil {
		return nil, nil, err
	}
	if err := d.lend(dir); err != nil {
		return nil, nil, err
	}
	cmd := exec.Command("libvirtd", "-f", filepath.Join(dir, "libvirtd.conf"), "-p", filepath.Join(dir, "pid"))
	cmd.Env = env
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if os.Getuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	stop := func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		_ = os.RemoveAll(dir)
	}
	for range 300 {
		if l, err := d.connect("test:///default"); err == nil {
			_ = l.Disconnect()
			return d, stop, nil
		}
		time.Sleep(100 * time.Millisecond) // a daemon says nothing when it is ready
	}
	said, _ := os.ReadFile(d.said)
	stop()
	return nil, nil, fmt.Errorf("libvirtd does not answer: %s", said)
}

// mkdir makes a folder that the daemon may write to.
func (d *daemon) mkdir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	return d.lend(dir)
}

// lend gives a file or folder to the daemon and its guests.
func (d *daemon) lend(name string) error {
	if os.Getuid() != 0 {
		return nil
	}
	return os.Chown(name, nobody, nobody)
}

// folder makes a folder for one test.
func (d *daemon) folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(d.dir, "t")
	if err == nil {
		err = d.lend(dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (d *daemon) connect(uri string) (*lib.Libvirt, error) {
	l := lib.NewWithDialer(dialers.NewLocal(dialers.WithSocket(d.socket)))
	return l, l.ConnectToURI(lib.ConnectURI(uri))
}

// control connects a test to the daemon, by the way that a person's tool takes.
func (d *daemon) control(t *testing.T, uri string) *lib.Libvirt {
	t.Helper()
	l, err := d.connect(uri)
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
		if err := l.DomainUndefineFlags(dom, flags); err != nil {
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
