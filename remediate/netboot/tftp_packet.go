package netboot

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"strings"
	"time"
)

// TFTP packets, by RFC 1350, and the options of RFC 2347, 2348, 2349 and 7440.
const (
	opRead  = 1
	opData  = 3
	opAck   = 4
	opError = 5
	opOACK  = 6

	codeNotDefined = 0
	codeNotFound   = 1

	defaultBlock = 512
	// maxBlock is what fits an Ethernet frame: firmware does not always put fragments together.
	maxBlock  = 1468
	maxWindow = 16
)

// A request asks for a file.
type request struct {
	name    string
	options []option // as asked for, in that order
}

type option struct{ name, value string }

// parseRequest reads a read request. Anything else is not ok.
func parseRequest(p []byte) (r request, ok bool) {
	if len(p) < 4 || binary.BigEndian.Uint16(p) != opRead || p[len(p)-1] != 0 {
		return r, false
	}
	words := strings.Split(string(p[2:len(p)-1]), "\x00")
	if len(words) < 2 || words[0] == "" || !strings.EqualFold(words[1], "octet") {
		return r, false
	}
	r.name = words[0]
	for words = words[2:]; len(words) >= 2; words = words[2:] {
		r.options = append(r.options, option{strings.ToLower(words[0]), words[1]})
	}
	return r, true
}

// Terms are how a file is sent.
type terms struct {
	block   int
	window  int
	timeout time.Duration
	oack    []option // what the host is told of it; empty: it asked for nothing
}

// agree takes the options that make sense, each at most as far as we go. Others are left out
// of the answer, which refuses them.
func agree(r request, size int, timeout time.Duration) terms {
	t := terms{block: defaultBlock, window: 1, timeout: timeout}
	seen := map[string]bool{}
	for _, o := range r.options {
		n, err := strconv.Atoi(o.value)
		if err != nil || seen[o.name] {
			continue
		}
		seen[o.name] = true
		switch {
		case o.name == "blksize" && n >= 8 && n <= 65464:
			t.block = min(n, maxBlock)
			n = t.block
		case o.name == "windowsize" && n >= 1 && n <= 65535:
			t.window = min(n, maxWindow)
			n = t.window
		case o.name == "timeout" && n >= 1 && n <= 255:
			t.timeout = time.Duration(n) * time.Second
		case o.name == "tsize" && n == 0:
			n = size
		default:
			continue
		}
		t.oack = append(t.oack, option{o.name, strconv.Itoa(n)})
	}
	return t
}

func oackPacket(options []option) []byte {
	p := []byte{0, opOACK}
	for _, o := range options {
		p = append(append(p, o.name...), 0)
		p = append(append(p, o.value...), 0)
	}
	return p
}

func errorPacket(code uint16, text string) []byte {
	p := binary.BigEndian.AppendUint16([]byte{0, opError}, code)
	return append(append(p, text...), 0)
}

// dataPacket returns block n, counted from 1, of a file: shorter than a block, or empty, if it
// is the last.
func dataPacket(file []byte, block int, n int) []byte {
	from := min((n-1)*block, len(file))
	to := min(from+block, len(file))
	p := binary.BigEndian.AppendUint16([]byte{0, opData}, uint16(n)) // goes on at 0 after 65535
	return append(p, file[from:to]...)
}

// parseAck returns the number of an acknowledged block. Ended says that the host wants no
// more.
func parseAck(p []byte) (n uint16, ok, ended bool) {
	if len(p) < 4 {
		return 0, false, false
	}
	switch binary.BigEndian.Uint16(p) {
	case opAck:
		return binary.BigEndian.Uint16(p[2:]), true, false
	case opError:
		return 0, false, true
	}
	return 0, false, false
}

// errorText is the text of an error packet, for the log.
func errorText(p []byte) string {
	text, _, _ := bytes.Cut(p[4:], []byte{0})
	return strconv.QuoteToASCII(string(text[:min(len(text), 100)]))
}
