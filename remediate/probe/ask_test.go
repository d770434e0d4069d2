package probe

import (
	"bufio"
	"bytes"
	"net/http"
	"strings"
	"testing"
)

// The law: only a response counts. What is accepted begins as one, nothing shorter is accepted,
// and the request sent back is not.
func FuzzReadSMB(f *testing.F) {
	f.Add(smbNegotiate)
	f.Add([]byte("\x00\x00\x00\x81\xfeSMB\x40\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x01\x00\x00\x00" + strings.Repeat("\x00", 100)))
	f.Add([]byte("\x00\x00\x00\x23\xffSMB\x72\x00\x00\x00\x00\x88\x01\x48" + strings.Repeat("\x00", 25)))
	f.Fuzz(func(t *testing.T, answer []byte) {
		r := bytes.NewReader(answer)
		if _, err := readSMB(r); err != nil {
			return
		}
		read := len(answer) - r.Len()
		if len(answer) < 36 || answer[0] != 0 || string(answer[5:8]) != "SMB" || bytes.HasPrefix(answer, smbNegotiate[:36]) {
			t.Errorf("%q is taken for an SMB response", answer)
		}
		if _, err := readSMB(bytes.NewReader(answer[:read-1])); err == nil {
			t.Errorf("%q is taken for a whole response", answer[:read-1])
		}
	})
}

func FuzzReadRDP(f *testing.F) {
	f.Add(rdpConnect)
	f.Add([]byte("\x03\x00\x00\x13\x0e\xd0\x00\x00\x124\x00\x02\x1f\x08\x00\x02\x00\x00\x00"))
	f.Add([]byte("\x03\x00\x00\x0b\x06\xd0\x00\x00\x124\x00"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		r := bytes.NewReader(answer)
		if _, err := readRDP(r); err != nil {
			return
		}
		read := len(answer) - r.Len()
		if len(answer) < 11 || answer[0] != 3 || answer[5] != 0xd0 || bytes.HasPrefix(answer, rdpConnect[:11]) {
			t.Errorf("%q is taken for an RDP response", answer)
		}
		if _, err := readRDP(bytes.NewReader(answer[:read-1])); err == nil {
			t.Errorf("%q is taken for a whole response", answer[:read-1])
		}
	})
}

// The law: what is accepted is HTTP, and what it says of itself is short and plain.
func FuzzReadHTTP(f *testing.F) {
	for _, s := range []string{"HTTP/1.1 405 \r\nServer: Microsoft-HTTPAPI/2.0\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\n", "HTTP/1.1 502 x\n\n", "SSH-2.0-x\r\n", "HTTP/1.1 099 x\r\n\r\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, answer string) {
		detail, err := readHTTP(bufio.NewReader(strings.NewReader(answer)), &http.Request{Method: http.MethodGet})
		if err != nil {
			return
		}
		if !strings.HasPrefix(strings.TrimLeft(answer, "\r\n \t"), "HTTP/") {
			t.Errorf("%q is taken for HTTP", answer)
		}
		if detail == "" || len(detail) > 80 || strings.ContainsAny(detail, "\r\n\x1b\x00") {
			t.Errorf("detail %q", detail)
		}
	})
}
