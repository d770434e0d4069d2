package activedirectory

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/go-ldap/ldap/v3"
	"github.com/go-ldap/ldap/v3/gssapi"
	"github.com/jcmturner/gokrb5/v8/client"
	"github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/keytab"

	"unbrick/inventory/secret"
)

// partialSecrets is the capability that only a read-only domain controller claims (MS-ADTS
// 3.1.1.3.4.3.6).
const partialSecrets = "1.2.840.113556.1.4.1920"

// A session is a connection that is logged on.
type session struct {
	conn     *ldap.Conn
	pageSize int
	domain   string // distinguished name
	readOnly bool
	sees     bool // the account has been shown to see some key
	failed   bool // a search did: whatever the reason, nobody gets this session again
}

// with calls f with a session that nobody else uses. A connection that was idle may have been
// closed by the directory: then f is called once more with a new one.
func (d *Directory) with(ctx context.Context, f func(*session) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case s := <-d.idle:
		err := d.use(ctx, s, f)
		if !isLost(err) || ctx.Err() != nil {
			return err
		}
	default:
	}
	s, err := d.open(ctx)
	if err != nil {
		return err
	}
	return d.use(ctx, s, f)
}

// use calls f, and keeps the session for others if it is still good. The session's connection
// is closed when ctx ends: go-ldap knows no other way to stop.
func (d *Directory) use(ctx context.Context, s *session, f func(*session) error) error {
	stop := context.AfterFunc(ctx, func() { s.conn.Close() })
	err := f(s)
	if !stop() {
		return ctx.Err()
	}
	if s.failed || s.conn.IsClosing() {
		s.conn.Close()
		return err
	}
	select {
	case d.idle <- s:
	default:
		s.conn.Close()
	}
	return err
}

// A lostError is of the connection, not of what was asked.
type lostError struct{ err error }

func (e *lostError) Error() string { return "the connection to the directory broke: " + e.err.Error() }
func (e *lostError) Unwrap() error { return e.err }

func isLost(err error) bool {
	var lost *lostError
	return errors.As(err, &lost)
}

// answered turns an error of a search into words, and gives the session up. Whatever is not a
// server's answer was the connection: go-ldap gives some of those errors a code, and not others.
func (s *session) answered(base string, err error) error {
	s.failed = true
	var e *ldap.Error
	switch {
	case !errors.As(err, &e) || e.ResultCode >= ldap.ErrorNetwork:
		return &lostError{err}
	case e.ResultCode == ldap.LDAPResultNoSuchObject:
		return fmt.Errorf("the directory has no %s that this account may see", base)
	}
	return fmt.Errorf("cannot search the directory: %w", err)
}

// open connects, logs on and asks what the server is.
func (d *Directory) open(ctx context.Context) (*session, error) {
	dialing, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	raw, err := (&tls.Dialer{Config: d.tls}).DialContext(dialing, "tcp", d.address)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("cannot reach the directory: %w", err)
	}
	conn := ldap.NewConn(raw, true)
	conn.Start()
	conn.SetTimeout(timeout)
	s := &session{conn: conn, pageSize: d.cfg.PageSize}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	if err = d.logon.do(ctx, d, conn); err == nil {
		err = s.identify()
	}
	if !stop() {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return s, nil
}

// identify reads the root of the directory, which every server has and every account may see.
func (s *session) identify() error {
	res, err := s.conn.Search(ldap.NewSearchRequest("", ldap.ScopeBaseObject, ldap.NeverDerefAliases, 1, 0, false,
		"(objectClass=*)", []string{"defaultNamingContext", "supportedCapabilities"}, nil))
	if err != nil {
		return fmt.Errorf("cannot ask the directory what it is: %w", err)
	}
	if len(res.Entries) != 1 || res.Entries[0].GetEqualFoldAttributeValue("defaultNamingContext") == "" {
		return errors.New("this server is no Active Directory: it does not name its domain")
	}
	root := res.Entries[0]
	s.domain = root.GetEqualFoldAttributeValue("defaultNamingContext")
	s.readOnly = slices.Contains(root.GetEqualFoldAttributeValues("supportedCapabilities"), partialSecrets)
	return nil
}

