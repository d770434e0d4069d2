// Package laps finds the password of a host's local administrator, which a person needs to log
// on in Safe Mode: legacy LAPS and Windows LAPS, in Active Directory and in Entra ID.
//
// A password that goes out is on the ledger first, like a recovery key. Unlike that it needs no
// rotation from here: Windows replaces it when it expires, or after use, as its policy says.
package laps

import (
	"context"
	"errors"
	"fmt"
	"time"

	"unbrick/inventory/secret"
)

// ErrNone means that a directory was reached and has no password of the host. Any other error
// of a [Source] means that nothing is known.
var ErrNone = errors.New("no local administrator's password on record")

// A Password is that of a local account of a host, as of a time. A host that was restored or
// was down for long may have one from before.
type Password struct {
	Account string // empty: the directory does not say; it is what the policy names, else Administrator
	Value   secret.Value
	Updated time.Time // zero: the directory does not say
	Source  string
}

// A Source is a directory that holds such passwords.
type Source interface {
	// LocalPasswords returns the passwords of the host by bitlocker.SameHost, newest first, and
	// at least one: without any the error wraps ErrNone. One that is there and encrypted is an
	// *EncryptedError, one that is not shown a *HiddenError. Errors carry nothing of a password.
	LocalPasswords(ctx context.Context, host string) ([]Password, error)
}

// An EncryptedError says that the password is there, encrypted by the domain (DPAPI-NG): only
// Windows can ask a domain controller for the key.
type EncryptedError struct{ Host string }

// Error says how to get at it.
func (e *EncryptedError) Error() string {
	return fmt.Sprintf("the password of host %s is encrypted in the directory, and only Windows can decrypt it: "+
		"as a member of the group that may, on any host of the domain that is up, run Get-LapsADPassword -Identity %s -AsPlainText", e.Host, e.Host)
}

// A HiddenError says that the host has a password in the directory and that this account is
// not shown it.
type HiddenError struct {
	Host, Account string
	ReadOnly      bool // the domain controller is a read-only one, which keeps no passwords
}

// Error says what right is missing, or whom to ask instead.
func (e *HiddenError) Error() string {
	if e.ReadOnly {
		return fmt.Sprintf("the directory has a password of host %s and does not show it: this is a read-only domain controller; name a writable one", e.Host)
	}
	return fmt.Sprintf("the directory has a password of host %s and does not show it: give %s READ_PROPERTY and CONTROL_ACCESS "+
		"on msLAPS-Password, or on ms-Mcs-AdmPwd where LAPS is the old one; if it is encrypted, only Windows shows it: Get-LapsADPassword", e.Host, e.Account)
}
