// Package winrm runs commands on Windows hosts by WinRM.
//
// A [Session] is one connection, one login and one shell. It is strict where the protocol's
// clients are lax: whatever is not the answer to the request at hand ends it. SOAP messages
// are made and read by github.com/masterzen/winrm; what goes between is ours, because that
// library takes errors for answers, ignores deadlines, and falls back to weaker logins.
//
// Nothing travels in plain text: a message goes through TLS, or sealed by NTLM, or not at all.
// A server that offers less is an error.
package winrm

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	lib "github.com/masterzen/winrm"

	"unbrick/inventory/secret"
	"unbrick/remediate/tlspin"
)

// Options say how to reach one host. Address and Auth are needed.
type Options struct {
	// Address is a host, host:port, or a URL without a path. Without a scheme it is https,
	// unless the port is 5985. Without a port it is 5986, or 5985 for http, which NTLM alone
	// may use.
	Address string
	Auth    Auth
	TLS     tlspin.Policy
	Times   Times
	// MaxOutput limits what a command may print, in bytes; 16 MiB if 0.
	MaxOutput int
	// Dial connects; nil means the network of this process.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Times are limits of time; the zero value of each has a default.
type Times struct {
	Connect   time.Duration // for the connection and TLS: 10 s
	Operation time.Duration // after which a host that has nothing to say has to say so: 20 s
	Answer    time.Duration // beyond Operation, for an answer: 10 s
	Goodbye   time.Duration // for the end of the shell, after everything else failed: 3 s
}

func (t Times) filled() Times {
	or := func(d *time.Duration, def time.Duration) {
		if *d <= 0 {
			*d = def
		}
	}
	or(&t.Connect, 10*time.Second)
	or(&t.Operation, 20*time.Second)
	or(&t.Answer, 10*time.Second)
	or(&t.Goodbye, 3*time.Second)
	return t
}

// An Auth is a way to log in: [NTLM], [Certificate], [Basic] or a *[Kerberos].
type Auth interface {
	// scheme is what the server has to offer.
	scheme() string
	plainHTTP() bool // sealed by itself
}

// NTLM logs in with a password, which does not travel. User is DOMAIN\user, user@domain, or
// the name of a local account. Over http every message is sealed.
type NTLM struct {
	User     string
	Password secret.Value
}

// Certificate logs in with a client certificate, which the host maps to a local account.
type Certificate struct{ tls.Certificate }

// Basic sends the password through TLS. The host has to allow it.
type Basic struct {
	User     string
	Password secret.Value
}

func (NTLM) scheme() string         { return "Negotiate" }
func (NTLM) plainHTTP() bool        { return true }
func (Certificate) scheme() string  { return mutual }
func (Certificate) plainHTTP() bool { return false }
func (Basic) scheme() string        { return "Basic" }
func (Basic) plainHTTP() bool       { return false }

// A Session is a shell on a host. It is for one goroutine. After an error that is not a
// *[FaultError] it is over.
type Session struct {
	opt    Options
	addr   address
	params *lib.Parameters

	wire  *wire
	shell string
}

// Dial connects, logs in and opens a shell, all before it returns. The login failed if the
// error is a *[LoginError]; it must not be repeated often, since accounts lock.
func Dial(ctx context.Context, o Options) (*Session, error) {
	addr, err := parseAddress(o.Address)
	if err != nil {
		return nil, err
	}
	if o.Auth == nil {
		return nil, fmt.Errorf("cannot log in to %s: no way to log in is given", addr.host)
	}
	if !addr.tls && !o.Auth.plainHTTP() {
		return nil, fmt.Errorf("cannot log in to %s by %s over http: only NTLM seals what it sends. Use https (port 5986)", addr.host, name(o.Auth))
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.MaxOutput <= 0 {
		o.MaxOutput = 16 << 20
	}
	o.Times = o.Times.filled()
	s := &Session{opt: o, addr: addr, params: lib.NewParameters(iso(o.Times.Operation), "en-US", maxEnvelope)}
	if s.wire, err = connect(ctx, s.opt, addr); err != nil {
		return nil, explain(ctx, addr, err)
	}
	if s.shell, err = s.open(ctx); err != nil {
		s.wire.close()
		return nil, explain(ctx, addr, err)
	}
	return s, nil
}

// Close ends the shell and the connection. It may take the time of a goodbye, whatever became
// of the host.
func (s *Session) Close() error {
	defer func() { s.wire.close() }()
	if s.shell == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.opt.Times.Goodbye)
	defer cancel()
	if s.wire.broken {
		// The answer to the last request never came: what runs there is ended through a new
		// connection, if the host still lives. Else its shells died with it.
		wire, err := connect(ctx, s.opt, s.addr)
		if err != nil {
			return explain(ctx, s.addr, err)
		}
		s.wire.close()
		s.wire = wire
	}
	req := lib.NewDeleteShellRequest(s.addr.url(), s.shell, s.params)
	s.shell = ""
	_, err := s.wire.post(ctx, []byte(req.String()))
	var fault *FaultError
	if errors.As(err, &fault) && fault.ShellGone() {
		return nil
	}
	return explain(ctx, s.addr, err)
}

// idle is after how long a host ends a shell by itself that nobody uses: that of a process
// that was killed. Windows' own default is two hours.
const idle = 3 * time.Minute

func (s *Session) open(ctx context.Context) (id string, err error) {
	req := lib.NewOpenShellRequest(s.addr.url(), s.params)
	// The library has no parameter for it.
	text := strings.Replace(req.String(), "</rsp:Shell>", "<rsp:IdleTimeOut>"+iso(idle)+"</rsp:IdleTimeOut></rsp:Shell>", 1)
	answer, err := s.wire.post(ctx, []byte(text))
	if err != nil {
		return "", err
	}
	id, err = lib.ParseOpenShellResponse(answer)
	return id, answered(id, err)
}

// iso writes a duration as XML has it.
func iso(d time.Duration) string { return fmt.Sprintf("PT%.3fS", d.Seconds()) }
