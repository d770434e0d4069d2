package redfishtest

import (
	"crypto/tls"
	"io"
	"log"
	"strconv"

	"unbrick/remediate/lab/testenv/selfsigned"
)

// NewCertificate returns the certificate of a BMC. Options.Certificate may share one among many.
func NewCertificate() (*tls.Certificate, error) { return selfsigned.New("BMC") }

func discard() *log.Logger { return log.New(io.Discard, "", 0) }

func itoa(n int) string { return strconv.Itoa(n) }
