// Package hivetest builds registry hives for tests, with code of its own: nothing of it is
// shared with the package that reads them.
package hivetest

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"
	"unicode/utf16"
)

// A Key is a key with what is below it.
type Key struct {
	Name   string
	Values []Value
	Keys   []Key
}

// A Value is one value.
type Value struct {
	Name string
	Type uint32
	Data []byte
}

// DWord returns a REG_DWORD.
func DWord(name string, n uint32) Value {
	return Value{name, 4, binary.LittleEndian.AppendUint32(nil, n)}
}

// Text returns a REG_SZ.
func Text(name, s string) Value { return Value{name, 1, UTF16(s + "\x00")} }

// Bytes returns a REG_BINARY.
func Bytes(name string, b []byte) Value { return Value{name, 3, b} }

// UTF16 encodes a text as Windows does.
func UTF16(s string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

// Sequence is the number of writes that a built hive has seen.
const Sequence = 7

// written is its last write: 19 July 2024, 04:09 UTC.
const written = 133658357400000000

// Build returns a clean primary file with the given root key, one bin and some free room.
func Build(root Key) []byte {
	b := &builder{bins: make([]byte, 32)}
	b.security = b.cell(slices.Concat([]byte("sk"), make([]byte, 10), u32(0), u32(20), descriptor()))
	b.patch(b.security+4+4, b.security) // a ring of one
	b.patch(b.security+4+8, b.security)
	top := b.key(root, 0, 0x2c) // the root of a hive, not to be deleted, name in single bytes
	b.patch(b.security+4+12, b.keys)
	used := len(b.bins)
	size := (used + 2048 + 4095) / 4096 * 4096
	b.bins = append(b.bins, make([]byte, size-used)...)
	b.patch(uint32(used), uint32(size-used))
	copy(b.bins, "hbin")
	b.patch(8, uint32(size))
	binary.LittleEndian.PutUint64(b.bins[20:], written)
	return append(base(top, size), b.bins...)
}

func base(root uint32, size int) []byte {
	h := make([]byte, 4096)
	copy(h, "regf")
	for at, v := range map[int]uint32{4: Sequence, 8: Sequence, 20: 1, 24: 5, 32: 1, 36: root, 40: uint32(size), 44: 1} {
		binary.LittleEndian.PutUint32(h[at:], v)
	}
	binary.LittleEndian.PutUint64(h[12:], written)
	copy(h[48:112], UTF16(`emRoot\System32\Config\SYSTEM`))
	Seal(h)
	return h
}

// Seal puts the right checksum into a base block.
func Seal(h []byte) {
	var sum uint32
	for at := 0; at < 508; at += 4 {
		sum ^= binary.LittleEndian.Uint32(h[at:])
	}
	binary.LittleEndian.PutUint32(h[508:], sum)
}

// descriptor is a security descriptor that says nothing: self-relative, without owner.
func descriptor() []byte {
	return append([]byte{1, 0, 0, 0x80}, make([]byte, 16)...)
}

type builder struct {
	bins     []byte
	security uint32
	keys     uint32
}

func (b *builder) patch(at, v uint32) { binary.LittleEndian.PutUint32(b.bins[at:], v) }

// cell adds a cell in use and returns its offset.
func (b *builder) cell(content []byte) uint32 {
	at := len(b.bins)
	size := (len(content) + 4 + 7) / 8 * 8
	b.bins = append(b.bins, u32(uint32(-size))...)
	b.bins = append(b.bins, content...)
	b.bins = append(b.bins, make([]byte, size-4-len(content))...)
	return uint32(at)
}

func u32(v uint32) []byte { return binary.LittleEndian.AppendUint32(nil, v) }
func u16(v int) []byte    { return binary.LittleEndian.AppendUint16(nil, uint16(v)) }

func (b *builder) key(k Key, parent uint32, flags int) uint32 {
	b.keys++
	at := b.cell(slices.Concat([]byte("nk"), u16(flags), u64(written), u32(0), u32(parent), make([]byte, 48),
		u32(0), u16(len(k.Name)), u16(0), []byte(k.Name)))
	for _, off := range []uint32{28, 32, 40, 48} {
		b.patch(at+4+off, 0xffffffff)
	}
	b.patch(at+4+44, b.security)
	if len(k.Values) > 0 {
		var list []byte
		for _, v := range k.Values {
			list = append(list, u32(b.value(v))...)
		}
		b.patch(at+4+36, uint32(len(k.Values)))
		b.patch(at+4+40, b.cell(list))
	}
	if len(k.Keys) > 0 {
		b.patch(at+4+20, uint32(len(k.Keys)))
		b.patch(at+4+28, b.list(k.Keys, at))
	}
	return at
}

func u64(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }

// list adds the keys below a key and a list of them; one of more than four is in two parts.
func (b *builder) list(keys []Key, parent uint32) uint32 {
	keys = slices.SortedFunc(slices.Values(keys), func(x, y Key) int {
		return cmp.Compare(strings.ToUpper(x.Name), strings.ToUpper(y.Name))
	})
	leaf := func(keys []Key) uint32 {
		l := append([]byte("lh"), u16(len(keys))...)
		for _, k := range keys {
			var hash uint32
			for _, c := range []byte(strings.ToUpper(k.Name)) {
				hash = 37*hash + uint32(c)
			}
			l = slices.Concat(l, u32(b.key(k, parent, 0x20)), u32(hash))
		}
		return b.cell(l)
	}
	if len(keys) <= 4 {
		return leaf(keys)
	}
	half := len(keys) / 2
	first, second := leaf(keys[:half]), leaf(keys[half:])
	return b.cell(slices.Concat([]byte("ri"), u16(2), u32(first), u32(second)))
}

func (b *builder) value(v Value) uint32 {
	size, data := uint32(len(v.Data)), []byte{0, 0, 0, 0}
	switch {
	case len(v.Data) <= 4:
		copy(data, v.Data)
		size |= 1 << 31
	case len(v.Data) > 16344:
		data = u32(b.big(v.Data))
	default:
		data = u32(b.cell(v.Data))
	}
	return b.cell(slices.Concat([]byte("vk"), u16(len(v.Name)), u32(size), data, u32(v.Type), u16(1), u16(0), []byte(v.Name)))
}

// big adds data that no single cell holds.
func (b *builder) big(data []byte) uint32 {
	var list []byte
	n := 0
	for part := range slices.Chunk(data, 16344) {
		list = append(list, u32(b.cell(part))...)
		n++
	}
	return b.cell(slices.Concat([]byte("db"), u16(n), u32(b.cell(list))))
}
