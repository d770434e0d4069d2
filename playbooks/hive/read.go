package hive

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf16"
)

// A key is the content of an nk cell, whose name was seen to be in it.
type key struct {
	at uint32
	c  []byte
}

const (
	flagCompKey   = 0x20 // the name of a key is one byte per letter
	flagPredef    = 0x40 // the number of values is something else
	flagCompValue = 0x01
)

func (k key) parent() uint32   { return get(k.c, 16) }
func (k key) security() uint32 { return get(k.c, 44) }
func (k key) name() string {
	return name(k.c[nkName:nkName+get16(k.c, 72)], get16(k.c, 2)&flagCompKey != 0)
}

func (h *Hive) key(at uint32) (key, error) {
	c, err := h.record(at, "nk", nkName)
	if err != nil {
		return key{}, err
	}
	if n := get16(c, 72); n > len(c)-nkName {
		return key{}, h.damage(at, "the name of a key is longer than its cell")
	}
	return key{at, c}, nil
}

// A vk is the content of a vk cell, whose name was seen to be in it.
type vk struct {
	at uint32
	c  []byte
}

func (v vk) name() string {
	return name(v.c[vkName:vkName+get16(v.c, 2)], get16(v.c, 16)&flagCompValue != 0)
}
func (v vk) inline() bool   { return get(v.c, 4)&inlineData != 0 }
func (v vk) size() int64    { return int64(get(v.c, 4) &^ inlineData) }
func (v vk) offset() uint32 { return get(v.c, 8) }
func (v vk) kind() Type     { return Type(get(v.c, 12)) }

func (h *Hive) value(at uint32) (vk, error) {
	c, err := h.record(at, "vk", vkName)
	if err != nil {
		return vk{}, err
	}
	if n := get16(c, 2); n > len(c)-vkName {
		return vk{}, h.damage(at, "the name of a value is longer than its cell")
	}
	return vk{at, c}, nil
}

// name decodes a name: one byte per letter, or UTF-16.
func name(b []byte, short bool) string {
	if !short {
		return fromUTF16(b)
	}
	var s strings.Builder
	for _, c := range b {
		s.WriteRune(rune(c))
	}
	return s.String()
}

func fromUTF16(b []byte) string {
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = uint16(get16(b, 2*i))
	}
	return string(utf16.Decode(units))
}

// A leaf is a list of subkeys, or a part of one.
type leaf struct {
	at   uint32
	c    []byte
	step int // bytes per element; the first four are an offset
}

func (l leaf) len() int         { return get16(l.c, 2) }
func (l leaf) get(i int) uint32 { return get(l.c, 4+i*l.step) }

// list returns the list at an offset, whose elements were seen to be in its cell.
func (h *Hive) list(at uint32) (leaf, error) {
	c, err := h.cell(at, 4)
	if err != nil {
		return leaf{}, err
	}
	l := leaf{at, c, 8}
	switch string(c[:2]) {
	case "lf", "lh":
	case "li", "ri":
		l.step = 4
	default:
		return leaf{}, h.damage(at, "a list of subkeys begins with %q", c[:2])
	}
	if 4+l.len()*l.step > len(c) {
		return leaf{}, h.damage(at, "a list of %d subkeys is longer than its cell", l.len())
	}
	return l, nil
}

// leaves returns the lists of a key's subkeys, and the index above them if there is one.
func (h *Hive) leaves(k key) (index *leaf, lists []leaf, err error) {
	if get(k.c, 20) == 0 {
		return nil, nil, nil
	}
	top, err := h.list(get(k.c, 28))
	if err != nil || string(top.c[:2]) != "ri" {
		return nil, []leaf{top}, err
	}
	for i := range top.len() {
		l, err := h.list(top.get(i))
		if err == nil && string(l.c[:2]) == "ri" {
			err = h.damage(l.at, "an index of subkeys is in another")
		}
		if err != nil {
			return nil, nil, err
		}
		lists = append(lists, l)
	}
	return &top, lists, nil
}

// subkeys returns the offsets of a key's subkeys.
func (h *Hive) subkeys(k key) ([]uint32, error) {
	want := int64(get(k.c, 20))
	_, lists, err := h.leaves(k)
	if err != nil {
		return nil, err
	}
	if want > int64(len(h.bins)/nkName) {
		return nil, h.damage(k.at, "a key has %d subkeys, more than the hive has room for", want)
	}
	var subs []uint32
	for _, l := range lists {
		if int64(len(subs)+l.len()) > want {
			return nil, h.damage(l.at, "a key has %d subkeys and more are listed", want)
		}
		for i := range l.len() {
			subs = append(subs, l.get(i))
		}
	}
	if int64(len(subs)) != want {
		return nil, h.damage(k.at, "a key has %d subkeys and %d are listed", want, len(subs))
	}
	return subs, nil
}

// values returns the offsets of a key's values.
func (h *Hive) values(k key) ([]uint32, error) {
	n := int64(get(k.c, 36))
	if n == 0 || get16(k.c, 2)&flagPredef != 0 {
		return nil, nil
	}
	c, err := h.cell(get(k.c, 40), 0)
	if err != nil {
		return nil, err
	}
	if 4*n > int64(len(c)) {
		return nil, h.damage(get(k.c, 40), "a list of %d values is longer than its cell", n)
	}
	values := make([]uint32, n)
	for i := range values {
		values[i] = get(c, 4*i)
	}
	return values, nil
}

