package samba

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"unbrick/remediate/lab/testenv"
)

// Password is the administrator's.
const Password = "Passw0rd!x1"

// A Domain is a domain controller of one test alone, on port 636 of a loopback address.
type Domain struct {
	Dir   string // with ca.pem
	IP    string
	Realm string     // lower case
	Name  string     // of the controller: dc1.realm
	DN    string     // DC=…,DC=…
	Admin *ldap.Conn // logged on as its administrator
}

// Options say what the domain is like.
type Options struct {
	Realm string   // lower case: unbrick.test
	Extra []string // more arguments of samba-tool domain provision
	// Prepare fills the directory before the controller starts: local are the arguments by
	// which samba-tool works on its files.
	Prepare func(d *Domain, local []string)
}

// Start provisions a domain and starts its controller until the test ends. It takes about ten
// seconds.
func Start(t *testing.T, o Options) *Domain {
	t.Helper()
	testenv.Need(t, "samba", "samba-tool", "/usr/share/samba/setup/ad-schema") // samba-ad-dc, samba-ad-provision
	if os.Getuid() != 0 {
		testenv.Missing(t, "root: a domain controller has fixed ports")
	}
	first, _, _ := strings.Cut(o.Realm, ".")
	pid := os.Getpid()
	d := &Domain{Dir: t.TempDir(), Realm: o.Realm, Name: "dc1." + o.Realm, DN: "DC=" + strings.ReplaceAll(o.Realm, ".", ",DC="),
		IP: fmt.Sprintf("127.%d.%d.20", 64+pid>>8&63, pid&255)}
	certificates(t, d.Dir, d.Name)
	ad := filepath.Join(d.Dir, "ad")
	run := filepath.Join(ad, "run")
	d.Tool(t, append([]string{"domain", "provision", "--targetdir=" + ad, "--realm=" + strings.ToUpper(o.Realm), "--domain=" + strings.ToUpper(first),
		"--server-role=dc", "--dns-backend=NONE", "--adminpass=" + Password, "--host-name=dc1", "--host-ip=" + d.IP,
		"--option=interfaces=" + d.IP + "/8", "--option=bind interfaces only=yes", "--option=server services=rpc ldap cldap kdc", "--option=dns forwarder=",
		"--option=tls certfile=" + filepath.Join(d.Dir, "dc.pem"), "--option=tls keyfile=" + filepath.Join(d.Dir, "dc.key"), "--option=tls cafile=" + filepath.Join(d.Dir, "ca.pem"),
		"--option=ldap server require strong auth=allow_sasl_over_tls", "--option=ldb:nosync=yes",
		"--option=pid directory=" + run, "--option=ncalrpc dir=" + filepath.Join(run, "ncalrpc"),
		"--option=ntp signd socket directory=" + filepath.Join(run, "ntp"), "--option=winbindd socket directory=" + filepath.Join(run, "wb")}, o.Extra...)...)
	if err := os.MkdirAll(run, 0o755); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(ad, "etc", "smb.conf")
	o.Prepare(d, []string{"-H", filepath.Join(ad, "private", "sam.ldb"), "-s", conf})
	d.serve(t, conf)
	return d
}

// Tool runs samba-tool and returns what it printed.
func (d *Domain) Tool(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("samba-tool", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("samba-tool %s: %v\n%s", args[:2], err, out)
	}
	return string(out)
}

// serve starts the controller and waits until its administrator can log on.
func (d *Domain) serve(t *testing.T, conf string) {
	t.Helper()
	cmd := exec.Command("samba", "-s", conf, "-F", "--no-process-group", "-M", "single")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
	roots := x509.NewCertPool()
	ca, err := os.ReadFile(filepath.Join(d.Dir, "ca.pem"))
	if err != nil || !roots.AppendCertsFromPEM(ca) {
		t.Fatal("no CA", err)
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		d.Admin, err = ldap.DialURL("ldaps://"+net.JoinHostPort(d.IP, "636"), ldap.DialWithTLSConfig(&tls.Config{RootCAs: roots, ServerName: d.Name}))
		if err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the domain controller does not answer: ", err)
		}
	}
	t.Cleanup(func() { d.Admin.Close() })
	if err := d.Admin.Bind("Administrator@"+d.Realm, Password); err != nil {
		t.Fatal(err)
	}
}

// Add creates an object as the administrator, if it is not there yet.
func (d *Domain) Add(t *testing.T, dn, class string, attributes map[string]string) {
	t.Helper()
	req := ldap.NewAddRequest(dn, nil)
	req.Attribute("objectClass", []string{class})
	for name, value := range attributes {
		req.Attribute(name, []string{value})
	}
	if err := d.Admin.Add(req); err != nil && !ldap.IsErrorWithCode(err, ldap.LDAPResultEntryAlreadyExists) {
		t.Fatalf("%s: %v", dn, err)
	}
}
