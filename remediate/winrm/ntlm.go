package winrm

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/bodgit/ntlmssp"
)

// ntlm logs the connection in. Over http the login is complete when it returns; over TLS the
// first message takes the last part of it along, as other clients of Windows do it.
func (w *wire) ntlm(ctx context.Context, a NTLM) error {
	domain, user := account(a.User)
	client, err := ntlmssp.NewClient(ntlmssp.SetUserInfo(user, a.Password.Reveal()), ntlmssp.SetDomain(domain))
	if err != nil {
		return err
	}
	first, err := client.Authenticate(nil, nil)
	if err != nil {
		return err
	}
	w.once = negotiate(first)
	resp, _, err := w.exchange(ctx, nil, soapType)
	if err != nil {
		return err
	}
	challenge, why := challengeOf(resp)
	if challenge == nil {
		return w.denied(resp, why)
	}
	last, err := client.Authenticate(challenge, w.binding())
	session := client.SecuritySession()
	if err != nil || !client.Complete() || session == nil {
		return w.denied(resp, "its part of the NTLM login makes no sense")
	}
	w.once = negotiate(last)
	if w.addr.tls {
		return nil
	}
	if flags := binary.LittleEndian.Uint32(challenge[20:]); flags&sealing != sealing {
		return w.denied(resp, "it does not seal what it sends")
	}
	if resp, _, err = w.exchange(ctx, nil, soapType); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return w.denied(resp, "")
	}
	w.seal = &sealer{session}
	return nil
}

// sealing are the flags of an NTLM challenge without which messages are not, or badly, sealed:
// sign, seal, extended session security, 128 bits.
const sealing = 0x00000010 | 0x00000020 | 0x00080000 | 0x20000000

func negotiate(token []byte) string { return "Negotiate " + base64.StdEncoding.EncodeToString(token) }

// account splits a user name. The domain of user@domain stays in it: Windows finds it there,
// and only a name with a backslash has a domain of its own. A dot means the host's accounts.
func account(name string) (domain, user string) {
	domain, user, ok := strings.Cut(name, `\`)
	if !ok {
		return "", name
	}
	if domain == "." {
		domain = ""
	}
	return domain, user
}

// challengeOf returns the server's part of the login, or why there is none.
func challengeOf(resp *http.Response) (challenge []byte, why string) {
	if resp.StatusCode != http.StatusUnauthorized {
		return nil, "it answers the first part of a login with HTTP status " + strconv.Itoa(resp.StatusCode)
	}
	for _, h := range resp.Header.Values("WWW-Authenticate") {
		text, ok := strings.CutPrefix(h, "Negotiate ")
		if !ok {
			continue
		}
		b, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(b) < 48 || !bytes.HasPrefix(b, []byte("NTLMSSP\x00\x02\x00\x00\x00")) {
			return nil, "its part of the NTLM login makes no sense"
		}
		return b, ""
	}
	return nil, "it does not take NTLM"
}

// binding ties the login to the server's certificate, so that nobody can pass it on.
func (w *wire) binding() *ntlmssp.ChannelBindings {
	t, ok := w.conn.(*tls.Conn)
	if !ok {
		return nil
	}
	cert := t.ConnectionState().PeerCertificates[0]
	sum := crypto.SHA256.New()
	switch cert.SignatureAlgorithm {
	case x509.SHA384WithRSA, x509.ECDSAWithSHA384, x509.SHA384WithRSAPSS:
		sum = crypto.SHA384.New()
	case x509.SHA512WithRSA, x509.ECDSAWithSHA512, x509.SHA512WithRSAPSS:
		sum = crypto.SHA512.New()
	}
	sum.Write(cert.Raw)
	return &ntlmssp.ChannelBindings{ApplicationData: append([]byte(ntlmssp.TLSServerEndPoint+":"), sum.Sum(nil)...)}
}

// A sealer encrypts and signs the messages of one connection, in their order.
type sealer struct{ session *ntlmssp.SecuritySession }

const (
	sealedType = `multipart/encrypted;protocol="application/HTTP-SPNEGO-session-encrypted";boundary="Encrypted Boundary"`
	boundary   = "--Encrypted Boundary"
	partHead   = boundary + "\r\n\tContent-Type: application/HTTP-SPNEGO-session-encrypted\r\n\tOriginalContent: type=application/soap+xml;charset=UTF-8;Length="
	partBody   = "\r\n" + boundary + "\r\n\tContent-Type: application/octet-stream\r\n"
	partEnd    = boundary + "--\r\n"
	sigLength  = 16
)

func (s *sealer) seal(message []byte) ([]byte, error) {
	text, sig, err := s.session.Wrap(message)
	if err != nil || len(sig) != sigLength {
		return nil, fmt.Errorf("cannot seal a message: %w", err)
	}
	var b bytes.Buffer
	b.WriteString(partHead + strconv.Itoa(len(message)) + partBody)
	b.Write(binary.LittleEndian.AppendUint32(nil, sigLength))
	b.Write(sig)
	b.Write(text)
	b.WriteString(partEnd)
	return b.Bytes(), nil
}

var errNotSealed = errors.New("its answer is not sealed")

// open returns what a sealed answer says.
func (s *sealer) open(kind string, body []byte) ([]byte, error) {
	sig, text, err := unpack(kind, body)
	if err != nil {
		return nil, err
	}
	message, err := s.session.Unwrap(text, sig)
	if err != nil {
		return nil, errors.New("its answer was changed on the way, or is not the host's")
	}
	return message, nil
}

// unpack takes a multipart/encrypted message apart. It promises signatures of 16 bytes.
func unpack(kind string, body []byte) (sig, text []byte, err error) {
	if !strings.HasPrefix(strings.ToLower(kind), "multipart/encrypted") {
		return nil, nil, errNotSealed
	}
	head, rest, ok := bytes.Cut(body, []byte(partBody[2:]))
	_, length, ok2 := bytes.Cut(head, []byte("Length="))
	length, _, _ = bytes.Cut(length, []byte("\r\n"))
	n, err := strconv.Atoi(string(length))
	rest, ok3 := bytes.CutSuffix(rest, []byte(partEnd))
	if !ok3 {
		rest, ok3 = bytes.CutSuffix(rest, []byte(partEnd[:len(partEnd)-2]))
	}
	if !ok || !ok2 || !ok3 || err != nil || len(rest) < 4+sigLength || binary.LittleEndian.Uint32(rest) != sigLength {
		return nil, nil, errNotSealed
	}
	sig, text = rest[4:4+sigLength], rest[4+sigLength:]
	if len(text) != n {
		return nil, nil, fmt.Errorf("its answer has %d bytes and says %d", len(text), n)
	}
	return sig, text, nil
}
