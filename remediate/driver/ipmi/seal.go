package ipmi

import (
	"bytes"
	"crypto/hmac"
	"encoding/binary"

	"github.com/bougou/go-ipmi/pkg/crypto"
	"github.com/bougou/go-ipmi/pkg/types"

	"unbrick/inventory/secret"
)

// A seal checks the answers to a session's commands, which the library does not: it would
// believe anybody who knows our port, and a single datagram with a length that is wrong would
// end the program, because it decrypts in a goroutine of its own.
//
// It overhears the login for that. Offsets are those of IPMI 2.0, tables 13-8, 13-11, 13-12.
type seal struct {
	suite    types.CipherSuiteID
	user     string
	password secret.Value

	rakp1  []byte // as it was sent
	k1, k2 []byte // the session's keys: integrity, encryption
}

const (
	header     = 16 // of a datagram, before its payload
	lengthAt   = 14 // of the payload's length, two bytes
	statusAt   = header + 1
	randomAt   = header + 8  // of either side's random number, in RAKP 1 and 2
	roleAt     = header + 24 // in RAKP 1
	block      = 16
	leastReply = 7 // bytes of an answer with a completion code alone
)

// overhear takes from a datagram of the login what the keys are made of.
func (s *seal) overhear(p []byte) {
	switch kind, _ := kindOf(p); types.PayloadType(kind) {
	case types.PayloadTypeRAKPMessage1:
		s.rakp1 = bytes.Clone(p)
	case types.PayloadTypeRAKPMessage2:
		if len(p) >= roleAt && len(s.rakp1) > roleAt {
			s.derive(p)
		}
	}
}

func (s *seal) derive(rakp2 []byte) {
	auth, _, _, _ := types.GetCipherSuiteAlgorithms(s.suite)
	sik, err := crypto.DeriveSIK(auth, s.rakp1[randomAt:roleAt], rakp2[randomAt:roleAt], s.rakp1[roleAt], s.user,
		crypto.PadPassword20([]byte(s.password.Reveal())))
	if err != nil {
		return // not one of our suites: nothing will be genuine
	}
	s.k1, _ = crypto.DeriveK1(auth, sik)
	s.k2, _ = crypto.DeriveK2(auth, sik)
}

// genuine says whether the answer to a command comes from the other end of the session, and
// is one that the library can take apart.
func (s *seal) genuine(p []byte) bool {
	_, integrity, _, _ := types.GetCipherSuiteAlgorithms(s.suite)
	if s.k1 == nil || len(p) < header {
		return false
	}
	const authType = 4 // where the part begins that is authenticated
	size := 16
	if integrity == types.IntegrityAlg_HMAC_SHA1_96 {
		size = 12
	}
	payload := int(binary.LittleEndian.Uint16(p[lengthAt:]))
	end := len(p) - size
	if payload < 2*block || payload%block != 0 || header+payload+2 > end { // two: pad length, next header
		return false
	}
	code, err := crypto.SessionIntegrityAuthCode(integrity, p[authType:end], s.k1, "")
	if err != nil || !hmac.Equal(code, p[end:]) {
		return false
	}
	data := p[header : header+payload]
	plain, err := crypto.DecryptAES(data[block:], s.k2[:block], data[:block])
	if err != nil {
		return false
	}
	return len(plain)-1-int(plain[len(plain)-1]) >= leastReply // the last byte counts the padding
}
