// Package activedirectory reads recovery keys from a domain controller over LDAPS: the
// msFVE-RecoveryInformation objects below the computers, found by the GUID of the protector.
//
// A directory hides what an account may not see: missing rights look like missing keys. So
// an empty answer counts as "has none" only after the account has been shown to see some key.
// A domain of which the account sees no key at all is an error that says so.
package activedirectory

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"unbrick/bitlocker"
	"unbrick/inventory/secret"
)

// A Config says which domain controller to ask, and as whom.
type Config struct {
	// Name is the controller's DNS name, as in its certificate. It has to be a writable one.
	Name string
	// Address is where to reach it, host or host:port, where Name cannot be resolved; port 636
	// if it names none. Domain controllers are often the name servers that are down.
	Address string
	// Base is the subtree to search, "OU=Sydney,DC=corp,DC=example"; empty is the domain.
	Base string
	// CA is a PEM file with the only authorities to trust; empty is the system's.
	CA string
	// Login is a user principal name, "reader@corp.example", and its password.
	Login secret.Login
	// Kerberos logs on by Kerberos instead of sending the password over TLS.
	Kerberos *Kerberos
	// PageSize is how many entries to ask for at a time; zero is 1000, the most a default
	// domain controller gives.
	PageSize int
}

// Kerberos says how to get a ticket for Login. The realm is that of its user name.
type Kerberos struct {
	KDC    []string // host:port; empty: the domain controller itself, port 88
	Keytab string   // file to use instead of the password
}

const (
	defaultPage = 1000
	timeout     = 30 * time.Second // of one exchange; a search takes as many as it has pages
	maxIdle     = 4
)

// A Directory is one domain.
type Directory struct {
	cfg     Config
	address string
	tls     *tls.Config
	idle    chan *session
	logon   logon
}

// New checks the configuration. It does not reach the directory: [Directory.Probe] does.
func New(cfg Config) (*Directory, error) {
	if cfg.Name == "" || net.ParseIP(cfg.Name) != nil {
		return nil, errors.New("cannot use Active Directory: name the domain controller as its certificate does, such as dc1.corp.example; an IP address goes into the address")
	}
	if _, realm, ok := strings.Cut(cfg.Login.User, "@"); !ok || realm == "" {
		return nil, fmt.Errorf("cannot use Active Directory %s: write the user as reader@corp.example", cfg.Name)
	}
	if cfg.PageSize < 0 {
		return nil, fmt.Errorf("cannot use Active Directory %s: a page of %d entries", cfg.Name, cfg.PageSize)
	}
	cfg.PageSize = cmp.Or(cfg.PageSize, defaultPage)
	d := &Directory{cfg: cfg, idle: make(chan *session, maxIdle),
		address: withPort(cmp.Or(cfg.Address, cfg.Name), "636"),
		tls:     &tls.Config{ServerName: cfg.Name, MinVersion: tls.VersionTLS12}}
	d.logon.turn = make(chan struct{}, 1)
	d.logon.turn <- struct{}{}
	if cfg.CA == "" {
		return d, nil
	}
	pem, err := os.ReadFile(cfg.CA)
	if err != nil {
		return nil, fmt.Errorf("cannot use Active Directory %s: %w", cfg.Name, err)
	}
	d.tls.RootCAs = x509.NewCertPool()
	if !d.tls.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("cannot use Active Directory %s: %s has no certificate in PEM", cfg.Name, cfg.CA)
	}
	return d, nil
}

func withPort(address, port string) string {
	if _, _, err := net.SplitHostPort(address); err == nil {
		return address
	}
	return net.JoinHostPort(strings.Trim(address, "[]"), port)
}

// String names the controller: it is what the ledger calls this source.
func (d *Directory) String() string { return "Active Directory " + d.cfg.Name }

// Close closes the connections that are not in use.
func (d *Directory) Close() error {
	for {
		select {
		case s := <-d.idle:
			s.conn.Close()
		default:
			return nil
		}
	}
}

// What the schema calls things.
const (
	isRecovery   = "(objectClass=msFVE-RecoveryInformation)"
	attrGUID     = "msFVE-RecoveryGuid"
	attrPassword = "msFVE-RecoveryPassword"
	attrCreated  = "whenCreated"
	noAttributes = "1.1"
)

// Lookup implements [bitlocker.Source]. A key that the directory has but does not show is a
// *[HiddenError]; a directory that shows this account no key at all is a *[BlindError].
func (d *Directory) Lookup(ctx context.Context, q bitlocker.Query) (key bitlocker.Key, err error) {
	if q.ID.IsZero() {
		return key, fmt.Errorf("%w: without the id of a protector", bitlocker.ErrNoKey)
	}
	err = d.with(ctx, func(s *session) error {
		found, err := s.search(ctx, d.base(s), "(&"+isRecovery+"("+attrGUID+"="+guidFilter(q.ID)+"))", attrPassword)
		if err != nil {
			return err
		}
		if len(found) == 0 {
			if err := d.sees(ctx, s); err != nil {
				return err
			}
			return fmt.Errorf("%w below %s that %s may see", bitlocker.ErrNoKey, d.base(s), d.cfg.Login.User)
		}
		key, err = d.pick(q, found, s.readOnly)
		return err
	})
	if err != nil {
		return bitlocker.Key{}, err // also one that came while ctx ended
	}
	return key, nil
}

