package activedirectory

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/go-ldap/ldap/v3"

	"unbrick/inventory"
)

// readable is the right that any account of a domain has, unless somebody took it away.
const (
	readable = "the rights List Contents and Read All Properties on the computers below "
	granted  = "Active Directory Users and Computers > Security; Authenticated Users have it by default"
)

var errNothing = errors.New("it shows this account no computers there")

// lacks names the rights that are missing where an account sees nothing: a directory does not
// refuse, it leaves out.
func lacks(base string, err error) error {
	return &inventory.RightError{Right: readable + base, Where: granted + "; or the filter fits none", Err: err}
}

// Check implements [inventory.Checker].
func (s *Source) Check(ctx context.Context) error {
	conn, err := s.open(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	err = s.checkComputers(conn)
	if err == nil {
		err = excess(conn)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// excess says that the account that is logged on is one of administrators. A directory that does
// not tell whose groups they are says nothing of it.
func excess(conn *ldap.Conn) error {
	res, err := conn.Search(ldap.NewSearchRequest("", ldap.ScopeBaseObject, ldap.NeverDerefAliases, 1, 0, false, "(objectClass=*)", []string{"tokenGroups"}, nil))
	if err != nil || len(res.Entries) != 1 {
		return nil
	}
	for _, sid := range res.Entries[0].GetEqualFoldRawAttributeValues("tokenGroups") {
		if group := administrators(sid); group != "" {
			return &inventory.ExcessError{Has: "membership in " + group, Want: "an account of Domain Users alone"}
		}
	}
	return nil
}

// administrators names the group of a SID (MS-DTYP 2.4.2.2, 2.4.2.4), if it is one that may do
// everything.
func administrators(sid []byte) string {
	if len(sid) < 12 || len(sid) != 8+4*int(sid[1]) {
		return ""
	}
	builtin := binary.LittleEndian.Uint32(sid[8:]) == 32 // S-1-5-32-…, of every machine
	last := binary.LittleEndian.Uint32(sid[len(sid)-4:])
	if builtin {
		return map[uint32]string{544: "Administrators"}[last]
	}
	return map[uint32]string{512: "Domain Admins", 518: "Schema Admins", 519: "Enterprise Admins"}[last]
}

func (s *Source) checkComputers(conn *ldap.Conn) error {
	base := s.cfg.Base
	if base == "" {
		var err error
		if base, err = domain(conn); err != nil {
			return err
		}
	}
	res, err := conn.Search(ldap.NewSearchRequest(base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 1, 0, false,
		"(&(objectCategory=computer)"+s.cfg.Filter+")", []string{"cn", "userAccountControl"}, nil))
	switch {
	case ldap.IsErrorWithCode(err, ldap.LDAPResultNoSuchObject):
		return fmt.Errorf("it has no %s that this account may see", base)
	case ldap.IsErrorWithCode(err, ldap.LDAPResultInsufficientAccessRights):
		return lacks(base, fmt.Errorf("cannot search it: %w", err))
	case err != nil && !ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded): // one was asked for, and there are more
		return fmt.Errorf("cannot search it: %w", err)
	case res == nil || len(res.Entries) == 0:
		return lacks(base, errNothing)
	case res.Entries[0].GetEqualFoldAttributeValue("userAccountControl") == "":
		return &inventory.RightError{Right: "the right Read All Properties on " + res.Entries[0].DN, Where: granted}
	}
	return nil
}
