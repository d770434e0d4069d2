package winrm_test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"unbrick/inventory/secret"
	"unbrick/remediate/lab/testenv"
	"unbrick/remediate/winrm"
)

// python is Debian's, which has Debian's modules.
const python = "/usr/bin/python3"

// acceptor starts a service whose login is MIT GSSAPI's, and returns its port.
func acceptor(t *testing.T, env []string, args ...string) (port string) {
	testenv.Need(t, python, "/usr/lib/python3/dist-packages/gssapi")
	cmd := exec.Command(python, append([]string{"testdata/acceptor.py"}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Log(said.String())
		}
	})
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatal("the acceptor does not start: ", said.String())
	}
	return lines.Text()
}

// TestGSSAPI talks to a peer whose NTLM nobody here wrote.
func TestGSSAPI(t *testing.T) {
	testenv.Need(t, "/usr/lib/x86_64-linux-gnu/gssntlmssp/gssntlmssp.so")
	users := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(users, []byte("CORP:ops:"+password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	port := acceptor(t, []string{"NTLM_USER_FILE=" + users, "NETBIOS_DOMAIN_NAME=CORP"}, "ntlm")
	o := winrm.Options{Address: "http://127.0.0.1:" + port, Auth: ntlm()}
	s := dial(t, o)
	for _, in := range []string{"one", "two", strings.Repeat("three", 40000)} {
		r, err := s.Run(t.Context(), "line "+in[:3], []byte(in))
		if err != nil || r.Code != 7 || string(r.Stdout) != "line "+in[:3]+"\n"+in {
			t.Fatalf("%v: code %d, %d bytes", err, r.Code, len(r.Stdout))
		}
	}
	o.Auth = winrm.NTLM{User: `CORP\ops`, Password: secret.New("wrong")}
	if _, err := winrm.Dial(t.Context(), o); err == nil || !strings.Contains(err.Error(), "cannot log in") {
		t.Errorf("a wrong password: %v", err)
	}
}