// pick returns the key of those objects that are of q.Host: a cloned or rejoined host may have
// left the same id under several computers.
func (d *Directory) pick(q bitlocker.Query, found []*ldap.Entry, readOnly bool) (key bitlocker.Key, err error) {
	var filed []string
	var of []*ldap.Entry
	for _, e := range found {
		host := hostOf(e.DN)
		filed = append(filed, host)
		if q.Host == "" || bitlocker.SameHost(host, q.Host) {
			of = append(of, e)
		}
	}
	if len(of) == 0 {
		return key, &bitlocker.WrongHostError{ID: q.ID, Host: q.Host, Filed: filed}
	}
	for _, e := range of {
		text := e.GetEqualFoldAttributeValue(attrPassword)
		if text == "" {
			return bitlocker.Key{}, &HiddenError{ID: q.ID, Host: hostOf(e.DN), Account: d.cfg.Login.User, ReadOnly: readOnly}
		}
		k, err := bitlocker.ParseKey(text)
		if err != nil {
			return bitlocker.Key{}, fmt.Errorf("%w: the one of %s cannot be used: %v", bitlocker.ErrNoKey, hostOf(e.DN), err)
		}
		if !key.IsZero() && !key.Equal(k) {
			return bitlocker.Key{}, fmt.Errorf("%w: %d objects have this id and not the same key", bitlocker.ErrNoKey, len(of))
		}
		key = k
	}
	return key, nil
}

// Index implements [bitlocker.Indexer]. It reads no key, so no entry is Valid, and none has a
// Reason.
func (d *Directory) Index(ctx context.Context, host string) (entries []bitlocker.Entry, err error) {
	err = d.with(ctx, func(s *session) error {
		entries = nil // of an attempt that broke off
		bases := []string{d.base(s)}
		if host != "" {
			if bases, err = d.computers(ctx, s, host); err != nil {
				return err
			}
		}
		for _, base := range bases {
			found, err := s.search(ctx, base, isRecovery, attrGUID, attrCreated)
			if err != nil {
				return err
			}
			for _, e := range found {
				entries = append(entries, d.entry(e))
			}
		}
		if len(entries) == 0 {
			return d.sees(ctx, s)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return entries, nil
}

// computers returns where the computers of this name are.
func (d *Directory) computers(ctx context.Context, s *session, host string) (dns []string, err error) {
	label := ldap.EscapeFilter(bitlocker.FoldHost(host))
	found, err := s.search(ctx, d.base(s), fmt.Sprintf("(&(objectClass=computer)(|(cn=%s)(sAMAccountName=%s$)))", label, label), noAttributes)
	for _, e := range found {
		dns = append(dns, e.DN)
	}
	return dns, err
}

func (d *Directory) entry(e *ldap.Entry) bitlocker.Entry {
	id, err := fromGUID(e.GetEqualFoldRawAttributeValue(attrGUID))
	entry := bitlocker.Entry{ID: id, Host: hostOf(e.DN), Source: d.String()}
	if err != nil {
		entry.Reason = err.Error()
	}
	if at, err := time.Parse("20060102150405.0Z0700", e.GetEqualFoldAttributeValue(attrCreated)); err == nil {
		entry.Created = at
	}
	return entry
}

// Probe implements [bitlocker.Prober]: it logs on and makes sure that the account may read some
// key.
func (d *Directory) Probe(ctx context.Context) error {
	return d.with(ctx, func(s *session) error {
		s.sees = false // rights may have changed since
		return d.sees(ctx, s)
	})
}

// sees returns nil if the account may read at least one key, and otherwise why it does not.
// Asking whether the attribute is present needs the right to read it and reads nothing.
func (d *Directory) sees(ctx context.Context, s *session) error {
	if s.sees {
		return nil
	}
	readable, err := s.any(ctx, d.base(s), "(&"+isRecovery+"("+attrPassword+"=*))")
	if err != nil {
		return err
	}
	if s.sees = readable; readable {
		return nil
	}
	objects, err := s.any(ctx, d.base(s), isRecovery)
	if err != nil {
		return err
	}
	return &BlindError{Base: d.base(s), Account: d.cfg.Login.User, Objects: objects, ReadOnly: s.readOnly}
}

func (d *Directory) base(s *session) string { return cmp.Or(d.cfg.Base, s.domain) }
