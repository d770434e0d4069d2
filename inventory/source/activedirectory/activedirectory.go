// Package activedirectory reads the computers of an Active Directory domain by LDAPS.
//
// Least right: any account of the domain may read them, unless somebody has taken that away;
// computers that an account may not see are simply absent. A computer that is disabled counts
// as retired, one that never logged on as never online. Names of failover clusters are no
// machines and left out. Checked against Samba's domain controller.
package activedirectory

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"unbrick/inventory"
	"unbrick/inventory/calendar"
	"unbrick/inventory/secret"
)

// A Config says which directory to ask, and as whom.
type Config struct {
	Name    string // of the domain controller, as in its certificate, with ":port" if not 636
	Address string // where to reach it if its name does not resolve
	CA      string // PEM file with the only authorities to trust; empty: the system's
	Login   secret.Login

	Base   string // distinguished name to search below; empty: the whole domain
	Filter string // LDAP filter beside objectCategory=computer: "(operatingSystem=Windows*)"
	Page   int    // computers in one answer; 1,000, Windows's own limit, if 0
}

// A Source is the computers of one domain.
type Source struct {
	cfg  Config
	name string // without the port
	addr string
	tls  *tls.Config
	cal  *calendar.Calendar
}

const timeout = 60 * time.Second // of one answer

// New checks the configuration. It does not reach the directory.
func New(cfg Config) (*Source, error) {
	bad := func(why string) error { return fmt.Errorf("cannot use Active Directory %s: %s", cfg.Name, why) }
	cfg.Page = cmp.Or(cfg.Page, 1000)
	name, port, err := net.SplitHostPort(cfg.Name)
	if err != nil {
		name, port = cfg.Name, "636"
	}
	switch {
	case name == "":
		return nil, bad("give the name of a domain controller")
	case cfg.Login.User == "" || cfg.Login.Password == "":
		return nil, bad("give a user, as user@corp.example, and a reference to the password")
	case cfg.Page < 1:
		return nil, bad("a page has at least one computer")
	}
	if cfg.Filter != "" {
		if _, err := ldap.CompileFilter(cfg.Filter); err != nil {
			return nil, bad("the filter is no LDAP filter; write (operatingSystem=Windows*)")
		}
	}
	s := &Source{cfg: cfg, name: name, addr: net.JoinHostPort(cmp.Or(cfg.Address, name), port),
		tls: &tls.Config{ServerName: name, MinVersion: tls.VersionTLS12}, cal: calendar.New()}
	if cfg.CA != "" {
		text, err := os.ReadFile(cfg.CA)
		if err != nil {
			return nil, fmt.Errorf("cannot use Active Directory %s: %w", cfg.Name, err)
		}
		s.tls.RootCAs = x509.NewCertPool()
		if !s.tls.RootCAs.AppendCertsFromPEM(text) {
			return nil, bad(cfg.CA + " has no certificate in PEM")
		}
	}
	return s, nil
}

