package winrm_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"unbrick/inventory/secret"
	"unbrick/remediate/lab/testenv"
	"unbrick/remediate/tlspin"
	"unbrick/remediate/winrm"
	"unbrick/remediate/winrm/winrmtest"
)

const (
	realm  = "UNBRICK.TEST"
	domain = "Passw0rd!x1" // password that a domain takes
)

// kdc starts a Samba domain controller in which ops and the host localhost have accounts. It
// returns the host's keytab and the address of the Kerberos service.
func kdc(t *testing.T) (keytab, address string) {
	testenv.Need(t, "samba", "samba-tool", "/usr/share/samba/setup/ad-schema") // samba-ad-dc, samba-ad-provision
	if os.Getuid() != 0 {
		testenv.Missing(t, "root: a domain controller has fixed ports")
	}
	dir, pid := t.TempDir(), os.Getpid()
	ip := fmt.Sprintf("127.%d.%d.21", 64+pid>>8&63, pid&255)
	ad := filepath.Join(dir, "ad")
	run := filepath.Join(ad, "run")
	tool := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("samba-tool", args...).CombinedOutput(); err != nil {
			t.Fatalf("samba-tool %s: %v\n%s", args[:2], err, out)
		}
	}
	tool("domain", "provision", "--targetdir="+ad, "--realm="+realm, "--domain=UNBRICK", "--server-role=dc", "--dns-backend=NONE",
		"--adminpass="+domain, "--host-name=dc1", "--host-ip="+ip, "--option=interfaces="+ip+"/8", "--option=bind interfaces only=yes",
		"--option=server services=kdc", "--option=dns forwarder=", "--option=ldb:nosync=yes", "--option=pid directory="+run,
		"--option=ncalrpc dir="+filepath.Join(run, "ncalrpc"), "--option=ntp signd socket directory="+filepath.Join(run, "ntp"),
		"--option=winbindd socket directory="+filepath.Join(run, "wb"))
	if err := os.MkdirAll(run, 0o755); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(ad, "etc", "smb.conf")
	sam := []string{"-H", filepath.Join(ad, "private", "sam.ldb"), "-s", conf}
	keytab = filepath.Join(dir, "host.keytab")
	tool(append([]string{"user", "create", "ops", domain}, sam...)...)
	tool(append([]string{"user", "create", "host", domain + "2"}, sam...)...)
	tool(append([]string{"spn", "add", "HTTP/localhost", "host"}, sam...)...)
	tool("domain", "exportkeytab", keytab, "--principal=HTTP/localhost", "-s", conf)

	cmd := exec.Command("samba", "-s", conf, "-F", "--no-process-group", "-M", "single")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
	address = net.JoinHostPort(ip, "88")
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
			return keytab, address
		}
		if time.Now().After(end) {
			t.Fatal("the domain controller does not answer: ", err)
		}
	}
}

// counting passes connections on to address, and counts them.
func counting(t *testing.T, address string, n *atomic.Int32) string {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lis.Close() })
	go func() {
		for {
			c, err := lis.Accept()
			if err != nil {
				return
			}
			n.Add(1)
			go func() {
				defer c.Close()
				d, err := net.Dial("tcp", address)
				if err != nil {
					return
				}
				go func() { io.Copy(d, c); d.Close() }()
				io.Copy(c, d)
			}()
		}
	}()
	return lis.Addr().String()
}

// TestPitfall08KerberosLogsInOnce: one login and one ticket, however many commands; against
// Samba's domain controller and MIT GSSAPI.
func TestPitfall08KerberosLogsInOnce(t *testing.T) {
	testenv.Need(t, python, "/usr/lib/python3/dist-packages/gssapi")
	keytab, address := kdc(t)
	dir := t.TempDir()
	cert := winrmtest.Certificate("localhost").Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int32
	for name, text := range map[string][]byte{
		"cert":      pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}),
		"key":       pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
		"krb5.conf": []byte("[libdefaults]\n default_realm = " + realm + "\n udp_preference_limit = 1\n dns_lookup_kdc = false\n[realms]\n " + realm + " = {\n  kdc = " + counting(t, address, &asked) + "\n }\n"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	conf := filepath.Join(dir, "krb5.conf")
	port := acceptor(t, []string{"KRB5_KTNAME=" + keytab, "KRB5_CONFIG=" + conf}, "kerberos", filepath.Join(dir, "cert"), filepath.Join(dir, "key"))

	before := runtime.NumGoroutine()
	k, err := winrm.NewKerberos(conf, "ops", realm, secret.New(domain))
	if err != nil {
		t.Fatal(err)
	}
	o := winrm.Options{Address: "https://localhost:" + port, Auth: k, TLS: tlspin.Policy{Mode: tlspin.Insecure}}
	for range 2 {
		s := dial(t, o)
		for range 5 {
			r, err := s.Run(t.Context(), "hello", []byte("in"))
			if err != nil || string(r.Stdout) != "hello\nin" {
				t.Fatalf("%+v, %v", r, err)
			}
		}
		s.Close()
	}
	if n := asked.Load(); n > 4 {
		t.Errorf("the domain was asked %d times, for two sessions of five commands", n)
	}
	k.Close()
	eventually(t, func() bool { return runtime.NumGoroutine() <= before }, func() {
		t.Errorf("%d goroutines before and %d now", before, runtime.NumGoroutine())
	})

	bad, err := winrm.NewKerberos(conf, "ops", realm, secret.New("wrong"))
	if err != nil {
		t.Fatal(err)
	}
	defer bad.Close()
	o.Auth = bad
	if _, err := winrm.Dial(t.Context(), o); err == nil || !strings.Contains(err.Error(), "does not admit ops") || strings.Contains(err.Error(), "wrong ") {
		t.Errorf("a wrong password: %v", err)
	}
	o.Auth, o.Address = k, "http://localhost:1"
	if _, err := winrm.Dial(context.Background(), o); err == nil || !strings.Contains(err.Error(), "Use https") {
		t.Errorf("Kerberos over http: %v", err)
	}
}
