package redfish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/stmcginnis/gofish/schemas"

	"unbrick/remediate"
	"unbrick/remediate/tlspin"
)

// A trouble is why a BMC would not, as far as a caller can act on it.
type trouble int

const (
	none trouble = iota
	other
	lost     // no answer: it was done or it was not
	refused  // the service does not take this request; another form of it may do
	denied   // credentials
	licence  // not paid for
	inPOST   // not while the host is in POST
	full     // no place in the session table
	busy     // not now
	missing  // no such resource
	conflict // not in the present state
)

// markers are what BMCs say, by message id or text, where the status says too little.
var markers = []struct {
	kind trouble
	text []string
}{
	{inPOST, []string{"UnableToModifyDuringSystemPOST", "InvalidOperationForSystemState", "while the system is in POST"}},
	{full, []string{"RAC0218", "SessionLimitExceeded", "MaxSessions", "maximum number of user sessions", "CreateLimitReachedForResource"}},
	{licence, []string{"License", "license", "LIC501", "LIC502"}},
	{busy, []string{"SYS518", "RAC0904", "ServiceTemporarilyUnavailable", "ResourceInUse", "ServiceInUnknownState",
		"VRM0012", "already connected", "already inserted", "already mounted"}},
}

// kindOf tells troubles apart.
func kindOf(err error) trouble {
	if err == nil {
		return none
	}
	status, text := answer(err)
	if status == 0 {
		var syntax *json.SyntaxError
		var changed *tlspin.ChangedError
		if errors.As(err, &syntax) || errors.As(err, &changed) || tlspin.Untrusted(err) {
			return other
		}
		return lost
	}
	for _, m := range markers {
		for _, s := range m.text {
			if strings.Contains(text, s) {
				return m.kind
			}
		}
	}
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return denied
	case http.StatusNotFound:
		return missing
	case http.StatusConflict:
		return conflict
	case http.StatusTooManyRequests, http.StatusRequestTimeout:
		return busy
	case http.StatusNotImplemented:
		return refused
	}
	if status >= 500 {
		return busy
	}
	return refused
}

// answer returns the status of a refusal and what it says. The status is 0 if err is not one.
func answer(err error) (status int, text string) {
	var e *schemas.Error
	if !errors.As(first(err), &e) {
		return 0, ""
	}
	for _, info := range e.ExtendedInfos {
		text += info.MessageID + " " + info.Message + " "
	}
	if strings.TrimSpace(text) == "" {
		text = e.Message
	}
	if len(text) > 400 {
		text = text[:400] + "…"
	}
	return e.HTTPReturnedStatusCode, strings.TrimSpace(strings.ToValidUTF8(text, "?"))
}

// first returns one error of those of a collection, which do not unwrap.
func first(err error) error {
	var all *schemas.CollectionError
	if errors.As(err, &all) {
		for _, e := range all.Failures {
			return e
		}
	}
	return err
}

// explain turns what went wrong into what a person reads and the engine acts on.
func (v *visit) explain(ctx context.Context, err error) error {
	var retry *remediate.RetryError
	if err == nil || errors.As(err, &retry) {
		return err
	}
	err = first(err)
	switch ctx.Err() {
	case nil:
	case context.DeadlineExceeded:
		return fmt.Errorf("BMC %s did not do it in time: %w", v.addr.host, ctx.Err())
	default:
		return fmt.Errorf("BMC %s was left in the middle: %w", v.addr.host, ctx.Err())
	}
	status, text := answer(err)
	if status == 0 {
		return v.explainSilence(err)
	}
	said := fmt.Errorf("BMC %s: %d %s", v.addr.host, status, v.clean(text))
	switch kindOf(err) {
	case denied:
		if status == http.StatusForbidden {
			return fmt.Errorf("%w: this account may not do that", said)
		}
		if v.admitted { // by requests before this one: the session went away, as when a BMC restarts
			return v.later(said)
		}
		return fmt.Errorf("%w: the credentials were refused. Correct them before the account is locked", said)
	case licence:
		return fmt.Errorf("%w: virtual media needs a licence on this BMC (%s)", said, v.product())
	case missing:
		if !v.admitted {
			return fmt.Errorf("%w: this is not a Redfish service, or Redfish is switched off", said)
		}
	case inPOST:
		return v.later(fmt.Errorf("%w: the host is in POST", said))
	case full:
		return v.later(fmt.Errorf("%w: its session table is full", said))
	case busy, conflict:
		return v.later(said)
	}
	return said
}

// explainSilence is for errors that are not the BMC's answer.
func (v *visit) explainSilence(err error) error {
	var changed *tlspin.ChangedError
	var host *net.DNSError
	var op *net.OpError
	var timeout net.Error
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &changed):
		return fmt.Errorf("BMC refused: %w", changed)
	case tlspin.Untrusted(err):
		return fmt.Errorf("BMC %s: %w. With tls: pin its own certificate is recorded and trusted", v.addr.host, err)
	case errors.As(err, &host) && host.IsNotFound:
		return fmt.Errorf("cannot find BMC %s: no such name in DNS", v.addr.host)
	case tlspin.Plaintext(err):
		return fmt.Errorf("%s answers without TLS: this is not the HTTPS port of a BMC", v.addr.host)
	case errors.As(err, &syntax):
		return fmt.Errorf("%s answers, but not as a Redfish service", v.addr.host)
	case errors.As(err, &op) && op.Op == "remote error":
		return fmt.Errorf("BMC %s does not agree on TLS, of which 1.2 is the least: %w", v.addr.host, op)
	case cut(err):
		return v.later(fmt.Errorf("BMC %s cut the connection: %w", v.addr.host, err))
	case errors.As(err, &op) || errors.As(err, &timeout) && timeout.Timeout():
		return v.later(fmt.Errorf("cannot reach BMC %s: %w", v.addr.host, err))
	case errors.Is(err, io.ErrUnexpectedEOF):
		return v.later(fmt.Errorf("BMC %s broke off its answer", v.addr.host))
	}
	return err
}

// later marks an error as one that may pass.
func (v *visit) later(err error) error {
	after := v.driver.opt.Times.Retry
	if v.courier != nil && v.courier.wait > 0 {
		after = v.courier.wait
	}
	return &remediate.RetryError{After: after, Err: err}
}

// clean takes the password out of a text that a BMC wrote.
func (v *visit) clean(text string) string {
	if p := v.password.Reveal(); p != "" {
		text = strings.ReplaceAll(text, p, "[secret]")
	}
	return text
}
