//go:build linux

package activedirectory_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"unbrick/bitlocker"
	"unbrick/bitlocker/keytest"
	"unbrick/bitlocker/source/activedirectory"
	"unbrick/inventory/secret"
	"unbrick/remediate/lab/testenv/samba"
)

// What the domain of the tests is called, and who is in it.
const (
	realm    = "unbrick.test"
	dcName   = "dc1." + realm
	domainDN = "DC=unbrick,DC=test"
	userPw   = "Reader!Passw0rd2"
	reader   = "reader" // may read keys below OU=Fleet
	lister   = "lister" // may read there, but has no CONTROL_ACCESS
	nobody   = "nobody" // may do what any account may
	fleetOU  = "OU=Fleet," + domainDN
)

// A domain is a Samba domain controller of this test alone.
type domain struct{ *samba.Domain }

// startDomain starts a domain in which some may read keys and others may not.
func startDomain(t *testing.T) *domain {
	return &domain{samba.Start(t, samba.Options{Realm: realm, Extra: []string{"--option=dsdb:schema update allowed=yes"}, Prepare: func(d *samba.Domain, local []string) {
		d.Tool(t, append([]string{"spn", "add", "ldap/" + dcName, "DC1$"}, local...)...)
		d.Tool(t, append([]string{"ou", "add", fleetOU}, local...)...)
		for user, rights := range map[string]string{reader: "LCRPRCLOCR", lister: "LCRPRCLO", nobody: ""} {
			d.Tool(t, append([]string{"user", "create", user, userPw}, local...)...)
			if rights != "" {
				sid := strings.TrimSpace(d.Tool(t, append([]string{"user", "show", user, "--attributes=objectSid"}, local...)...))
				sid = sid[strings.LastIndex(sid, " ")+1:]
				d.Tool(t, append([]string{"dsacl", "set", "--objectdn=" + fleetOU, "--sddl=(A;CI;" + rights + ";;;" + sid + ")"}, local...)...)
			}
		}
		d.Tool(t, append([]string{"domain", "exportkeytab", filepath.Join(d.Dir, "reader.keytab"), "--principal=" + reader}, local[2:]...)...)
	}})}
}

// escrow puts keys into an organisational unit, as Windows hosts do.
func (d *domain) escrow(t *testing.T, ou string, keys ...keytest.Filing) string {
	t.Helper()
	dn := "OU=" + ou + "," + fleetOU
	d.Add(t, dn, "organizationalUnit", nil)
	for i, k := range keys {
		name, _, _ := strings.Cut(k.Host, ".")
		computer := "CN=" + name + "," + dn
		d.Add(t, computer, "computer", nil)
		guid := k.ID
		for j, from := range []int{3, 2, 1, 0, 5, 4, 7, 6} { // Windows writes the first three fields little-endian
			guid[j] = k.ID[from]
		}
		attributes := map[string]string{"msFVE-RecoveryGuid": string(guid[:])}
		if !k.Key.IsZero() {
			attributes["msFVE-RecoveryPassword"] = k.Key.Reveal()
		}
		d.Add(t, fmt.Sprintf("CN=2023-10-10T10:%02d:00-08:00{%s},%s", i%60, k.ID, computer), "msFVE-RecoveryInformation", attributes)
	}
	return dn
}

// open returns the directory as a user of the domain sees it.
func (d *domain) open(t *testing.T, change func(*activedirectory.Config)) *activedirectory.Directory {
	t.Helper()
	cfg := activedirectory.Config{Name: dcName, Address: d.IP, CA: filepath.Join(d.Dir, "ca.pem"), Login: d.login(t, reader, userPw)}
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