// search returns all entries below base, page by page.
func (s *session) search(ctx context.Context, base, filter string, attributes ...string) (all []*ldap.Entry, err error) {
	page := ldap.NewControlPaging(uint32(s.pageSize))
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		res, err := s.conn.Search(ldap.NewSearchRequest(base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false,
			filter, attributes, []ldap.Control{page}))
		if err != nil {
			return nil, s.answered(base, err)
		}
		all = append(all, res.Entries...)
		next, ok := ldap.FindControl(res.Controls, ldap.ControlTypePaging).(*ldap.ControlPaging)
		if !ok || len(next.Cookie) == 0 {
			return all, nil
		}
		page.SetCookie(next.Cookie)
	}
}

// any says whether an entry matches, without reading it.
func (s *session) any(ctx context.Context, base, filter string) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	res, err := s.conn.Search(ldap.NewSearchRequest(base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 1, 0, false,
		filter, []string{noAttributes}, nil))
	switch {
	case ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded): // there are more than one
		return true, nil
	case err != nil:
		return false, s.answered(base, err)
	}
	return len(res.Entries) > 0, nil
}

// A logon remembers a password that the directory has refused: trying it again for every host
// would lock the account for everybody who uses it.
type logon struct {
	turn    chan struct{} // holds one: whoever takes it may log on
	refused [sha256.Size]byte
	err     error
}

// do logs on, one at a time, so that a wrong password is sent once.
func (l *logon) do(ctx context.Context, d *Directory, conn *ldap.Conn) error {
	select {
	case <-l.turn:
		defer func() { l.turn <- struct{}{} }()
	case <-ctx.Done():
		return ctx.Err()
	}
	password, proof, err := d.credential(ctx)
	if err != nil {
		return err
	}
	if l.err != nil && l.refused == proof {
		return fmt.Errorf("%w (not tried again, so that the account is not locked out)", l.err)
	}
	if d.cfg.Kerberos != nil {
		err = d.bindKerberos(conn, password)
	} else {
		err = conn.Bind(d.cfg.Login.User, password.Reveal())
	}
	if err == nil {
		l.err = nil
		return nil
	}
	err = explain(d.cfg.Login.User, err)
	var refused *LogonError
	if errors.As(err, &refused) && refused.Wrong {
		l.refused, l.err = proof, err
	}
	return err
}

// credential returns the password, empty where a keytab takes its place, and what tells it
// from another one.
func (d *Directory) credential(ctx context.Context) (password secret.Value, proof [sha256.Size]byte, err error) {
	if d.cfg.Kerberos != nil && d.cfg.Kerberos.Keytab != "" {
		return password, proof, nil
	}
	password, err = d.cfg.Login.Password.Resolve(ctx)
	return password, sha256.Sum256([]byte(password.Reveal())), err
}

// bindKerberos gets a ticket and logs on with it. No file of this host is read but the keytab.
func (d *Directory) bindKerberos(conn *ldap.Conn, password secret.Value) error {
	user, realm, _ := strings.Cut(d.cfg.Login.User, "@")
	realm = strings.ToUpper(realm)
	kdcs := d.cfg.Kerberos.KDC
	if len(kdcs) == 0 {
		host, _, _ := net.SplitHostPort(d.address)
		kdcs = []string{net.JoinHostPort(host, "88")}
	}
	conf := config.New()
	conf.LibDefaults.DefaultRealm = realm
	conf.LibDefaults.UDPPreferenceLimit = 1 // TCP: tickets of Active Directory are large
	conf.LibDefaults.DNSLookupKDC = false
	conf.Realms = []config.Realm{{Realm: realm, KDC: kdcs}}
	settings := client.DisablePAFXFAST(true) // Active Directory does not answer it
	krb := client.NewWithPassword(user, realm, password.Reveal(), conf, settings)
	if d.cfg.Kerberos.Keytab != "" {
		kt, err := keytab.Load(d.cfg.Kerberos.Keytab)
		if err != nil {
			return fmt.Errorf("cannot read the keytab: %w", err)
		}
		krb = client.NewWithKeytab(user, realm, kt, conf, settings)
	}
	defer krb.Destroy()
	if err := krb.Login(); err != nil {
		return err
	}
	return conn.GSSAPIBind(&gssapi.Client{Client: krb}, "ldap/"+d.cfg.Name, "")
}
