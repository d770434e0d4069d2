package bitlocker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// A KeyError says what keeps a text from being a recovery key. Neither of its fields depends
// on which digits the text has, beyond how many.
type KeyError struct {
	Group  int    // the first wrong group, 1 to 8; 0 if it is not one group that is wrong
	Reason string // "is not a multiple of 11 (mistyped or misread)"
}

// Error names the group and what is wrong with it.
func (e *KeyError) Error() string {
	if e.Group == 0 {
		return "not a recovery key: it " + e.Reason
	}
	return fmt.Sprintf("not a recovery key: group %d %s", e.Group, e.Reason)
}

// What may be wrong with a key, as people and spreadsheets get it wrong.
const (
	emptyKey     = "is empty"
	notMultiple  = "is not a multiple of 11 (mistyped or misread)"
	tooLarge     = "is too large for any key (mistyped or misread)"
	foreignChar  = "has a character that is neither a digit nor a separator"
	lostZeros    = "has lost its leading zeros, as spreadsheets do: export the column as text"
	scientific   = "was turned into scientific notation by a spreadsheet, its digits are lost: export the column as text"
	rounded      = "was rounded to 15 digits by a spreadsheet, the rest is lost: export the column as text"
	placeholder  = "is all zeros: a placeholder"
	wrongLength  = "has %d digits, not 48"
	wrongInGroup = "has %d digits, not 6"
)

// normalise returns the runs of digits in s as ASCII. Between them may stand whatever keyboards,
// word processors, web pages and right-to-left scripts make of the hyphens.
func normalise(s string) (parts []string, err error) {
	s = strings.TrimFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.Is(unicode.Cf, r) })
	s = strings.TrimLeft(s, "'’‘") // how spreadsheets mark a number as text
	if s == "" {
		return nil, &KeyError{Reason: emptyKey}
	}
	if isScientific(s) {
		return nil, &KeyError{Reason: scientific}
	}
	var run []byte
	count := 0
	flush := func() {
		if len(run) > 0 {
			parts, run = append(parts, string(run)), run[:0]
		}
	}
	for _, r := range s {
		d, ok := digit(r)
		switch {
		case ok:
			run = append(run, d)
			count++
		case r == '-':
			flush()
		case unicode.Is(unicode.Cf, r): // invisible: direction marks, zero width, soft hyphen
		case unicode.IsSpace(r), unicode.Is(unicode.Zs, r), unicode.Is(unicode.Pd, r), r == '−':
			flush()
		default:
			return nil, &KeyError{Group: min(count/groupDigits+1, groups), Reason: foreignChar}
		}
	}
	flush()
	return parts, nil
}

// digit maps the digits of ASCII, full width and both Arabic-Indic rows to ASCII.
func digit(r rune) (byte, bool) {
	if r < 0x80 {
		return byte(r), r >= '0' && r <= '9'
	}
	for _, zero := range [...]rune{'０', '٠', '۰'} {
		if r >= zero && r <= zero+9 {
			return byte('0' + r - zero), true
		}
	}
	return 0, false
}

// isScientific recognises 4.96298E+47, also with a decimal comma.
func isScientific(s string) bool {
	if s[0] < '0' || s[0] > '9' || !strings.ContainsAny(s, "eE") || strings.ContainsAny(s, "xX_") {
		return false
	}
	_, err := strconv.ParseFloat(strings.Replace(s, ",", ".", 1), 64)
	return err == nil || errors.Is(err, strconv.ErrRange)
}

// decode turns exactly 48 ASCII digits into the bytes of a key.
func decode(digits string) (b [16]byte, err error) {
	// Fifteen digits are what a spreadsheet keeps of a number. The zeros after them are valid
	// groups, so nothing else would find it.
	if strings.Trim(digits[3*groupDigits:], "0") == "" {
		if strings.Trim(digits, "0") == "" {
			return b, &KeyError{Reason: placeholder}
		}
		return b, &KeyError{Reason: rounded}
	}
	for g := range groups {
		n, reason := group(digits[groupDigits*g : groupDigits*(g+1)])
		if reason != "" {
			return [16]byte{}, &KeyError{Group: g + 1, Reason: reason}
		}
		binary.LittleEndian.PutUint16(b[2*g:], n)
	}
	return b, nil
}

// group returns an eleventh of a group, or what is wrong with it.
func group(digits string) (uint16, string) {
	n := 0
	for _, d := range []byte(digits) {
		n = 10*n + int(d-'0')
	}
	switch {
	case n%divisor != 0:
		return 0, notMultiple
	case n >= groupLimit:
		return 0, tooLarge
	}
	return uint16(n / divisor), ""
}

// diagnoseLength says what is wrong with a number of digits that is not 48.
func diagnoseLength(parts []string, digits string) *KeyError {
	if err := diagnoseParts(parts); err != nil {
		return err
	}
	if lost := keyDigits - len(digits); len(parts) == 1 && lost > 0 && lost < groupDigits {
		padded := strings.Repeat("0", lost) + digits
		if _, err := decode(padded); err == nil {
			return &KeyError{Reason: lostZeros}
		}
	}
	return &KeyError{Reason: fmt.Sprintf(wrongLength, len(digits))}
}

// diagnoseParts names the first of eight groups that has not six digits, or returns nil.
func diagnoseParts(parts []string) *KeyError {
	if len(parts) != groups {
		return nil
	}
	for i, p := range parts {
		if len(p) == groupDigits {
			continue
		}
		reason := fmt.Sprintf(wrongInGroup, len(p))
		if len(p) < groupDigits {
			if _, bad := group(p); bad == "" {
				reason = lostZeros
			}
		}
		return &KeyError{Group: i + 1, Reason: reason}
	}
	return nil
}
