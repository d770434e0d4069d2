package laps

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"strconv"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"unbrick/inventory/secret"
)

// ParseWindows reads the attribute msLAPS-Password: {"n":account,"t":time,"p":password}, the
// time in hex as 100 ns since 1601. Its error repeats nothing of the text.
func ParseWindows(text string) (p Password, err error) {
	var v struct {
		Account  string `json:"n"`
		Time     string `json:"t"`
		Password string `json:"p"`
	}
	if json.Unmarshal([]byte(text), &v) != nil {
		return p, errors.New("not a password of Windows LAPS: it is not the JSON expected")
	}
	if v.Password == "" {
		return p, errors.New("not a password of Windows LAPS: it is empty")
	}
	at, err := fileTime(v.Time)
	return Password{Account: v.Account, Value: secret.New(v.Password), Updated: at}, err
}

// fileTime reads a Windows FILETIME in hex.
func fileTime(text string) (time.Time, error) {
	ticks, err := strconv.ParseUint(text, 16, 63)
	if err != nil {
		return time.Time{}, errors.New("not a password of Windows LAPS: its time is not a number in hex")
	}
	const perSecond, epoch = 10_000_000, 11_644_473_600 // seconds from 1601 to 1970
	return time.Unix(int64(ticks/perSecond)-epoch, int64(ticks%perSecond)*100).UTC(), nil
}

// ParseEntra reads passwordBase64 of Microsoft Graph: base64 of UTF-16, little-endian. Its error
// repeats nothing of the text.
func ParseEntra(text string) (secret.Value, error) {
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(b)%2 != 0 {
		return secret.Value{}, errors.New("not a password of Entra ID: it is not base64 of UTF-16")
	}
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	s := string(utf16.Decode(units))
	for _, r := range s {
		if r == 0 || r == utf8.RuneError {
			return secret.Value{}, errors.New("not a password of Entra ID: it is not base64 of UTF-16")
		}
	}
	if s == "" {
		return secret.Value{}, errors.New("not a password of Entra ID: it is empty")
	}
	return secret.New(s), nil
}
