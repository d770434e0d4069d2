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

	"unbrick/bitlocker"
	"unbrick/bitlocker/keytest"
	"unbrick/bitlocker/source/activedirectory"
	"unbrick/inventory/secret"
	"unbrick/remediate/lab/testenv"
)

// What the domain of the tests is called, and who is in it.
const (
	realm    = "unbrick.test"
	dcName   = "dc1." + realm
	domainDN = "DC=unbrick,DC=test"
	adminPw  = "Passw0rd!x1"
	userPw   = "Reader!Passw0rd2"
	reader   = "reader" // may read keys below OU=Fleet
	lister   = "lister" // may read there, but has no CONTROL_ACCESS
	nobody   = "nobody" // may do what any account may
	fleetOU  = "OU=Fleet," + domainDN
)

// A domain is a Samba domain controller of this test alone.
type domain struct {
	dir, ip string
	admin   *ldap.Conn
}

// startDomain provisions a domain, starts its controller on a loopback address of its own and
// logs on as its administrator. It takes about ten seconds.
func startDomain(t *testing.T) *domain {
	testenv.Need(t, "samba", "samba-tool", "/usr/share/samba/setup/ad-schema") // samba-ad-dc, samba-ad-provision
	if os.Getuid() != 0 {
		testenv.Missing(t, "root: a domain controller has fixed ports")
	}
	pid := os.Getpid()
	d := &domain{dir: t.TempDir(), ip: fmt.Sprintf("127.%d.%d.20", 64+pid>>8&63, pid&255)}
	certificates(t, d.dir)
	ad := filepath.Join(d.dir, "ad")
	run := filepath.Join(ad, "run")
	d.tool(t, "domain", "provision", "--targetdir="+ad, "--realm="+strings.ToUpper(realm), "--domain=UNBRICK", "--server-role=dc",
		"--dns-backend=NONE", "--adminpass="+adminPw, "--host-name=dc1", "--host-ip="+d.ip,
		"--option=interfaces="+d.ip+"/8", "--option=bind interfaces only=yes", "--option=server services=rpc ldap cldap kdc", "--option=dns forwarder=",
		"--option=tls certfile="+filepath.Join(d.dir, "dc.pem"), "--option=tls keyfile="+filepath.Join(d.dir, "dc.key"), "--option=tls cafile="+filepath.Join(d.dir, "ca.pem"),
		"--option=ldap server require strong auth=allow_sasl_over_tls", "--option=ldb:nosync=yes", "--option=dsdb:schema update allowed=yes",
		"--option=pid directory="+run, "--option=ncalrpc dir="+filepath.Join(run, "ncalrpc"),
		"--option=ntp signd socket directory="+filepath.Join(run, "ntp"), "--option=winbindd socket directory="+filepath.Join(run, "wb"))
	if err := os.MkdirAll(run, 0o755); err != nil {
		t.Fatal(err)
	}
	local := []string{"-H", filepath.Join(ad, "private", "sam.ldb"), "-s", filepath.Join(ad, "etc", "smb.conf")}
	d.tool(t, append([]string{"spn", "add", "ldap/" + dcName, "DC1$"}, local...)...)
	d.tool(t, append([]string{"ou", "add", fleetOU}, local...)...)
	for user, rights := range map[string]string{reader: "LCRPRCLOCR", lister: "LCRPRCLO", nobody: ""} {
		d.tool(t, append([]string{"user", "create", user, userPw}, local...)...)
		if rights != "" {
			sid := strings.TrimSpace(d.tool(t, append([]string{"user", "show", user, "--attributes=objectSid"}, local...)...))
			sid = sid[strings.LastIndex(sid, " ")+1:]
			d.tool(t, append([]string{"dsacl", "set", "--objectdn=" + fleetOU, "--sddl=(A;CI;" + rights + ";;;" + sid + ")"}, local...)...)
		}
	}
	d.tool(t, append([]string{"domain", "exportkeytab", filepath.Join(d.dir, "reader.keytab"), "--principal=" + reader}, local[2:]...)...)
	d.serve(t, filepath.Join(ad, "etc", "smb.conf"))
	return d
}

// tool runs samba-tool.
func (d *domain) tool(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("samba-tool", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("samba-tool %s: %v\n%s", args[:2], err, out)
	}
	return string(out)
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

// escrow puts keys into an organisational unit, as Windows hosts do.
func (d *domain) escrow(t *testing.T, ou string, keys ...keytest.Filing) string {
	t.Helper()
	dn := "OU=" + ou + "," + fleetOU
	d.add(t, dn, "organizationalUnit", nil)
	for i, k := range keys {
		name, _, _ := strings.Cut(k.Host, ".")
		computer := "CN=" + name + "," + dn
		d.add(t, computer, "computer", nil)
		guid := k.ID
		for j, from := range []int{3, 2, 1, 0, 5, 4, 7, 6} { // Windows writes the first three fields little-endian
			guid[j] = k.ID[from]
		}
		attributes := map[string]string{"msFVE-RecoveryGuid": string(guid[:])}
		if !k.Key.IsZero() {
			attributes["msFVE-RecoveryPassword"] = k.Key.Reveal()
		}
		d.add(t, fmt.Sprintf("CN=2023-10-10T10:%02d:00-08:00{%s},%s", i%60, k.ID, computer), "msFVE-RecoveryInformation", attributes)
	}
	return dn
}

// open returns the directory as a user of the domain sees it.
func (d *domain) open(t *testing.T, change func(*activedirectory.Config)) *activedirectory.Directory {
	t.Helper()
	cfg := activedirectory.Config{Name: dcName, Address: d.ip, CA: filepath.Join(d.dir, "ca.pem"), Login: d.login(t, reader, userPw)}
	if change != nil {
		change(&cfg)
	}
	dir, err := activedirectory.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return dir
}

func (d *domain) login(t *testing.T, user, password string) secret.Login {
	t.Helper()
	path := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(path, []byte(password), 0o600); err != nil {
		t.Fatal(err)
	}
	return secret.Login{User: user + "@" + realm, Password: secret.Ref("file:" + path)}
}

var _ interface {
	bitlocker.Indexer
	bitlocker.Prober
} = (*activedirectory.Directory)(nil)

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
