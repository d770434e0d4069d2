package winrmtest

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/rc4"
	"encoding/binary"
	"errors"
	"strings"
	"time"
	"unicode/utf16"

	"golang.org/x/crypto/md4"
)

// Flags of NTLM that matter here (MS-NLMP 2.2.2.5).
const (
	flagUnicode  = 0x00000001
	flagTarget   = 0x00000004
	flagSign     = 0x00000010
	flagSeal     = 0x00000020
	flagNTLM     = 0x00000200
	flagDomain   = 0x00010000
	flagESS      = 0x00080000
	flagInfo     = 0x00800000
	flagVersion  = 0x02000000
	flag128      = 0x20000000
	flagExchange = 0x40000000
	flag56       = 0x80000000
)

// An acceptor is the server's side of one NTLM login.
type acceptor struct {
	user, password, domain string
	noSeal                 bool
	binding                []byte // tls-server-end-point, if the connection has one

	first, second []byte
	challenge     [8]byte
}

// begin answers the first message.
func (a *acceptor) begin(msg []byte) ([]byte, error) {
	if len(msg) < 16 || !bytes.HasPrefix(msg, []byte("NTLMSSP\x00\x01\x00\x00\x00")) {
		return nil, errors.New("not an NTLM negotiate message")
	}
	asked := binary.LittleEndian.Uint32(msg[12:])
	flags := uint32(flagUnicode | flagTarget | flagNTLM | flagDomain | flagInfo | flagVersion)
	flags |= asked & (flagSign | flagSeal | flagESS | flag128 | flagExchange | flag56)
	if a.noSeal {
		flags &^= flagSign | flagSeal
	}
	rand.Read(a.challenge[:])
	name := wide(a.domain)
	info := bytes.Join([][]byte{
		pair(2, name), pair(1, wide("HOST1")), pair(4, wide("unbrick.test")), pair(3, wide("host1.unbrick.test")),
		pair(7, fileTime(time.Now())), pair(0, nil),
	}, nil)
	const head = 56
	m := append([]byte("NTLMSSP\x00"), 2, 0, 0, 0)
	m = field(m, len(name), head)
	m = binary.LittleEndian.AppendUint32(m, flags)
	m = append(m, a.challenge[:]...)
	m = append(m, make([]byte, 8)...)
	m = field(m, len(info), head+len(name))
	m = append(m, 10, 0, 0x61, 0x4a, 0, 0, 0, 15) // version 10.0, build 19041
	m = append(append(m, name...), info...)
	a.first, a.second = bytes.Clone(msg), m
	return m, nil
}

var errNTLM = errors.New("wrong user, password or message")

// finish checks the third message and returns what seals the connection.
func (a *acceptor) finish(msg []byte) (*sealer, error) {
	if a.second == nil || len(msg) < 88 || !bytes.HasPrefix(msg, []byte("NTLMSSP\x00\x03\x00\x00\x00")) {
		return nil, errNTLM
	}
	nt, domain, user, session := part(msg, 20), narrow(part(msg, 28)), narrow(part(msg, 36)), part(msg, 52)
	flags := binary.LittleEndian.Uint32(msg[60:])
	if len(nt) < 48 || !a.knows(domain, user) {
		return nil, errNTLM
	}
	h := md4.New()
	h.Write(wide(a.password))
	key := mac(h.Sum(nil), wide(strings.ToUpper(user)+domain))
	proof, temp := nt[:16], nt[16:]
	if !hmac.Equal(mac(key, a.challenge[:], temp), proof) {
		return nil, errNTLM
	}
	exported := mac(key, proof)
	if flags&flagExchange != 0 {
		if len(session) != 16 {
			return nil, errNTLM
		}
		c, _ := rc4.NewCipher(exported)
		exported = make([]byte, 16)
		c.XORKeyStream(exported, session)
	}
	if err := a.check(msg, temp, exported); err != nil {
		return nil, err
	}
	if flags&(flagSeal|flagESS|flag128|flagExchange) != flagSeal|flagESS|flag128|flagExchange {
		return nil, nil
	}
	return newSealer(exported), nil
}

func (a *acceptor) knows(domain, user string) bool {
	if name, ok := strings.CutSuffix(strings.ToLower(user), "@unbrick.test"); ok && domain == "" {
		user = name
	}
	return strings.EqualFold(user, a.user) && (domain == "" || strings.EqualFold(domain, a.domain))
}

