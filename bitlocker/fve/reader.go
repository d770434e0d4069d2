package fve

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"slices"

	"golang.org/x/crypto/xts"
)

// Reader returns the decrypted volume, of v.Size bytes, over the encrypted one. Several may
// read at once. It has the key in it, and keeps it after Close: let go of both.
func (u *Unlocked) Reader(r io.ReaderAt) (io.ReaderAt, error) {
	key := u.key()
	if key == nil {
		return nil, errors.New("cannot read the volume: it was closed")
	}
	d, err := newDecrypter(u.v.Method, key[:u.spec.keySize])
	if err != nil {
		return nil, fmt.Errorf("cannot read the volume: %w", err)
	}
	return &reader{r, d, u.v.Segments(), int64(u.v.SectorSize)}, nil
}

type reader struct {
	r        io.ReaderAt
	d        decrypter
	segments []Segment
	sector   int64
}

// ReadAt reads whole sectors, as many at once as lie together.
func (r *reader) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, errors.New("cannot read before the beginning of the volume")
	}
	for n < len(p) {
		at := off + int64(n)
		i, _ := slices.BinarySearchFunc(r.segments, at, func(s Segment, at int64) int {
			if s.Offset+s.Length <= at {
				return -1
			}
			return 1
		})
		if i == len(r.segments) {
			return n, io.EOF
		}
		k, err := r.readSegment(p[n:], at, r.segments[i])
		n += k
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// readSegment reads what it can from one segment.
func (r *reader) readSegment(p []byte, at int64, s Segment) (int, error) {
	const most = 256 << 10
	end := min(s.Offset+s.Length, at+int64(len(p)))
	if s.Zero {
		n := int(end - at)
		clear(p[:n])
		return n, nil
	}
	first := at - at%r.sector // segments begin and end with sectors
	last := min((end+r.sector-1)/r.sector*r.sector, first+most)
	buf := make([]byte, last-first)
	source := s.Source + first - s.Offset
	if n, err := r.r.ReadAt(buf, source); n < len(buf) {
		return 0, fmt.Errorf("cannot read the encrypted volume at %d: %w", source, err)
	}
	for i := int64(0); i < int64(len(buf)); i += r.sector {
		r.d.decrypt(buf[i:i+r.sector], source+i)
	}
	return copy(p[:end-at], buf[at-first:]), nil
}

// A decrypter decrypts one sector in place; offset is its place on the disk in bytes.
type decrypter interface {
	decrypt(sector []byte, offset int64)
}

// newDecrypter takes a key of exactly the size of the method's spec.
func newDecrypter(m Method, key []byte) (decrypter, error) {
	switch m {
	case XTS128, XTS256:
		c, err := xts.NewCipher(aes.NewCipher, key)
		return xtsSectors{c}, err
	case CBC128, CBC256:
		c, err := aes.NewCipher(key)
		return cbcSectors{c}, err
	case Elephant128, Elephant256:
		size := 32
		if m == Elephant128 {
			size = 16 // the other half of each key is not used
		}
		data, err := aes.NewCipher(key[:size])
		if err != nil {
			return nil, err
		}
		tweak, err := aes.NewCipher(key[32 : 32+size])
		return elephantSectors{cbcSectors{data}, tweak}, err
	}
	return nil, fmt.Errorf("unknown %s", m)
}

type xtsSectors struct{ c *xts.Cipher }

func (x xtsSectors) decrypt(b []byte, offset int64) {
	x.c.Decrypt(b, b, uint64(offset)/uint64(len(b)))
}

type cbcSectors struct{ c cipher.Block }

func (c cbcSectors) decrypt(b []byte, offset int64) {
	var iv [aes.BlockSize]byte
	le.PutUint64(iv[:], uint64(offset))
	c.c.Encrypt(iv[:], iv[:])
	cipher.NewCBCDecrypter(c.c, iv[:]).CryptBlocks(b, b)
}

// elephantSectors is CBC with Ferguson's diffuser: "AES-CBC + Elephant diffuser" (2006).
type elephantSectors struct {
	cbc   cbcSectors
	tweak cipher.Block
}

func (e elephantSectors) decrypt(b []byte, offset int64) {
	e.cbc.decrypt(b, offset)
	words := make([]uint32, len(b)/4)
	for i := range words {
		words[i] = le.Uint32(b[4*i:])
	}
	n := len(words)
	for range 3 {
		for i := range words {
			words[i] += words[(i+2)%n] ^ bits.RotateLeft32(words[(i+5)%n], [4]int{0, 10, 0, 25}[i%4])
		}
	}
	for range 5 {
		for i := range words {
			words[i] += words[(i-2+n)%n] ^ bits.RotateLeft32(words[(i-5+n)%n], [4]int{9, 0, 13, 0}[i%4])
		}
	}
	for i, w := range words {
		le.PutUint32(b[4*i:], w)
	}
	var key [2 * aes.BlockSize]byte // of this sector
	le.PutUint64(key[:], uint64(offset))
	le.PutUint64(key[aes.BlockSize:], uint64(offset))
	key[len(key)-1] = 0x80
	e.tweak.Encrypt(key[:aes.BlockSize], key[:aes.BlockSize])
	e.tweak.Encrypt(key[aes.BlockSize:], key[aes.BlockSize:])
	for i := 0; i < len(b); i += len(key) {
		subtle.XORBytes(b[i:i+len(key)], b[i:], key[:])
	}
}