// dataCells returns the cells that hold a value's data, in order. There is none if the data
// is in the vk cell or there is no data. Big data has its list and its record at the end.
func (h *Hive) dataCells(v vk) ([]uint32, error) {
	switch {
	case v.inline() && v.size() > 4:
		return nil, h.damage(v.at, "data of %d bytes is said to be where 4 have room", v.size())
	case v.inline() || v.size() == 0:
		return nil, nil
	}
	c, err := h.cell(v.offset(), 0)
	if err != nil {
		return nil, err
	}
	if v.size() <= int64(len(c)) {
		return []uint32{v.offset()}, nil
	}
	if h.minor <= 3 || v.size() <= segment || len(c) < 8 || string(c[:2]) != "db" {
		return nil, h.damage(v.offset(), "data of %d bytes is in a cell of %d", v.size(), len(c))
	}
	n, at := get16(c, 2), get(c, 4)
	if int64(n) != (v.size()+segment-1)/segment {
		return nil, h.damage(v.offset(), "data of %d bytes is in %d parts", v.size(), n)
	}
	list, err := h.cell(at, 4*n)
	if err != nil {
		return nil, err
	}
	var cells []uint32
	for i := range n {
		part := get(list, 4*i)
		if _, err := h.cell(part, int(min(segment, v.size()-int64(i)*segment))); err != nil {
			return nil, err
		}
		cells = append(cells, part)
	}
	return append(cells, at, v.offset()), nil
}

func (h *Hive) data(v vk) ([]byte, error) {
	if v.inline() {
		return bytes.Clone(v.c[8 : 8+v.size()]), nil
	}
	cells, err := h.dataCells(v)
	if err != nil {
		return nil, err
	}
	if len(cells) > 1 {
		cells = cells[:len(cells)-2]
	}
	data := []byte{}
	for _, at := range cells {
		c, err := h.cell(at, 0)
		if err != nil {
			return nil, err
		}
		room := v.size() - int64(len(data))
		if len(cells) > 1 {
			room = min(room, segment)
		}
		data = append(data, c[:room]...)
	}
	return data, nil
}

// find returns a key by its path from the root: names with backslashes between, in any case.
// The empty path is the root key.
func (h *Hive) find(path string) (key, error) {
	k, err := h.key(get(h.b, offRoot))
	if err != nil || path == "" {
		return k, err
	}
	for elem := range strings.SplitSeq(path, `\`) {
		subs, err := h.subkeys(k)
		if err != nil {
			return key{}, err
		}
		found := false
		for _, at := range subs {
			sub, err := h.key(at)
			if err != nil {
				return key{}, err
			}
			if found = sameName(elem, sub.name()); found {
				k = sub
				break
			}
		}
		if !found {
			return key{}, fmt.Errorf("key %s: %w", path, ErrNotExist)
		}
	}
	return k, nil
}

// sameName folds case. Names of the same length only: Unicode folds the Kelvin sign to a
// letter, and Windows does not.
func sameName(a, b string) bool { return len(a) == len(b) && strings.EqualFold(a, b) }

// findValue returns a value of a key, and its place in the list.
func (h *Hive) findValue(k key, name string) (vk, int, error) {
	values, err := h.values(k)
	if err != nil {
		return vk{}, 0, err
	}
	for i, at := range values {
		v, err := h.value(at)
		if err != nil {
			return vk{}, 0, err
		}
		if sameName(name, v.name()) {
			return v, i, nil
		}
	}
	return vk{}, 0, fmt.Errorf("value %q: %w", name, ErrNotExist)
}

// Get returns a value. Path and name are compared in any case; the error is ErrNotExist if
// there is no such key or value.
func (h *Hive) Get(path, name string) (Value, error) {
	k, err := h.find(path)
	if err != nil {
		return Value{}, err
	}
	v, _, err := h.findValue(k, name)
	if err != nil {
		return Value{}, fmt.Errorf("key %s: %w", path, err)
	}
	data, err := h.data(v)
	return Value{v.name(), v.kind(), data}, err
}

// Keys returns the names of the keys below a key, in the order of the hive.
func (h *Hive) Keys(path string) ([]string, error) {
	k, err := h.find(path)
	if err != nil {
		return nil, err
	}
	subs, err := h.subkeys(k)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(subs))
	for _, at := range subs {
		sub, err := h.key(at)
		if err != nil {
			return nil, err
		}
		names = append(names, sub.name())
	}
	return names, nil
}

// Values returns the values of a key, in the order of the hive.
func (h *Hive) Values(path string) ([]Value, error) {
	k, err := h.find(path)
	if err != nil {
		return nil, err
	}
	list, err := h.values(k)
	if err != nil {
		return nil, err
	}
	values := make([]Value, 0, len(list))
	for _, at := range list {
		v, err := h.value(at)
		if err != nil {
			return nil, err
		}
		data, err := h.data(v)
		if err != nil {
			return nil, err
		}
		values = append(values, Value{v.name(), v.kind(), data})
	}
	return values, nil
}

// Text returns the data of a REG_SZ or REG_EXPAND_SZ up to its first zero.
func (v Value) Text() string {
	s, _, _ := strings.Cut(fromUTF16(v.Data), "\x00")
	return s
}

// Number returns the data of a REG_DWORD or REG_QWORD, zero if it has another length.
func (v Value) Number() uint64 {
	switch {
	case v.Type == DWord && len(v.Data) == 4:
		return uint64(get(v.Data, 0))
	case v.Type == QWord && len(v.Data) == 8:
		return uint64(get(v.Data, 0)) | uint64(get(v.Data, 4))<<32
	}
	return 0
}
