package ipmi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"

	"github.com/bougou/go-ipmi/pkg/client"
	"github.com/bougou/go-ipmi/pkg/types"

	"unbrick/remediate"
)

// A trouble is why a BMC would not, as far as a caller can act on it.
type trouble int

const (
	none    trouble = iota
	other           // no answer of the BMC
	silent          // no answer in time: it was done or it was not
	closed          // nothing listens there
	unknown         // no such name
	denied          // password, or user
	noUser          // the BMC says so
	noRole          // the account may not
	noSuite         // the BMC does not take the cipher suite
	full            // no place in the session table
	later           // not now
	refused         // a command
)

// statuses are what BMCs answer to a login (IPMI 2.0, table 13-15).
var statuses = map[types.RmcpStatusCode]trouble{
	types.RmcpStatusCodeNoResToCreateSess:          full,
	types.RmcpStatusCodeNoResToCreateSessAtRole:    full,
	types.RmcpStatusCodeInvalidSessionID:           later, // it forgot the login: a restart, or another that took its place
	types.RmcpStatusCodeInactiveSessionID:          later,
	types.RmcpStatusCodeInvalidAuthAlg:             noSuite,
	types.RmcpStatusCodeInvalidIntegrityAlg:        noSuite,
	types.RmcpStatusCodeNoMatchingAuthPayload:      noSuite,
	types.RmcpStatusCodeNoMatchingIntegrityPayload: noSuite,
	types.RmcpStatusCodeInvalidConfidentAlg:        noSuite,
	types.RmcpStatusCodeNoCipherSuiteMatch:         noSuite,
	types.RmcpStatusCodeInvalidRole:                noRole,
	types.RmcpStatusCodeUnauthorizedRoleOfPriLevel: noRole,
	types.RmcpStatusCodeUnauthorizedName:           noUser,
	types.RmcpStatusCodeInvalidNameLength:          noUser,
	types.RmcpStatusCodeInvalidIntegrityCheckValue: denied,
}

// codes are what BMCs answer to a command (IPMI 2.0, table 5-2).
var codes = map[types.CompletionCode]trouble{
	types.CodeNodeBusy:                            later,
	types.CodeProcessTimeout:                      later,
	types.CodeOutOfSpace:                          later,
	types.CodeCannotProvideResponse:               later,
	types.CodeCannotExecuteDuplicatedRequest:      later,
	types.CodeCannotProvideResponseFirmwareUpdate: later,
	types.CodeCannotProvideResponseBMCInitialize:  later,
	types.CodeNotSupported:                        later, // not in the present state
	types.CodeParamConfigSetInProgressConflict:    later, // boot options alone
	types.CodeInsufficientPrivilege:               noRole,
	types.CodeSubFnDisabled:                       noRole,
}

// troubleOf tells troubles apart.
func troubleOf(err error) trouble {
	var status *types.RmcpStatusError
	var code *types.ResponseError
	var name *net.DNSError
	switch {
	case err == nil:
		return none
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return other
	case errors.As(err, &status):
		if k, ok := statuses[status.StatusCode()]; ok {
			return k
		}
		return refused
	case errors.As(err, &code):
		if k, ok := codes[code.CompletionCode()]; ok {
			return k
		}
		return refused
	case errors.Is(err, client.ErrRAKPAuthentication):
		return denied
	case errors.As(err, &name) && name.IsNotFound:
		return unknown
	case errors.Is(err, syscall.ECONNREFUSED):
		return closed
	case lost(err):
		return silent
	}
	return other
}

// lost says whether a wait for an answer ended. The library names one of its two ways in a
// text alone.
func lost(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout() || strings.Contains(err.Error(), "no matching IPMI response")
}

// explain turns what went wrong into what a person reads and the engine acts on.
func (v *visit) explain(ctx context.Context, err error) error {
	var retry *remediate.RetryError
	if err == nil || errors.As(err, &retry) {
		return err
	}
	switch ctx.Err() {
	case nil:
	case context.DeadlineExceeded:
		return fmt.Errorf("BMC %s did not do it in time: %w", v.addr, ctx.Err())
	default:
		return fmt.Errorf("BMC %s was left in the middle: %w", v.addr, ctx.Err())
	}
	switch troubleOf(err) {
	case silent:
		return v.retry(fmt.Errorf("BMC %s does not answer on UDP: it is down, IPMI over LAN is switched off, or a firewall is between", v.addr))
	case closed:
		return v.retry(fmt.Errorf("BMC %s refuses UDP: IPMI over LAN is switched off, or this is no BMC", v.addr))
	case unknown:
		return fmt.Errorf("cannot find BMC %s: no such name in DNS", v.addr)
	case denied:
		return v.denied()
	case noUser:
		return fmt.Errorf("BMC %s refused the login: it has no user %q with IPMI over LAN", v.addr, v.user)
	case noRole:
		return fmt.Errorf("BMC %s: user %q may not do that. It needs the role of an operator over LAN", v.addr, v.user)
	case noSuite:
		return fmt.Errorf("BMC %s takes neither cipher suite 17 nor 3. Switch one on; suite 0 checks no password and is never used", v.addr)
	case full:
		return v.retry(fmt.Errorf("BMC %s: its session table is full", v.addr))
	case later:
		return v.retry(fmt.Errorf("BMC %s cannot do that now: %s", v.addr, reason(err)))
	case refused:
		return fmt.Errorf("BMC %s refused: %s", v.addr, reason(err))
	}
	var op *net.OpError
	if errors.As(err, &op) { // no route, network down
		return v.retry(fmt.Errorf("cannot reach BMC %s: %w", v.addr, op))
	}
	return err
}

// denied speaks of the password. It does not say which it is: many BMCs treat a user that they
// do not have as one with another password.
func (v *visit) denied() error {
	hint := "Correct them before the account is locked"
	if n := len(v.password.Reveal()); n > oldPassword {
		hint = fmt.Sprintf("The password has %d bytes, and old BMCs keep %d: if it is right, set a shorter one", n, oldPassword)
	}
	return fmt.Errorf("BMC %s refused the credentials: wrong password for user %q, or no such user. %s", v.addr, v.user, hint)
}

// reason is what the BMC answered, without the library's words around it.
func reason(err error) string {
	var status *types.RmcpStatusError
	var code *types.ResponseError
	switch {
	case errors.As(err, &status):
		return status.Error()
	case errors.As(err, &code):
		return fmt.Sprintf("completion code %02xh, %s", uint8(code.CompletionCode()), types.StrCC(types.CommandNone, uint8(code.CompletionCode())))
	}
	return err.Error()
}

// retry marks an error as one that may pass.
func (v *visit) retry(err error) error {
	return &remediate.RetryError{After: v.sw.opt.Times.Retry, Err: err}
}
