//go:build linux

package activedirectory_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
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

// What the domain of the tests is called, and who is in it.
const (
	realm    = "fleet.test"
	dcName   = "dc1." + realm
	domainDN = "DC=fleet,DC=test"
	adminPw  = "Passw0rd!x1"
	userPw   = "Reader!Passw0rd2"
)

// A domain is a Samba domain controller of this test alone.
type domain struct {
	dir, ip string
	admin   *ldap.Conn
}

// startDomain provisions a domain, starts its controller on a loopback address of its own and
// logs on as its administrator.
func startDomain(t *testing.T) *domain {
	testenv.Need(t, "samba", "samba-tool", "/usr/share/samba/setup/ad-schema") // samba-ad-dc, samba-ad-provision
	if os.Getuid() != 0 {
		testenv.Missing(t, "root: a domain controller has fixed ports")
	}
	pid := os.Getpid()
	d := &domain{dir: t.TempDir(), ip: fmt.Sprintf("127.%d.%d.21", 64+pid>>8&63, pid&255)}
	certificates(t, d.dir)
	ad := filepath.Join(d.dir, "ad")
	run := filepath.Join(ad, "run")
	tool(t, "domain", "provision", "--targetdir="+ad, "--realm="+strings.ToUpper(realm), "--domain=FLEET", "--server-role=dc",
		"--dns-backend=NONE", "--adminpass="+adminPw, "--host-name=dc1", "--host-ip="+d.ip,
		"--option=interfaces="+d.ip+"/8", "--option=bind interfaces only=yes", "--option=server services=rpc ldap kdc", "--option=dns forwarder=",
		"--option=tls certfile="+filepath.Join(d.dir, "dc.pem"), "--option=tls keyfile="+filepath.Join(d.dir, "dc.key"), "--option=tls cafile="+filepath.Join(d.dir, "ca.pem"),
		"--option=ldap server require strong auth=allow_sasl_over_tls", "--option=ldb:nosync=yes",
		"--option=pid directory="+run, "--option=ncalrpc dir="+filepath.Join(run, "ncalrpc"))
	if err := os.MkdirAll(run, 0o755); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(ad, "etc", "smb.conf")
	tool(t, "user", "create", "reader", userPw, "-H", filepath.Join(ad, "private", "sam.ldb"), "-s", conf)
	d.serve(t, conf)
	return d
}

// tool runs samba-tool.
func tool(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("samba-tool", args...).CombinedOutput(); err != nil {
		t.Fatalf("samba-tool %s: %v\n%s", args[:2], err, out)
	}
}

// serve starts the controller and waits until its administrator can log on.
func (d *domain) serve(t *testing.T, conf string) {
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
	ca, err := os.ReadFile(filepath.Join(d.dir, "ca.pem"))
	if err != nil || !roots.AppendCertsFromPEM(ca) {
		t.Fatal("no CA", err)
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		d.admin, err = ldap.DialURL("ldaps://"+net.JoinHostPort(d.ip, "636"), ldap.DialWithTLSConfig(&tls.Config{RootCAs: roots, ServerName: dcName}))
		if err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the domain controller does not answer: ", err)
		}
	}
	t.Cleanup(func() { d.admin.Close() })
	if err := d.admin.Bind("Administrator@"+realm, adminPw); err != nil {
		t.Fatal(err)
	}
}

// add creates an object, as the administrator.
func (d *domain) add(t *testing.T, dn, class string, attributes map[string]string) {
	t.Helper()
	req := ldap.NewAddRequest(dn, nil)
	req.Attribute("objectClass", []string{class})
	for name, value := range attributes {
		req.Attribute(name, []string{value})
	}
	if err := d.admin.Add(req); err != nil && !ldap.IsErrorWithCode(err, ldap.LDAPResultEntryAlreadyExists) {
		t.Fatalf("%s: %v", dn, err)
	}
}

// certificates writes an authority and the controller's certificate: Samba's own has no
// subject alternative name.
func certificates(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: dcName}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		DNSNames: []string{dcName}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, der []byte, err error) {
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, &key.PublicKey, key)
	write("ca.pem", "CERTIFICATE", der, err)
	der, err = x509.CreateCertificate(rand.Reader, leaf, ca, &leafKey.PublicKey, key)
	write("dc.pem", "CERTIFICATE", der, err)
	der, err = x509.MarshalPKCS8PrivateKey(leafKey)
	write("dc.key", "PRIVATE KEY", der, err)
}
