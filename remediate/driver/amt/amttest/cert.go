package amttest

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"io"
	"log"
	"strings"

	"unbrick/remediate/lab/testenv/selfsigned"
)

// NewCertificate returns the certificate of an AMT. Options.Certificate may share one among many.
func NewCertificate() (*tls.Certificate, error) { return selfsigned.New("AMT") }

func discard() *log.Logger { return log.New(io.Discard, "", 0) }

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails: crypto/rand
	return strings.ToUpper(hex.EncodeToString(b))
}
