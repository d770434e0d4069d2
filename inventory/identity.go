package inventory

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash/maphash"
	"maps"
	"math/bits"
	"slices"
	"strings"
)

// identities finds hosts that two rows claim. It keeps 64-bit hashes, not the values: at
// eight million hosts the chance that it names an innocent pair is one in half a million,
// and then a person looks at two lines that differ.
type identities struct {
	seed  maphash.Seed
	names map[uint64]named
	ids   map[uint64]seen // serial numbers, UUIDs and ways in
	gone  map[uint32]bool // rows that are put aside, and claim nothing any more
	buf   []byte
}

// seen is the row in which a value stood first, or of several the one that is in use.
type seen struct {
	nth, line uint32
	at        uint32 // when the source last heard of the host, in seconds since 1970
	other     uint32 // of a serial number the hash of the UUID beside it, and the other way round
}

type named struct {
	seen
	row uint64 // start of the row's digest
}

// A claim is one value that an earlier row has too.
type claim struct {
	column, value string
	nth, line     int  // of the earlier row
	same          bool // the two rows say the same
	newer, older  bool // the source heard of this row's host later, or of the other's
	apart         bool // what stands beside the value tells the two hosts apart
}

// newIdentities returns an empty set. The seed differs from process to process, so that
// nobody can write an inventory whose hashes collide.
func newIdentities() identities {
	return identities{seed: maphash.MakeSeed(), names: map[uint64]named{}, ids: map[uint64]seen{}, gone: map[uint32]bool{}}
}

// see records the nth host and returns what earlier hosts claim as well.
func (s *identities) see(h *Host, nth, line int, row uint64) []claim {
	me := seen{nth: uint32(nth), line: uint32(line)}
	if at := h.Seen(); !at.IsZero() {
		me.at = uint32(at.Unix())
	}
	var claims []claim
	key := s.hash("name", h.Name)
	was, ok := s.names[key]
	ok = ok && !s.gone[was.nth]
	if ok {
		c := me.against(was.seen, "name", h.Name)
		c.same = was.row == row && !c.newer
		claims = append(claims, c)
		if c.same {
			return claims
		}
	}
	if !ok || claims[0].newer {
		s.names[key] = named{me, row}
	}
	var serial, uuid uint32
	if h.Serial != "" && h.UUID != "" {
		serial, uuid = uint32(s.hash("serial", h.Serial)), uint32(s.hash("uuid", h.UUID))
	}
	see := func(column, value, compare string, other uint32) {
		if compare == "" {
			return
		}
		me.other = other
		key := s.hash(column, compare)
		was, ok := s.ids[key]
		if ok = ok && !s.gone[was.nth]; ok {
			claims = append(claims, me.against(was, column, value))
		}
		if !ok || claims[len(claims)-1].newer {
			s.ids[key] = me
		}
	}
	see("serial", h.Serial, h.Serial, uuid)
	see("uuid", h.UUID, h.UUID, serial)
	for _, r := range h.Routes {
		if r.Driver != "manual" { // one technician stands for many hosts
			see(r.Driver, r.Address, bareAddress(r.Address), 0)
		}
	}
	return claims
}

// against compares two rows that have one value.
func (me seen) against(was seen, column, value string) claim {
	return claim{
		column: column, value: value, nth: int(was.nth), line: int(was.line),
		newer: me.at > was.at, older: me.at < was.at,
		apart: me.other != was.other && me.other != 0 && was.other != 0,
	}
}

// bareAddress leaves out of an address what may be written or not: "https://10.0.0.5/" and
// "10.0.0.5" are one BMC.
func bareAddress(s string) string {
	if _, rest, ok := strings.Cut(s, "://"); ok {
		s = rest
	}
	return strings.TrimSuffix(s, "/")
}

// hash folds case: names are compared that way by Windows, serials are typed either way.
func (s *identities) hash(kind, value string) uint64 {
	s.buf = append(append(s.buf[:0], kind...), 0)
	start := len(s.buf)
	for i := range len(value) {
		c := value[i]
		if c >= 0x80 {
			s.buf = append(s.buf[:start], strings.ToLower(value)...)
			break
		}
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		s.buf = append(s.buf, c)
	}
	return maphash.Bytes(s.seed, s.buf)
}

// digest is a hash of a set of hosts: the sum, modulo 2²⁵⁶, of the SHA-256 of each. Hosts can
// be added in any order. It tells whether two inventories say the same; it is no defence
// against somebody who forges one.
type digest struct {
	sum  [4]uint64
	n    uint64
	buf  []byte
	keys []string // of labels
}

// add takes in h and returns the start of its own hash.
func (d *digest) add(h *Host) uint64 {
	d.keys = slices.AppendSeq(d.keys[:0], maps.Keys(h.Labels))
	slices.Sort(d.keys)
	d.buf = appendHost(d.buf[:0], h, d.keys)
	one := sha256.Sum256(d.buf)
	var carry uint64
	for i := range d.sum {
		d.sum[i], carry = bits.Add64(d.sum[i], binary.LittleEndian.Uint64(one[8*i:]), carry)
	}
	d.n++
	return binary.LittleEndian.Uint64(one[:])
}

// String returns the digest in hex.
func (d *digest) String() string {
	b := binary.LittleEndian.AppendUint64(nil, d.n)
	for _, word := range d.sum {
		b = binary.LittleEndian.AppendUint64(b, word)
	}
	all := sha256.Sum256(b)
	return hex.EncodeToString(all[:])
}

// appendHost writes everything of h but where it was read and when it was seen, so that no two hosts that differ
// give the same bytes: each text after its length, each list after its count. labels are the
// sorted keys of h.Labels.
func appendHost(b []byte, h *Host, labels []string) []byte {
	text := func(s string) {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	for _, s := range [...]string{
		h.Name, h.Serial, h.UUID, h.Address, h.Site, h.Country, h.Region,
		h.TimeZone, h.Opens, h.Technician, h.Group,
	} {
		text(s)
	}
	b = append(b, byte(h.Tier))
	b = binary.AppendUvarint(b, uint64(len(h.MAC)))
	for _, m := range h.MAC {
		text(m)
	}
	b = binary.AppendUvarint(b, uint64(len(h.Routes)))
	for _, r := range h.Routes {
		text(r.Driver)
		text(r.Address)
	}
	b = binary.AppendUvarint(b, uint64(len(labels)))
	for _, k := range labels {
		text(k)
		text(h.Labels[k])
	}
	if h.State != "" {
		text(string(h.State))
	}
	return b
}
