package probe_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"unbrick/inventory"
	"unbrick/remediate/lab/testenv"
	"unbrick/remediate/probe"
)

// Samba, which nobody here wrote, takes the request for what it is: whatever the oldest and
// the newest dialect that its owner allows. It serves one connection on its standard input.
func TestSamba(t *testing.T) {
	testenv.Need(t, "smbd")
	for _, dialects := range [][2]string{{"SMB2_02", "SMB3_11"}, {"SMB2_10", "SMB2_10"}, {"SMB3_11", "SMB3_11"}} {
		t.Run(dialects[0]+" to "+dialects[1], func(t *testing.T) {
			dir := t.TempDir()
			conf := filepath.Join(dir, "smb.conf")
			text := fmt.Sprintf("[global]\nserver min protocol = %s\nserver max protocol = %s\ndisable spoolss = yes\n", dialects[0], dialects[1])
			for _, d := range []string{"private dir", "lock directory", "state directory", "cache directory", "pid directory", "ncalrpc dir"} {
				text += d + " = " + dir + "\n"
			}
			if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			at := listen(t, func(c net.Conn) {
				f, err := c.(*net.TCPConn).File()
				if err != nil {
					return
				}
				defer f.Close()
				cmd := exec.Command("smbd", "-F", "-s", conf, "-l", dir)
				cmd.Stdin = f
				// It ends with a signal to all of its group, which must not be the tests'.
				cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
				_ = cmd.Run()
			})
			p := probe.New(probe.Options{Dial: network(map[string]string{"445": at})})
			got, err := p.Probe(t.Context(), inventory.Host{Address: "pc1:445"})
			if want := "SMB answered at " + at + " (SMB 2)"; err != nil || got != want {
				t.Errorf("%q, %v; want %q", got, err, want)
			}
		})
	}
}
