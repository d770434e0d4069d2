package fvetest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"crypto/subtle"
	"math/bits"

	"golang.org/x/crypto/xts"

	"unbrick/bitlocker/fve"
)

// keySizes are the sizes of the keys that volumes hold, in bytes.
var keySizes = map[fve.Method]int{
	fve.Elephant128: 64, fve.Elephant256: 64, fve.CBC128: 16, fve.CBC256: 32, fve.XTS128: 32, fve.XTS256: 64,
}

// An encrypter encrypts one sector in place; offset is its place on the disk in bytes.
type encrypter interface {
	encrypt(sector []byte, offset int64)
}

func newEncrypter(m fve.Method, key []byte) (encrypter, error) {
	switch m {
	case fve.XTS128, fve.XTS256:
		c, err := xts.NewCipher(aes.NewCipher, key)
		return xtsSectors{c}, err
	case fve.CBC128, fve.CBC256:
		c, err := aes.NewCipher(key)
		return cbcSectors{c}, err
	}
	half := len(key) / 2
	size := half
	if m == fve.Elephant128 {
		size = 16
	}
	data, err := aes.NewCipher(key[:size])
	if err != nil {
		return nil, err
	}
	tweak, err := aes.NewCipher(key[half : half+size])
	return elephantSectors{cbcSectors{data}, tweak}, err
}

type xtsSectors struct{ c *xts.Cipher }

func (x xtsSectors) encrypt(b []byte, offset int64) {
	x.c.Encrypt(b, b, uint64(offset)/uint64(len(b)))
}

type cbcSectors struct{ c cipher.Block }

func (c cbcSectors) encrypt(b []byte, offset int64) {
	iv := make([]byte, aes.BlockSize)
	le.PutUint64(iv, uint64(offset))
	c.c.Encrypt(iv, iv)
	cipher.NewCBCEncrypter(c.c, iv).CryptBlocks(b, b)
}

// elephantSectors is CBC with the diffuser of Ferguson, "AES-CBC + Elephant diffuser" (2006).
type elephantSectors struct {
	cbc   cbcSectors
	tweak cipher.Block
}

func (e elephantSectors) encrypt(b []byte, offset int64) {
	var key [32]byte // of this sector
	le.PutUint64(key[:], uint64(offset))
	le.PutUint64(key[16:], uint64(offset))
	key[31] = 0x80
	e.tweak.Encrypt(key[:16], key[:16])
	e.tweak.Encrypt(key[16:], key[16:])
	for i := 0; i < len(b); i += len(key) {
		subtle.XORBytes(b[i:i+len(key)], b[i:], key[:])
	}
	n := len(b) / 4
	d := make([]uint32, n)
	for i := range d {
		d[i] = le.Uint32(b[4*i:])
	}
	for range 5 { // diffuser A
		for i := n - 1; i >= 0; i-- {
			d[i] -= d[(i+n-2)%n] ^ bits.RotateLeft32(d[(i+n-5)%n], [4]int{9, 0, 13, 0}[i%4])
		}
	}
	for range 3 { // diffuser B
		for i := n - 1; i >= 0; i-- {
			d[i] -= d[(i+2)%n] ^ bits.RotateLeft32(d[(i+5)%n], [4]int{0, 10, 0, 25}[i%4])
		}
	}
	for i, w := range d {
		le.PutUint32(b[4*i:], w)
	}
	e.cbc.encrypt(b, offset)
}

// sealCCM encrypts and authenticates as RFC 3610 says, with a nonce of 12 bytes and a tag of
// 16, which comes first.
func sealCCM(key, nonce, plain []byte) []byte {
	c, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // all keys here have a size of ours
	}
	mac := append(append([]byte{7<<3 | 2}, nonce...), byte(len(plain)>>16), byte(len(plain)>>8), byte(len(plain)))
	c.Encrypt(mac, mac)
	for rest := plain; len(rest) > 0; rest = rest[min(16, len(rest)):] {
		subtle.XORBytes(mac, mac, rest)
		c.Encrypt(mac, mac)
	}
	stream := cipher.NewCTR(c, append(append([]byte{2}, nonce...), 0, 0, 0))
	stream.XORKeyStream(mac, mac)
	out := make([]byte, len(plain))
	stream.XORKeyStream(out, plain)
	return append(mac, out...)
}

// stretch makes the key of a protector from the bytes of a recovery password.
func stretch(key [16]byte, salt []byte) []byte {
	h := sha256.Sum256(key[:])
	state := make([]byte, 88)
	copy(state[32:], h[:])
	copy(state[64:], salt)
	for n := range uint64(1 << 20) {
		le.PutUint64(state[80:], n)
		last := sha256.Sum256(state)
		copy(state, last[:])
	}
	return state[:32]
}