// Hosts implements [inventory.Source].
func (s *Source) Hosts(ctx context.Context) iter.Seq2[inventory.Host, error] {
	return inventory.Read(ctx, "Active Directory "+s.name, func(emit func(*inventory.Draft) error) error {
		conn, err := s.open(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		stop := context.AfterFunc(ctx, func() { conn.Close() }) // go-ldap knows no other way to stop
		defer stop()
		if err := s.read(ctx, conn, emit); ctx.Err() != nil {
			return ctx.Err()
		} else {
			return err
		}
	})
}

// open connects and logs on.
func (s *Source) open(ctx context.Context) (*ldap.Conn, error) {
	password, err := s.cfg.Login.Password.Resolve(ctx)
	if err != nil {
		return nil, err
	}
	dialing, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	raw, err := (&tls.Dialer{Config: s.tls}).DialContext(dialing, "tcp", s.addr)
	if err != nil {
		return nil, fmt.Errorf("cannot reach it: %w", err)
	}
	conn := ldap.NewConn(raw, true)
	conn.Start()
	conn.SetTimeout(timeout)
	if err := conn.Bind(s.cfg.Login.User, password.Reveal()); err != nil {
		conn.Close()
		if ldap.IsErrorWithCode(err, ldap.LDAPResultInvalidCredentials) {
			return nil, fmt.Errorf("it refuses user %s: the password is wrong or has expired, or the account is locked", s.cfg.Login.User)
		}
		return nil, fmt.Errorf("cannot log on as %s: %w", s.cfg.Login.User, err)
	}
	return conn, nil
}

// attributes are what is asked for.
var attributes = []string{"cn", "sAMAccountName", "dNSHostName", "userAccountControl", "lastLogonTimestamp", "operatingSystem",
	"location", "serialNumber", "networkAddress", "netbootGUID", "primaryGroupID", "servicePrincipalName", "isDeleted"}

// read reads the computers page by page.
func (s *Source) read(ctx context.Context, conn *ldap.Conn, emit func(*inventory.Draft) error) error {
	base := s.cfg.Base
	if base == "" {
		var err error
		if base, err = domain(conn); err != nil {
			return err
		}
	}
	page, n := ldap.NewControlPaging(uint32(s.cfg.Page)), 0
	for {
		res, err := conn.Search(ldap.NewSearchRequest(base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false,
			"(&(objectCategory=computer)"+s.cfg.Filter+")", attributes, []ldap.Control{page}))
		if ldap.IsErrorWithCode(err, ldap.LDAPResultNoSuchObject) {
			return fmt.Errorf("it has no %s that this account may see", base)
		}
		if err != nil {
			return fmt.Errorf("cannot search it: %w", err)
		}
		for _, e := range res.Entries {
			n++
			if err := emit(s.draft(e)); err != nil {
				return err
			}
		}
		next, ok := ldap.FindControl(res.Controls, ldap.ControlTypePaging).(*ldap.ControlPaging)
		if !ok || len(next.Cookie) == 0 {
			break
		}
		page.SetCookie(next.Cookie)
	}
	if n == 0 {
		return lacks(base, errNothing)
	}
	return ctx.Err()
}

// domain asks the directory for its domain's name.
func domain(conn *ldap.Conn) (string, error) {
	res, err := conn.Search(ldap.NewSearchRequest("", ldap.ScopeBaseObject, ldap.NeverDerefAliases, 1, 0, false, "(objectClass=*)", []string{"defaultNamingContext"}, nil))
	if err != nil {
		return "", fmt.Errorf("cannot ask it what it is: %w", err)
	}
	if len(res.Entries) != 1 || res.Entries[0].GetEqualFoldAttributeValue("defaultNamingContext") == "" {
		return "", errors.New("it is no Active Directory: it does not name its domain")
	}
	return res.Entries[0].GetEqualFoldAttributeValue("defaultNamingContext"), nil
}

// What userAccountControl, primaryGroupID and the age of lastLogonTimestamp mean (MS-ADTS
// 2.2.16, MS-SAMR 2.2.1.14, and msDS-LogonTimeSyncInterval: written every 9 to 14 days).
const (
	disabled              = 2
	domainControllers     = "516"
	readOnlyDCs           = "521"
	logonLag              = 14 * 24 * time.Hour
	fileTimeToUnixSeconds = 11644473600
)

// draft makes a host of a computer.
func (s *Source) draft(e *ldap.Entry) *inventory.Draft {
	get := e.GetEqualFoldAttributeValue
	if slices.ContainsFunc(e.GetEqualFoldAttributeValues("servicePrincipalName"), func(spn string) bool { return strings.HasPrefix(strings.ToLower(spn), "msclustervirtualserver/") }) {
		return inventory.Note(s.name+" "+e.DN, "the name of a failover cluster, and no machine; it is left out", "computers alone")
	}
	d := inventory.NewDraft(inventory.Origin{Source: "activedirectory", Place: s.name}, e.DN)
	d.Check = s.cal.Check
	d.Set("name", "cn", cmp.Or(get("cn"), strings.TrimSuffix(get("sAMAccountName"), "$")))
	d.Set("address", "dNSHostName", get("dNSHostName"))
	d.Set("site", "location", get("location"))
	d.Set("serial", "serialNumber", get("serialNumber"))
	if raw := e.GetEqualFoldRawAttributeValue("netbootGUID"); len(raw) == 16 {
		d.Set("uuid", "netbootGUID", guid(raw))
	}
	if t, err := strconv.ParseInt(get("lastLogonTimestamp"), 10, 64); err == nil && t > 0 { // 100 ns since 1601
		d.Seen(time.Unix(t/10_000_000-fileTimeToUnixSeconds, 0).UTC(), logonLag)
	} else {
		d.Host.State = inventory.NeverOnline
	}
	if flags, _ := strconv.Atoi(get("userAccountControl")); flags&disabled != 0 {
		d.Host.State = inventory.Retired
	}
	if group := get("primaryGroupID"); group == domainControllers || group == readOnlyDCs {
		d.Host.Tier = inventory.Dependency // the others cannot log on without it
	}
	d.Label("os", get("operatingSystem"))
	if _, ou, ok := strings.Cut(e.DN, ","); ok {
		d.Label("ou", ou)
	}
	return d
}

// guid writes the bytes of a GUID, whose first three fields are little-endian.
func guid(b []byte) string {
	return hex.EncodeToString([]byte{b[3], b[2], b[1], b[0]}) + "-" + hex.EncodeToString([]byte{b[5], b[4]}) + "-" +
		hex.EncodeToString([]byte{b[7], b[6]}) + "-" + hex.EncodeToString(b[8:10]) + "-" + hex.EncodeToString(b[10:])
}
