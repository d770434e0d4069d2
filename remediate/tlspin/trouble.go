package tlspin

import (
	"crypto/x509"
	"errors"
	"strings"
)

// Untrusted says whether err is a certificate that [Verify] does not trust.
func Untrusted(err error) bool {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	return errors.As(err, &unknown) || errors.As(err, &name) || errors.As(err, &invalid)
}

// Plaintext says whether err tells that the other side speaks no TLS. The standard library has no
// type for it: these are the texts of net/http and crypto/tls.
func Plaintext(err error) bool {
	return strings.Contains(err.Error(), "server gave HTTP response") ||
		strings.Contains(err.Error(), "first record does not look like a TLS handshake")
}