// check verifies the code over all three messages, and the channel the client says it is on.
func (a *acceptor) check(msg, temp, exported []byte) error {
	pairs := temp[min(28, len(temp)):]
	var flags uint32
	for len(pairs) >= 4 {
		id, n := binary.LittleEndian.Uint16(pairs), int(binary.LittleEndian.Uint16(pairs[2:]))
		if id == 0 || len(pairs) < 4+n {
			break
		}
		value := pairs[4 : 4+n]
		switch {
		case id == 6 && n == 4:
			flags = binary.LittleEndian.Uint32(value)
		case id == 10 && a.binding != nil && !bytes.Equal(value, make([]byte, 16)):
			app := append([]byte("tls-server-end-point:"), a.binding...)
			sum := md5.Sum(append(binary.LittleEndian.AppendUint32(make([]byte, 16), uint32(len(app))), app...))
			if !bytes.Equal(sum[:], value) {
				return errors.New("the login is bound to another channel")
			}
		}
		pairs = pairs[4+n:]
	}
	if flags&2 == 0 {
		return errors.New("the login has no integrity code")
	}
	zeroed := bytes.Clone(msg)
	clear(zeroed[72:88])
	if !hmac.Equal(mac(exported, a.first, a.second, zeroed), msg[72:88]) {
		return errors.New("the login was changed on the way")
	}
	return nil
}

// A sealer is the server's end of a sealed connection.
type sealer struct {
	in, out       *rc4.Cipher
	inKey, outKey []byte
	inSeq, outSeq uint32
}

func newSealer(exported []byte) *sealer {
	derive := func(magic string) []byte {
		sum := md5.Sum(append(bytes.Clone(exported), magic+"\x00"...))
		return sum[:]
	}
	s := &sealer{
		inKey:  derive("session key to client-to-server signing key magic constant"),
		outKey: derive("session key to server-to-client signing key magic constant"),
	}
	s.in, _ = rc4.NewCipher(derive("session key to client-to-server sealing key magic constant"))
	s.out, _ = rc4.NewCipher(derive("session key to server-to-client sealing key magic constant"))
	return s
}

func sign(c *rc4.Cipher, key []byte, seq uint32, message []byte) []byte {
	n := binary.LittleEndian.AppendUint32(nil, seq)
	sum := mac(key, n, message)[:8]
	c.XORKeyStream(sum, sum)
	return append(append([]byte{1, 0, 0, 0}, sum...), n...)
}

func (s *sealer) wrap(message []byte) (sig, text []byte) {
	text = make([]byte, len(message))
	s.out.XORKeyStream(text, message)
	sig = sign(s.out, s.outKey, s.outSeq, message)
	s.outSeq++
	return sig, text
}

func (s *sealer) unwrap(sig, text []byte) ([]byte, error) {
	message := make([]byte, len(text))
	s.in.XORKeyStream(message, text)
	if !hmac.Equal(sign(s.in, s.inKey, s.inSeq, message), sig) {
		return nil, errors.New("wrong signature")
	}
	s.inSeq++
	return message, nil
}

func mac(key []byte, parts ...[]byte) []byte {
	h := hmac.New(md5.New, key)
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

func wide(s string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

func narrow(b []byte) string {
	var u []uint16
	for ; len(b) >= 2; b = b[2:] {
		u = append(u, binary.LittleEndian.Uint16(b))
	}
	return string(utf16.Decode(u))
}

func pair(id uint16, value []byte) []byte {
	b := binary.LittleEndian.AppendUint16(nil, id)
	return append(binary.LittleEndian.AppendUint16(b, uint16(len(value))), value...)
}

func field(b []byte, n, offset int) []byte {
	b = binary.LittleEndian.AppendUint16(b, uint16(n))
	b = binary.LittleEndian.AppendUint16(b, uint16(n))
	return binary.LittleEndian.AppendUint32(b, uint32(offset))
}

// part returns the payload that the field at offset at names; nil if it is not all there.
func part(msg []byte, at int) []byte {
	n, off := int(binary.LittleEndian.Uint16(msg[at:])), int(binary.LittleEndian.Uint32(msg[at+4:]))
	if off < 0 || off > len(msg) || n > len(msg)-off {
		return nil
	}
	return msg[off : off+n]
}

func fileTime(t time.Time) []byte {
	return binary.LittleEndian.AppendUint64(nil, uint64(t.UnixNano()/100+116444736000000000))
}
