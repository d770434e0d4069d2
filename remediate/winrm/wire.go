package winrm

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

const (
	maxEnvelope = 153600  // what Windows takes by default, and what we announce
	maxReply    = 1 << 20 // nothing that we ask for is larger
	soapType    = "application/soap+xml;charset=UTF-8"
	mutual      = "http://schemas.dmtf.org/wbem/wsman/1/wsman/secprofile/https/mutual"
)

// A wire is one connection that is logged in. It is used for one request after the other, and
// never opened again: a request is not repeated behind anybody's back.
type wire struct {
	opt    Options
	addr   address
	conn   net.Conn
	r      *bufio.Reader
	seal   *sealer // nil: through TLS
	once   string  // Authorization of the next request alone
	each   func(ctx context.Context) (string, error)
	broken bool // an answer is missing
}

// connect opens a connection and logs in, as far as that takes requests of its own.
func connect(ctx context.Context, o Options, a address) (*wire, error) {
	dctx, cancel := context.WithTimeout(ctx, o.Times.Connect)
	defer cancel()
	conn, err := o.Dial(dctx, "tcp", a.host)
	if err != nil {
		return nil, &LostError{a.host, err}
	}
	w := &wire{opt: o, addr: a, conn: conn}
	if a.tls {
		if err := w.secure(dctx); err != nil {
			conn.Close()
			return nil, err
		}
	}
	w.r = bufio.NewReader(w.conn)
	if err := w.login(ctx); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

// secure begins TLS.
func (w *wire) secure(ctx context.Context) error {
	conf, err := w.opt.TLS.Config(ctx, w.addr.host)
	if err != nil {
		return err
	}
	conf.ServerName = w.addr.name
	conf.NextProtos = nil // logins belong to connections: HTTP/1.1
	if c, ok := w.opt.Auth.(Certificate); ok {
		conf.Certificates = []tls.Certificate{c.Certificate}
		// Windows asks for the certificate after the handshake, which TLS 1.3 has no way to do
		// that Go and Windows share.
		conf.MaxVersion = tls.VersionTLS12
		conf.Renegotiation = tls.RenegotiateOnceAsClient
	}
	t := tls.Client(w.conn, conf)
	if err := t.HandshakeContext(ctx); err != nil {
		var lost net.Error
		if errors.As(err, &lost) || errors.Is(err, io.EOF) {
			err = &LostError{w.addr.host, err}
		}
		return err
	}
	w.conn = t
	return nil
}

func (w *wire) login(ctx context.Context) error {
	switch a := w.opt.Auth.(type) {
	case NTLM:
		return w.ntlm(ctx, a)
	case *Kerberos:
		w.each = func(ctx context.Context) (string, error) { return a.token(ctx, w.addr.name) }
	case Basic:
		b := base64.StdEncoding.EncodeToString([]byte(a.User + ":" + a.Password.Reveal()))
		w.each = func(context.Context) (string, error) { return "Basic " + b, nil }
	case Certificate:
		w.each = func(context.Context) (string, error) { return mutual, nil }
	}
	return nil
}

func (w *wire) close() { w.conn.Close() }

// post sends a SOAP message and returns the answer. A fault is a *FaultError; everything else
// that is no answer breaks the wire.
func (w *wire) post(ctx context.Context, message []byte) (string, error) {
	if len(message) > maxEnvelope {
		return "", fmt.Errorf("cannot send %d bytes in one message: hosts take %d", len(message), maxEnvelope)
	}
	body, kind := message, soapType
	if w.seal != nil {
		var err error
		if body, err = w.seal.seal(message); err != nil {
			return "", err
		}
		kind = sealedType
	}
	resp, answer, err := w.exchange(ctx, body, kind)
	if err != nil {
		return "", err
	}
	if resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden {
		w.broken = true
		return "", w.denied(resp, "")
	}
	if w.seal != nil && len(answer) > 0 {
		// An answer that is not sealed may be anybody's.
		if answer, err = w.seal.open(resp.Header.Get("Content-Type"), answer); err != nil {
			w.broken = true
			return "", &LostError{w.addr.host, err}
		}
	}
	return w.judge(resp, answer)
}

// judge tells an answer from a fault, and both from everything else.
func (w *wire) judge(resp *http.Response, answer []byte) (string, error) {
	f := fault(answer)
	switch {
	case f != nil:
		return "", f
	case resp.StatusCode != http.StatusOK:
		w.broken = true
		return "", &LostError{w.addr.host, &statusError{resp.StatusCode, oneLine(resp.Status, 80)}}
	case len(answer) == 0:
		w.broken = true
		return "", &LostError{w.addr.host, errors.New("its answer is empty")}
	}
	return string(answer), nil
}

// exchange sends one HTTP request and reads the answer to it, whole.
func (w *wire) exchange(ctx context.Context, body []byte, kind string) (*http.Response, []byte, error) {
	if w.broken {
		return nil, nil, &LostError{w.addr.host, errors.New("the connection is over")}
	}
	req, err := w.request(ctx, body, kind)
	if err != nil {
		return nil, nil, err
	}
	limit, cancel := context.WithTimeoutCause(ctx, w.opt.Times.Operation+w.opt.Times.Answer, errSilent)
	defer cancel()
	// A deadline in the past ends whatever the connection is at.
	stop := context.AfterFunc(limit, func() { w.conn.SetDeadline(time.Unix(1, 0)) })
	w.broken = true
	resp, answer, err := w.talk(req)
	if !stop() || err != nil {
		if cause := context.Cause(limit); cause != nil {
			err = cause
		}
		return nil, nil, &LostError{w.addr.host, err}
	}
	w.broken = resp.Close
	return resp, answer, nil
}

var errSilent = errors.New("it does not answer")

func (w *wire) request(ctx context.Context, body []byte, kind string) (*http.Request, error) {
	req, err := http.NewRequest(http.MethodPost, w.addr.url(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", kind)
	req.Header.Set("User-Agent", "unbrick")
	auth := w.once
	w.once = ""
	if auth == "" && w.each != nil {
		if auth, err = w.each(ctx); err != nil {
			return nil, err
		}
	}
	if auth != "" {
		req.Header.Set("Authorization", auth)
	}
	return req, nil
}

func (w *wire) talk(req *http.Request) (*http.Response, []byte, error) {
	if err := req.Write(w.conn); err != nil {
		return nil, nil, err
	}
	resp, err := http.ReadResponse(w.r, req)
	if err != nil {
		return nil, nil, err
	}
	// The body is not closed: that would read on to an end that may never come.
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	if err == nil && len(answer) > maxReply {
		err = fmt.Errorf("its answer is longer than %d bytes", maxReply)
	}
	return resp, answer, err
}

// denied says why a login failed. No further one is tried: what the server offers instead is
// weaker, or a trap.
func (w *wire) denied(resp *http.Response, why string) error {
	var offers []string
	for _, h := range resp.Header.Values("WWW-Authenticate") {
		offer, _, _ := strings.Cut(h, " ")
		offers = append(offers, oneLine(offer, 90))
	}
	if why == "" {
		why = "the user name, the password or the certificate is wrong, or the account may not use WinRM"
		if resp.StatusCode == http.StatusForbidden {
			why = "it is forbidden (HTTP 403)"
		}
	}
	if len(offers) > 0 && !offered(offers, w.opt.Auth.scheme()) {
		why = fmt.Sprintf("it offers %s and we may use %s alone", strings.Join(offers, ", "), name(w.opt.Auth))
	}
	return &LoginError{w.addr.host, why}
}

func offered(offers []string, scheme string) bool {
	for _, o := range offers {
		if strings.EqualFold(o, scheme) || scheme == "Negotiate" && strings.EqualFold(o, "Kerberos") {
			return true
		}
	}
	return false
}

// name is what people call a way to log in.
func name(a Auth) string {
	switch a.(type) {
	case NTLM:
		return "NTLM"
	case *Kerberos:
		return "Kerberos"
	case Certificate:
		return "a client certificate"
	}
	return "Basic"
}
