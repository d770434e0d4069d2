package activedirectory

import (
	"context"
	"fmt"
	"slices"

	"unbrick/bitlocker/laps"
	"unbrick/inventory/secret"
)

// What the schemas of legacy LAPS and of Windows LAPS call things. When a password expires is
// not confidential: it shows that there is one.
const (
	attrLegacy        = "ms-Mcs-AdmPwd"
	attrLegacyExpires = "ms-Mcs-AdmPwdExpirationTime"
	attrLAPS          = "msLAPS-Password"
	attrLAPSEncrypted = "msLAPS-EncryptedPassword"
	attrLAPSExpires   = "msLAPS-PasswordExpirationTime"
)

// LocalPasswords implements [laps.Source]. Legacy LAPS says neither the account nor the time.
func (d *Directory) LocalPasswords(ctx context.Context, host string) (all []laps.Password, err error) {
	err = d.with(ctx, func(s *session) error {
		all = nil // of an attempt that broke off
		dns, err := d.computers(ctx, s, host)
		if err != nil {
			return err
		}
		if len(dns) == 0 {
			return fmt.Errorf("%w: %s sees no computer %s below %s", laps.ErrNone, d.cfg.Login.User, host, d.base(s))
		}
		for _, dn := range dns {
			found, err := d.passwords(ctx, s, dn, host)
			if err != nil {
				return err
			}
			all = append(all, found...)
		}
		if len(all) == 0 {
			return fmt.Errorf("%w in %s", laps.ErrNone, d)
		}
		slices.SortStableFunc(all, func(p, q laps.Password) int { return q.Updated.Compare(p.Updated) })
		return nil
	})
	return all, err
}

// passwords returns those of one computer. None at all, without an error, means that no LAPS
// has ever written there.
func (d *Directory) passwords(ctx context.Context, s *session, dn, host string) (all []laps.Password, err error) {
	found, err := s.search(ctx, dn, "(objectClass=computer)", attrLegacy, attrLegacyExpires, attrLAPS, attrLAPSEncrypted, attrLAPSExpires)
	if err != nil {
		return nil, err
	}
	for _, e := range found {
		if text := e.GetEqualFoldAttributeValue(attrLAPS); text != "" {
			p, err := laps.ParseWindows(text)
			if err != nil {
				return nil, fmt.Errorf("cannot use the password of %s: %w", host, err)
			}
			p.Source = d.String()
			all = append(all, p)
		}
		if text := e.GetEqualFoldAttributeValue(attrLegacy); text != "" {
			all = append(all, laps.Password{Value: secret.New(text), Source: d.String()})
		}
		switch {
		case len(all) > 0:
		case len(e.GetEqualFoldRawAttributeValue(attrLAPSEncrypted)) > 0:
			return nil, &laps.EncryptedError{Host: host}
		case e.GetEqualFoldAttributeValue(attrLAPSExpires) != "" || e.GetEqualFoldAttributeValue(attrLegacyExpires) != "":
			return nil, &laps.HiddenError{Host: host, Account: d.cfg.Login.User, ReadOnly: s.readOnly}
		}
	}
	return all, nil
}
