package winrm

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// A LoginError says that the host refused the login, or offers none that may be used.
type LoginError struct {
	Host   string
	Reason string
}

func (e *LoginError) Error() string {
	return fmt.Sprintf("cannot log in to %s by WinRM: %s", e.Host, e.Reason)
}

// A FaultError is a host's refusal to do what a request asks. The session can go on.
type FaultError struct {
	Code   string // of WS-Management, in decimal
	Reason string // in the host's language
}

func (e *FaultError) Error() string {
	return fmt.Sprintf("the host refuses: %s (WinRM code %s)", e.Reason, e.Code)
}

// Codes of WS-Management that somebody acts on.
const (
	codeTimedOut  = "2150858793" // no output yet
	codeShellGone = "2150858843"
	codeQuota     = "2150859173" // too many operations of one user
	codeShells    = "2150859174" // too many shells of one user
)

// ShellGone says that the host knows the shell no longer: it was restarted, or somebody
// ended it.
func (e *FaultError) ShellGone() bool { return e.Code == codeShellGone }

// Busy says that the account has as many shells as it may have: later there may be room.
func (e *FaultError) Busy() bool { return e.Code == codeShells || e.Code == codeQuota }

// A LostError says that the connection broke or the host fell silent. What was asked for may
// have been done.
type LostError struct {
	Host string
	Err  error
}

func (e *LostError) Error() string {
	return fmt.Sprintf("lost %s: %v", e.Host, e.Err)
}

func (e *LostError) Unwrap() error { return e.Err }

// A statusError is an HTTP status without a SOAP message that would explain it.
type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return "HTTP status " + e.text }

// explain says which host it was about, once.
func explain(ctx context.Context, a address, err error) error {
	var login *LoginError
	var lost *LostError
	switch {
	case err == nil, errors.As(err, &login), errors.As(err, &lost):
		return err
	case ctx.Err() != nil:
		return &LostError{a.host, context.Cause(ctx)}
	}
	return fmt.Errorf("cannot work with %s by WinRM: %w", a.host, err)
}

// fault reads a SOAP fault; nil if the text is none.
func fault(text []byte) *FaultError {
	var e struct {
		Fault *struct {
			Reason string `xml:"Reason>Text"`
			Detail struct {
				WSMan struct {
					Code string `xml:"Code,attr"`
				} `xml:"WSManFault"`
			} `xml:"Detail"`
			Sub string `xml:"Code>Subcode>Value"`
		} `xml:"Body>Fault"`
	}
	if xml.Unmarshal(text, &e) != nil || e.Fault == nil {
		return nil
	}
	f := &FaultError{Code: oneLine(e.Fault.Detail.WSMan.Code, 20), Reason: oneLine(e.Fault.Reason, 300)}
	if f.Code == "" {
		f.Code = "unknown"
		if strings.HasSuffix(strings.TrimSpace(e.Fault.Sub), ":TimedOut") {
			f.Code = codeTimedOut
		}
	}
	return f
}

// oneLine makes what a host says fit for an error.
func oneLine(text string, most int) string {
	text = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(text, "?"), func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r)
	}), " ")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// answered turns what the library's parsers say into an error of ours: their own may carry
// the whole message.
func answered(id string, err error) error {
	if err != nil || id == "" {
		return &LostError{"the host", errors.New("its answer is not one to this request")}
	}
	return nil
}
