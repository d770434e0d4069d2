package inventory

import (
	"hash/maphash"
	"net/netip"
	"slices"
	"strings"
)

// keys are by what the rows of several sources are compared: hashes, 0 where there is no
// value. They are 64 bits of a seed that differs each time: at two million rows the chance
// that two values are taken for one is below one in a million.
type keys struct {
	serial, uuid, name []uint64
	macs               []keyed
}

// A keyed is a row under one key.
type keyed struct {
	key uint64
	row int32
}

// keysOf returns the keys of all rows.
func keysOf(rows *list, from []uint16) keys {
	k := keys{serial: make([]uint64, rows.n), uuid: make([]uint64, rows.n), name: make([]uint64, rows.n)}
	seed := maphash.MakeSeed()
	hash := func(s string) uint64 {
		if s == "" {
			return 0
		}
		return maphash.String(seed, s) | 1
	}
	var buf []byte
	short := shortNames{byShort: map[uint64]uint64{}, lone: map[uint64]uint64{}, split: map[uint64]bool{}}
	for i := range rows.n {
		h := rows.at(int32(i))
		buf = serialKey(buf[:0], h.Serial)
		if len(buf) > 0 {
			k.serial[i] = maphash.Bytes(seed, buf) | 1
		}
		k.uuid[i] = hash(uuidKey(h.UUID))
		for j, m := range h.MAC {
			if !FakeMAC(m) && !slices.Contains(h.MAC[:j], m) {
				k.macs = append(k.macs, keyed{hash(m), int32(i)})
			}
		}
		name := strings.ToLower(h.Name)
		k.name[i] = hash(name)
		short.see(hash(shortName(name)), k.name[i], from[i])
	}
	for i := range rows.n {
		name := strings.ToLower(rows.at(int32(i)).Name)
		if s := shortName(name); s != name {
			if key := hash(s); !short.split[key] {
				k.name[i] = key
			}
		}
	}
	return k
}

// shortNames finds the names that are one host's with its domain and without: those that stand
// for one full name only, and that no source has both ways.
type shortNames struct {
	byShort map[uint64]uint64 // short name: the first full name
	lone    map[uint64]uint64 // short name: which sources have it, as bits, and in which form
	split   map[uint64]bool   // short names that are several hosts'
}

func (s *shortNames) see(short, name uint64, source uint16) {
	bit := uint64(1) << (source % 32)
	if name == short {
		s.lone[short] |= bit
	} else {
		if was, ok := s.byShort[short]; ok && was != name {
			s.split[short] = true
		}
		s.byShort[short] = name
		s.lone[short] |= bit << 32
	}
	if l := s.lone[short]; l>>32&l != 0 {
		s.split[short] = true
	}
}

// shortName returns a name without its domain. A name that is an address has none.
func shortName(name string) string {
	short, _, full := strings.Cut(name, ".")
	if !full {
		return name
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return name
	}
	return short
}

// serialKey appends a serial number without what people type one way or another: case, spaces
// and punctuation. Nothing is left of one that identifies no host.
func serialKey(b []byte, serial string) []byte {
	if FakeSerial(serial) {
		return b
	}
	for i := range len(serial) {
		switch c := serial[i]; {
		case 'A' <= c && c <= 'Z':
			b = append(b, c+'a'-'A')
		case '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || c >= 0x80:
			b = append(b, c)
		}
	}
	if len(b) < 3 { // "A1" is a rack's label rather than a maker's number
		return b[:0]
	}
	return b
}

// uuidKey returns one text for both orders of bytes in which systems write a UUID: SMBIOS 2.6
// and later stores the first three fields little-endian, and not every tool turns them round.
func uuidKey(uuid string) string {
	if uuid == "" || FakeUUID(uuid) || len(uuid) != 36 {
		return ""
	}
	turned := []byte(uuid)
	for i, from := range [...]int{6, 4, 2, 0, 11, 9, 16, 14} {
		to := [...]int{0, 2, 4, 6, 9, 11, 14, 16}[i]
		copy(turned[to:to+2], uuid[from:from+2])
	}
	if FakeUUID(string(turned)) {
		return ""
	}
	return min(uuid, string(turned))
}
