package winrmtest

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

const (
	maxEnvelope = 153600
	soapType    = "application/soap+xml;charset=UTF-8"
	sealedType  = `multipart/encrypted;protocol="application/HTTP-SPNEGO-session-encrypted";boundary="Encrypted Boundary"`
	mutual      = "http://schemas.dmtf.org/wbem/wsman/1/wsman/secprofile/https/mutual"
)

type loginKey struct{}

// A login is what a connection is logged in as.
type login struct {
	conn     net.Conn
	ntlm     *acceptor
	admitted bool
	seal     *sealer
}

// ServeHTTP is the service.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Server", "Microsoft-HTTPAPI/2.0")
	l := r.Context().Value(loginKey{}).(*login)
	if r.URL.Path != "/wsman" || r.Method != http.MethodPost {
		http.Error(w, "", http.StatusNotFound)
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if !s.admit(w, r, l) {
		return
	}
	if len(body) == 0 && l.admitted {
		if k := s.meet(Finish); s.before(w, r, k) {
			return
		}
		w.WriteHeader(http.StatusOK)
		return
	}
	message, err := s.unseal(l, r.Header.Get("Content-Type"), body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.answer(w, r, l, message)
}

// admit sees to the login. False means that the answer is written.
func (s *Server) admit(w http.ResponseWriter, r *http.Request, l *login) bool {
	scheme, value, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	switch {
	case scheme == "" && l.admitted:
		return true
	case scheme == "Basic" && s.offers("Basic"):
		if user, password, ok := r.BasicAuth(); ok && user == s.opt.User && password == s.opt.Password {
			return true
		}
	case scheme == mutual && s.opt.ClientCert != nil:
		if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 && r.TLS.PeerCertificates[0].Equal(s.opt.ClientCert) {
			return true
		}
	case (scheme == "Negotiate" || scheme == "NTLM") && s.offers("Negotiate"):
		token, _ := base64.StdEncoding.DecodeString(value)
		return s.negotiate(w, r, l, scheme, token)
	}
	s.challenge(w, "")
	return false
}

func (s *Server) offers(scheme string) bool { return slices.Contains(s.opt.Offer, scheme) }

// challenge asks for a login.
func (s *Server) challenge(w http.ResponseWriter, token string) {
	for _, o := range s.opt.Offer {
		if token != "" && o == "Negotiate" {
			continue
		}
		if o == "Basic" {
			o += ` realm="WSMAN"`
		}
		w.Header().Add("WWW-Authenticate", o)
	}
	if token != "" {
		w.Header().Add("WWW-Authenticate", token)
	}
	w.WriteHeader(http.StatusUnauthorized)
}

func (s *Server) negotiate(w http.ResponseWriter, r *http.Request, l *login, scheme string, token []byte) bool {
	if len(token) > 8 && token[8] == 3 && l.ntlm != nil {
		seal, err := l.ntlm.finish(token)
		l.ntlm = nil
		if err != nil {
			s.challenge(w, "")
			return false
		}
		l.admitted = true
		if r.TLS == nil {
			l.seal = seal
		}
		s.mu.Lock()
		s.logins++
		s.mu.Unlock()
		return true
	}
	if k := s.meet(Login); s.before(w, r, k) {
		return false
	}
	l.admitted, l.seal = false, nil
	l.ntlm = &acceptor{user: s.opt.User, password: s.opt.Password, domain: s.opt.Domain, noSeal: s.opt.NoSeal, binding: s.binding(r)}
	answer, err := l.ntlm.begin(token)
	if err != nil {
		s.challenge(w, "")
		return false
	}
	s.challenge(w, scheme+" "+base64.StdEncoding.EncodeToString(answer))
	return false
}

// binding is the hash of our own certificate, as RFC 5929 has it.
func (s *Server) binding(r *http.Request) []byte {
	if r.TLS == nil {
		return nil
	}
	der := s.opt.TLS.Certificates[0].Certificate[0]
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil
	}
	switch cert.SignatureAlgorithm {
	case x509.ECDSAWithSHA384, x509.SHA384WithRSA, x509.SHA384WithRSAPSS:
		sum := sha512.Sum384(der)
		return sum[:]
	}
	sum := sha256.Sum256(der)
	return sum[:]
}

// unseal returns the SOAP message in a body. Over http it has to be sealed.
func (s *Server) unseal(l *login, kind string, body []byte) ([]byte, error) {
	if l.seal == nil || !strings.HasPrefix(kind, "multipart/encrypted") {
		if s.opt.TLS == nil {
			s.mu.Lock()
			s.plain++
			s.mu.Unlock()
		}
		if s.opt.TLS == nil && !s.opt.Plain {
			return nil, errors.New("unencrypted traffic is not allowed")
		}
		if !strings.HasPrefix(kind, "application/soap+xml") {
			return nil, errors.New("content type")
		}
		return body, nil
	}
	head, rest, ok := bytes.Cut(body, []byte("\tContent-Type: application/octet-stream\r\n"))
	_, length, ok2 := bytes.Cut(head, []byte("Length="))
	length, _, _ = bytes.Cut(length, []byte("\r\n"))
	n, err := strconv.Atoi(string(length))
	rest, ok3 := bytes.CutSuffix(rest, []byte("--Encrypted Boundary--\r\n"))
	if !ok || !ok2 || !ok3 || err != nil || len(rest) != 20+n || binary.LittleEndian.Uint32(rest) != 16 {
		return nil, errors.New("not a sealed message")
	}
	return l.seal.unwrap(rest[4:20], rest[20:])
}

// write sends a SOAP message, sealed if the connection is.
func (s *Server) write(w http.ResponseWriter, l *login, status int, message string, plain bool) {
	if l.seal == nil || plain {
		w.Header().Set("Content-Type", soapType)
		w.WriteHeader(status)
		io.WriteString(w, message)
		return
	}
	sig, text := l.seal.wrap([]byte(message))
	w.Header().Set("Content-Type", sealedType)
	w.WriteHeader(status)
	fmt.Fprintf(w, "--Encrypted Boundary\r\n\tContent-Type: application/HTTP-SPNEGO-session-encrypted\r\n\tOriginalContent: type=%s;Length=%d\r\n"+
		"--Encrypted Boundary\r\n\tContent-Type: application/octet-stream\r\n", soapType, len(message))
	w.Write(binary.LittleEndian.AppendUint32(nil, 16))
	w.Write(sig)
	w.Write(text)
	io.WriteString(w, "--Encrypted Boundary--\r\n")
}

// Certificate returns a TLS configuration with a certificate of its own for names.
func Certificate(names ...string) *tls.Config {
	cert := selfSigned("unbrick test host", names)
	return &tls.Config{Certificates: []tls.Certificate{cert}}
}
