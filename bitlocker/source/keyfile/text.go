package keyfile

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"unicode/utf16"
)

// decodeUTF16 reads all of in, which begins with a byte order mark. PowerShell and "Unicode
// text" of spreadsheets write such files.
func decodeUTF16(in io.Reader) (*bufio.Reader, error) {
	b, err := io.ReadAll(in)
	if err != nil {
		return nil, err
	}
	if len(b)%2 != 0 {
		return nil, errors.New("the file ends inside a character of UTF-16: it is not complete")
	}
	var order binary.ByteOrder = binary.LittleEndian
	if b[0] == 0xfe {
		order = binary.BigEndian
	}
	units := make([]uint16, 0, len(b)/2)
	for i := 2; i < len(b); i += 2 {
		units = append(units, order.Uint16(b[i:]))
	}
	return bufio.NewReader(strings.NewReader(string(utf16.Decode(units)))), nil
}

// split returns the fields of one line of CSV. A quoted field may hold the separator, and
// quotes that are doubled.
func split(line string, separator byte) ([]string, error) {
	var fields []string
	for {
		field, rest, more, err := cutField(line, separator)
		if err != nil {
			return nil, err
		}
		fields = append(fields, field)
		if !more {
			return fields, nil
		}
		line = rest
	}
}

// cutField cuts the first field off a line. more says whether a separator followed it.
func cutField(line string, separator byte) (field, rest string, more bool, err error) {
	if !strings.HasPrefix(line, `"`) {
		field, rest, more = strings.Cut(line, string(separator))
		return field, rest, more, nil
	}
	var b strings.Builder
	for rest = line[1:]; ; {
		part, after, closed := strings.Cut(rest, `"`)
		b.WriteString(part)
		switch {
		case !closed:
			return "", "", false, errors.New("has a quote that is not closed")
		case after == "":
			return b.String(), "", false, nil
		case after[0] == separator:
			return b.String(), after[1:], true, nil
		case after[0] != '"':
			return "", "", false, errors.New("has text after a quoted field")
		}
		b.WriteByte('"')
		rest = after[1:]
	}
}

// commonName returns the name of the computer in a distinguished name, as exports of Active
// Directory have it: that of the computer object, or of the recovery object below it, whose own
// name ends in {GUID}.
func commonName(dn string) (string, bool) {
	for {
		rdn, rest, more := cutRDN(dn)
		attribute, value, ok := strings.Cut(rdn, "=")
		if !ok || !strings.EqualFold(strings.TrimSpace(attribute), "CN") {
			return "", false
		}
		if !strings.HasSuffix(value, "}") {
			return strings.TrimSpace(value), true
		}
		if !more {
			return "", false
		}
		dn = rest
	}
}

// cutRDN cuts a distinguished name at its first comma that is not escaped.
func cutRDN(dn string) (rdn, rest string, more bool) {
	for i := 0; i < len(dn); i++ {
		switch dn[i] {
		case '\\':
			i++
		case ',':
			return dn[:i], dn[i+1:], true
		}
	}
	return dn, "", false
}
