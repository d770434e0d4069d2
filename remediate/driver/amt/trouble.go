package amt

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"unbrick/remediate"
	"unbrick/remediate/tlspin"
)

// A trouble is why AMT would not, as far as a caller can act on it.
type trouble int

const (
	none trouble = iota
	other
	lost    // no answer: it was done or it was not
	denied  // credentials
	consent // access denied: a person has to agree
	unknown // this firmware does not know the class or method
	busy    // not now
	refused
)

// A refusal is an answer that is not the one that was wanted, or none.
type refusal struct {
	kind trouble
	answer
	err error // what the library made of it
}

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// kindOf tells troubles apart.
func kindOf(err error) trouble {
	var r *refusal
	switch {
	case err == nil:
		return none
	case errors.As(err, &r):
		return r.kind
	}
	return other
}

// check turns the error of a request into a refusal: what came back says more than what the
// library makes of it.
func (v *visit) check(err error) error {
	a := v.courier.last
	if err == nil && a.err == nil && a.status < 300 {
		v.admitted = true
		return nil
	}
	if err == nil {
		err = fmt.Errorf("status %d", a.status)
	}
	r := &refusal{kind: refused, answer: a, err: err}
	switch {
	case a.err != nil:
		r.kind = lost
		if definite(a.err) {
			r.kind = other
		}
	case a.status == http.StatusUnauthorized || a.status == http.StatusForbidden:
		r.kind = denied
	case a.subcode == "AccessDenied":
		r.kind = consent
	case a.subcode == "DestinationUnreachable" || a.subcode == "ActionNotSupported":
		r.kind = unknown
	case a.status < 300:
		r.err = fmt.Errorf("AMT %s: cannot read its answer: %w", v.addr.host, err)
	case a.status >= 500 || a.status == http.StatusTooManyRequests:
		r.kind = busy
	}
	return r
}

// returned turns a method's ReturnValue into an error. The values are those of CIM.
func (v *visit) returned(what string, n int) error {
	why, kind := "", refused
	switch n {
	case 0:
		return nil
	case 3, 6, 4099:
		why, kind = "it is busy", busy
	case 4097:
		why, kind = "not from the present state", busy
	case 1:
		why = "it does not have that"
	case 5:
		why = "it does not know that"
	default:
		why = "it failed"
	}
	v.admitted = true
	return &refusal{kind: kind, answer: answer{status: http.StatusOK}, err: fmt.Errorf("AMT %s refused the %s: %s (%d)", v.addr.host, what, why, n)}
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
		return fmt.Errorf("AMT %s did not do it in time: %w", v.addr.host, ctx.Err())
	default:
		return fmt.Errorf("AMT %s was left in the middle: %w", v.addr.host, ctx.Err())
	}
	var r *refusal
	if !errors.As(err, &r) {
		return err
	}
	said := fmt.Errorf("AMT %s: %d %s", v.addr.host, r.status, v.clean(strings.TrimSpace(r.subcode+" "+r.reason)))
	switch {
	case r.answer.err != nil:
		return v.explainSilence(r.answer.err)
	case r.status == http.StatusOK && r.kind == busy:
		return v.later(r.err)
	case r.status == http.StatusOK && v.admitted:
		return r.err // a ReturnValue
	case r.kind == denied:
		return v.explainDenial(r.answer)
	case r.kind == consent:
		return fmt.Errorf("%w: this account may not do that, or %s", said, askedFor)
	case r.kind == busy:
		return v.later(said)
	case r.status == http.StatusNotFound || r.status < 300 && !v.admitted:
		return fmt.Errorf("%s answers, but not as AMT does", v.addr.host)
	case r.kind == unknown:
		return fmt.Errorf("%w: this version of AMT is too old, or does not have that", said)
	}
	return said
}

func (v *visit) explainDenial(a answer) error {
	switch {
	case a.status == http.StatusForbidden:
		return fmt.Errorf("AMT %s: this account may not do that. It needs the realms Remote Control and General Info, and admin rights for boot options", v.addr.host)
	case v.admitted: // by requests before this one
		return v.later(fmt.Errorf("AMT %s no longer takes credentials that it took a moment ago", v.addr.host))
	case !a.digest:
		return fmt.Errorf("AMT %s does not offer digest authentication: it may be set up for Kerberos alone, or be no AMT", v.addr.host)
	}
	return fmt.Errorf("AMT %s: the credentials were refused. Correct them before the account is locked; the user is admin unless somebody made others", v.addr.host)
}

// explainSilence is for requests that got no answer.
func (v *visit) explainSilence(err error) error {
	var changed *tlspin.ChangedError
	var name *net.DNSError
	var op *net.OpError
	var timeout net.Error
	switch {
	case errors.As(err, &changed):
		return fmt.Errorf("AMT refused: %w", changed)
	case tlspin.Untrusted(err):
		return fmt.Errorf("AMT %s: %w. With tls: pin its own certificate is recorded and trusted", v.addr.host, err)
	case errors.As(err, &name) && name.IsNotFound:
		return fmt.Errorf("cannot find AMT %s: no such name in DNS", v.addr.host)
	case tlspin.Plaintext(err):
		return fmt.Errorf("%s answers without TLS: this is not port 16993 of AMT, or TLS is not set up on it", v.addr.host)
	case errors.As(err, &op) && op.Op == "remote error":
		return fmt.Errorf("AMT %s does not agree on TLS, of which 1.2 is the least: %w", v.addr.host, op)
	case errors.As(err, &op) && op.Op == "dial":
		return v.later(fmt.Errorf("cannot reach AMT %s: %w. It may not be set up, or the host is without power or network", v.addr.host, op))
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return v.later(fmt.Errorf("AMT %s does not answer", v.addr.host))
	}
	return v.later(fmt.Errorf("AMT %s cut the connection: %w", v.addr.host, err))
}

// definite says whether to ask again would end the same.
func definite(err error) bool {
	var changed *tlspin.ChangedError
	var op *net.OpError
	return errors.As(err, &changed) || tlspin.Untrusted(err) || tlspin.Plaintext(err) ||
		errors.As(err, &op) && op.Op == "remote error"
}

// later marks an error as one that may pass.
func (v *visit) later(err error) error {
	return &remediate.RetryError{After: v.driver.opt.Times.Retry, Err: err}
}

// clean takes the password out of a text that came from outside.
func (v *visit) clean(text string) string {
	if p := v.password.Reveal(); p != "" {
		text = strings.ReplaceAll(text, p, "[secret]")
	}
	return text
}
