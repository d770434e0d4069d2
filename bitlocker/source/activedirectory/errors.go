package activedirectory

import (
	"errors"
	"fmt"
	"strings"

	"github.com/go-ldap/ldap/v3"
	"github.com/jcmturner/gokrb5/v8/messages"

	"unbrick/bitlocker"
)

// A HiddenError says that the directory has the key and does not show it to this account.
type HiddenError struct {
	ID       bitlocker.KeyID
	Host     string
	Account  string
	ReadOnly bool // the domain controller is a read-only one, which keeps no keys
}

// Error says what right is missing, or whom to ask instead.
func (e *HiddenError) Error() string {
	what := fmt.Sprintf("the directory has key %s of host %s and does not show it: ", e.ID, e.Host)
	if e.ReadOnly {
		return what + readOnlyHint
	}
	return what + rightsHint(e.Account)
}

// A BlindError says that the account sees no recovery key at all: either there is none in this
// subtree, or rights are missing. An account without rights gets no error from a directory.
type BlindError struct {
	Base     string
	Account  string
	Objects  bool // it sees the objects, but no key in any
	ReadOnly bool
}

// Error names both possibilities, as far as they cannot be told apart.
func (e *BlindError) Error() string {
	switch {
	case e.ReadOnly:
		return "no key can be read here: " + readOnlyHint
	case e.Objects:
		return fmt.Sprintf("the directory lists recovery keys below %s and shows none of them: %s", e.Base, rightsHint(e.Account))
	}
	return fmt.Sprintf("%s sees no recovery key at all below %s: either there is none, or rights are missing: %s", e.Account, e.Base, rightsHint(e.Account))
}

const readOnlyHint = "this is a read-only domain controller, which keeps no recovery keys; name a writable one"

func rightsHint(account string) string {
	return fmt.Sprintf("give %s READ_PROPERTY and CONTROL_ACCESS on msFVE-RecoveryPassword, which is confidential", account)
}

// A LogonError says that the directory refuses the account.
type LogonError struct {
	Account string
	Reason  string
	Wrong   bool // it is the password: trying it again counts towards a lock-out
}

func (e *LogonError) Error() string {
	return fmt.Sprintf("the directory refuses %s: %s", e.Account, e.Reason)
}

const (
	wrongPassword = "52e"
	wrongTicket   = "KDC_ERR_PREAUTH_FAILED"
)

// Why a domain controller refuses a bind, by the code in its message (MS-ERREF).
var bindCodes = []struct{ code, reason string }{
	{wrongPassword, "the password is wrong"},
	{"525", "there is no such account"},
	{"530", "it may not log on at this time"},
	{"531", "it may not log on from this host"},
	{"532", "its password has expired"},
	{"533", "it is disabled"},
	{"701", "it has expired"},
	{"773", "it has to change its password first"},
	{"775", "it is locked out"},
}

// explain turns what a bind failed with into words. Refused credentials are a *LogonError.
func explain(account string, err error) error {
	var kerberos messages.KRBError
	text := err.Error()
	switch {
	case ldap.IsErrorWithCode(err, ldap.LDAPResultInvalidCredentials):
		for _, c := range bindCodes {
			if strings.Contains(text, "data "+c.code) {
				return &LogonError{account, c.reason, c.code == wrongPassword}
			}
		}
		return &LogonError{account, "the account or its password is wrong", true}
	case ldap.IsErrorWithCode(err, ldap.LDAPResultStrongAuthRequired):
		return &LogonError{account, "it wants a stronger logon; try Kerberos", false}
	case errors.As(err, &kerberos):
		text = kerberos.Error()
	}
	for _, c := range kerberosCodes {
		if strings.Contains(text, c.code) {
			if c.refused {
				return &LogonError{account, c.reason, c.code == wrongTicket}
			}
			return errors.New(c.reason)
		}
	}
	return fmt.Errorf("cannot log on as %s: %w", account, err)
}

// What a KDC says, as gokrb5 words it: its errors cannot be told apart otherwise.
var kerberosCodes = []struct {
	code, reason string
	refused      bool
}{
	{wrongTicket, "the password or keytab is wrong", true},
	{"KDC_ERR_C_PRINCIPAL_UNKNOWN", "there is no such account", true},
	{"KDC_ERR_CLIENT_REVOKED", "it is disabled or locked out", true},
	{"KDC_ERR_KEY_EXPIRED", "its password has expired", true},
	{"KDC_ERR_S_PRINCIPAL_UNKNOWN", "the domain controller is not known to Kerberos by that name; give the one of its computer account", false},
	{"KRB_AP_ERR_SKEW", "the clock of this host and that of the domain controller differ by too much for Kerberos; set this one", false},
}
