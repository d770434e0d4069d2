package probe

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// maxAnswer is how much of an answer is read. The answers asked for have a few hundred bytes.
const maxAnswer = 64 << 10

// askHTTP asks for the resource of WinRM. Windows says 401 or 405; which does not matter.
func askHTTP(c net.Conn, host string) (string, error) {
	req, err := http.NewRequest(http.MethodGet, "http://"+hostHeader(host)+"/wsman", nil)
	if err != nil {
		return "", err
	}
	req.Close = true
	req.Header.Set("User-Agent", "unbrick")
	if err := req.Write(c); err != nil {
		return "", err
	}
	return readHTTP(bufio.NewReader(io.LimitReader(c, maxAnswer)), req)
}

// readHTTP reads the head of a response. What a gateway says for a host that it cannot reach
// is no sign of life of that host, unless it is Windows itself that says it.
func readHTTP(r *bufio.Reader, req *http.Request) (string, error) {
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode < 100 || resp.StatusCode > 599 {
		return "", fmt.Errorf("status %d is not one of HTTP", resp.StatusCode)
	}
	server := printable(resp.Header.Get("Server"))
	switch resp.StatusCode {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		if !strings.HasPrefix(server, "Microsoft-HTTPAPI") {
			return "", fmt.Errorf("status %d is what a gateway answers for a host that is down", resp.StatusCode)
		}
	}
	if server == "" {
		server = fmt.Sprintf("status %d", resp.StatusCode)
	}
	return server, nil
}

// hostHeader writes a host as URLs do.
func hostHeader(host string) string {
	if strings.Contains(host, ":") {
		return "[" + strings.ReplaceAll(host, "%", "%25") + "]"
	}
	return host
}

// printable returns what may stand in a line of a report.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, s)
	return s[:min(len(s), 80)]
}

// askHTTPS asks the same behind TLS. The certificate is not looked at: nothing is sent that is
// worth protecting, and WinRM's certificates are self-signed as a rule.
func askHTTPS(c net.Conn, host string) (string, error) {
	conf := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10}
	if net.ParseIP(host) == nil {
		conf.ServerName = host
	}
	return askHTTP(tls.Client(c, conf), host)
}

// smbNegotiate is an SMB2 NEGOTIATE request [MS-SMB2 2.2.3] that offers the dialects 2.0.2 to
// 3.0.2, with the header of its transport. A server that takes none of them still answers.
var smbNegotiate = []byte("\x00\x00\x00\x6c" + // 108 bytes follow
	"\xfeSMB\x40\x00" + "\x00\x00" + "\x00\x00\x00\x00" + // header of 64 bytes, no credits, no status
	"\x00\x00" + "\x01\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" + // NEGOTIATE, one credit, a request, no next command
	"\x00\x00\x00\x00\x00\x00\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" + // message 0, reserved, no tree
	"\x00\x00\x00\x00\x00\x00\x00\x00" + // no session
	"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" + // no signature
	"\x24\x00" + "\x04\x00" + "\x01\x00" + "\x00\x00" + "\x00\x00\x00\x00" + // body of 36 bytes, 4 dialects, signing enabled
	"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" + // no client id
	"\x00\x00\x00\x00\x00\x00\x00\x00" + // start time
	"\x02\x02\x10\x02\x00\x03\x02\x03")

func askSMB(c net.Conn, _ string) (string, error) {
	if _, err := c.Write(smbNegotiate); err != nil {
		return "", err
	}
	return readSMB(c)
}

// readSMB reads the head of a response to NEGOTIATE. An echo of the request is none: it lacks
// the mark of a response.
func readSMB(r io.Reader) (string, error) {
	var head [4 + 32]byte // of the transport, and as much as SMB 1 has
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return "", err
	}
	length := int(binary.BigEndian.Uint32(head[:4])) // the type in its first byte is 0
	smb := head[4:]
	switch {
	case length < len(smb) || length > maxAnswer:
		return "", errors.New("not the length of an SMB response")
	case bytes.HasPrefix(smb, []byte("\xfeSMB\x40\x00")) && smb[12] == 0 && smb[13] == 0 && smb[16]&1 != 0:
		return "SMB 2", nil
	case bytes.HasPrefix(smb, []byte("\xffSMB\x72")) && smb[9]&0x80 != 0:
		return "SMB 1", nil
	}
	return "", errors.New("not an SMB response")
}

// rdpConnect is an X.224 connection request that offers TLS and CredSSP [MS-RDPBCGR 2.2.1.1].
var rdpConnect = []byte("\x03\x00\x00\x13" + "\x0e\xe0\x00\x00\x00\x00\x00" + "\x01\x00\x08\x00\x03\x00\x00\x00")

func askRDP(c net.Conn, _ string) (string, error) {
	if _, err := c.Write(rdpConnect); err != nil {
		return "", err
	}
	return readRDP(c)
}

// readRDP reads an X.224 connection confirm, which also carries a refusal of what was offered.
func readRDP(r io.Reader) (string, error) {
	var head [11]byte // TPKT, and the fixed part of X.224
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return "", err
	}
	length := int(binary.BigEndian.Uint16(head[2:]))
	if head[0] != 3 || head[1] != 0 || length < len(head) || int(head[4]) != length-5 || head[5] != 0xd0 {
		return "", errors.New("not an X.224 connection confirm")
	}
	return "X.224", nil
}
