package libvirttest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	lib "github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket/dialers"
)

// nobody is who the daemon runs as: as root it would write to /etc and /var.
const nobody = 65534

// A Daemon is a libvirtd that runs. Close it.
type Daemon struct {
	Dir    string // what guests need to reach has to be below it
	Socket string
	cmd    *exec.Cmd
}

// Start starts one, and returns when it answers. It needs libvirtd with its QEMU driver.
func Start() (*Daemon, error) {
	dir, err := os.MkdirTemp("", "lv") // short: the name of a socket has 107 bytes
	if err != nil {
		return nil, err
	}
	d := &Daemon{Dir: dir, Socket: filepath.Join(dir, "libvirt-sock")}
	err = d.start()
	if err == nil {
		err = d.await()
	}
	if err != nil {
		said, _ := os.ReadFile(d.log())
		return nil, errors.Join(fmt.Errorf("cannot start libvirtd: %w: %s", err, said), d.Close())
	}
	return d, nil
}

func (d *Daemon) log() string { return filepath.Join(d.Dir, "log") }

func (d *Daemon) start() error {
	env := os.Environ()
	for _, v := range []string{"HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"} {
		sub, err := d.Folder(v)
		if err != nil {
			return err
		}
		env = append(env, v+"="+sub)
	}
	conf := filepath.Join(d.Dir, "libvirtd.conf")
	text := fmt.Sprintf("unix_sock_dir = %q\nauth_unix_rw = \"none\"\nauth_unix_ro = \"none\"\nlog_outputs = \"3:file:%s\"\n", d.Dir, d.log())
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return err
	}
	if err := d.Give(d.Dir); err != nil {
		return err
	}
	cmd := exec.Command("libvirtd", "-f", conf, "-p", filepath.Join(d.Dir, "pid"))
	cmd.Env = env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt from the keyboard is for the test
	if os.Getuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	d.cmd = cmd
	return cmd.Start()
}

// await asks until it answers: a daemon tells nobody that it is ready.
func (d *Daemon) await() error {
	var err error
	for range 300 {
		var l *lib.Libvirt
		if l, err = d.Connect("test:///default"); err == nil {
			return l.Disconnect()
		}
		time.Sleep(100 * time.Millisecond)
	}
	return err
}

// Close ends it. Its guests end before: undefine and destroy them.
func (d *Daemon) Close() error {
	if d.cmd != nil && d.cmd.Process != nil {
		_ = d.cmd.Process.Signal(syscall.SIGTERM)
		_ = d.cmd.Wait() // by a signal, as it should
	}
	return os.RemoveAll(d.Dir)
}

// Connect connects by the way that a person's tool takes.
func (d *Daemon) Connect(uri string) (*lib.Libvirt, error) {
	l := lib.NewWithDialer(dialers.NewLocal(dialers.WithSocket(d.Socket)))
	return l, l.ConnectToURI(lib.ConnectURI(uri))
}

// Folder makes a folder that the daemon and its guests may write to.
func (d *Daemon) Folder(name string) (string, error) {
	dir := filepath.Join(d.Dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	return dir, d.Give(dir)
}

// Give gives a file or folder to the daemon and its guests.
func (d *Daemon) Give(name string) error {
	if os.Getuid() != 0 {
		return nil
	}
	return os.Chown(name, nobody, nobody)
}
