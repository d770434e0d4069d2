package fve

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
)

const (
	nonceSize = 12
	tagSize   = 16
)

// A sealed is a key or a hash that is encrypted with AES-CCM under another key.
type sealed struct {
	nonce, tag, data []byte
}

// newSealed takes apart the data of an entry; what is too short gives the zero sealed, which
// no key opens.
func newSealed(b []byte) sealed {
	if len(b) < nonceSize+tagSize {
		return sealed{}
	}
	return sealed{b[:nonceSize], b[nonceSize : nonceSize+tagSize], b[nonceSize+tagSize:]}
}

// open decrypts what is sealed, and says whether it is what was sealed with that key. The
// standard library has no CCM; this is RFC 3610 with a nonce of 12 bytes, a tag of 16 and
// nothing authenticated beside the data.
func (s sealed) open(key []byte) ([]byte, bool) {
	block, err := aes.NewCipher(key)
	if err != nil || s.nonce == nil || len(s.data) > blockSize {
		return nil, false
	}
	const lengthSize = 15 - nonceSize
	var counter, mask, mac [aes.BlockSize]byte
	counter[0] = lengthSize - 1
	copy(counter[1:], s.nonce)
	stream := cipher.NewCTR(block, counter[:])
	stream.XORKeyStream(mask[:], mask[:]) // the first block hides the tag
	plain := make([]byte, len(s.data))
	stream.XORKeyStream(plain, s.data)

	mac[0] = (tagSize-2)/2<<3 | (lengthSize - 1)
	copy(mac[1:], s.nonce)
	mac[13], mac[14], mac[15] = byte(len(plain)>>16), byte(len(plain)>>8), byte(len(plain))
	block.Encrypt(mac[:], mac[:])
	for rest := plain; len(rest) > 0; rest = rest[min(len(rest), aes.BlockSize):] {
		subtle.XORBytes(mac[:], mac[:], rest)
		block.Encrypt(mac[:], mac[:])
	}
	subtle.XORBytes(mac[:], mac[:], mask[:])
	if subtle.ConstantTimeCompare(mac[:], s.tag) != 1 {
		clear(plain)
		return nil, false
	}
	return plain, true
}

// openKey opens a sealed key: a length, a version, a method, and then the key. What it returns
// is the caller's to clear.
func (s sealed) openKey(key []byte) ([]byte, bool) {
	const header = 12
	plain, ok := s.open(key)
	if !ok {
		return nil, false
	}
	defer clear(plain)
	if len(plain) < header || int(le.Uint16(plain)) != len(plain) {
		return nil, false
	}
	return bytes.Clone(plain[header:]), true
}
