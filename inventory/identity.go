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

// identities finds hosts that two rows of a source claim. It keeps 64-bit hashes, not the values:
// at eight million hosts the chance that it names an innocent pair is one in half a million,
// and then a person looks at two lines that differ.
type identities struct {
	seed  maphash.Seed
	names map[uint64]named
	ids   map[uint64]seen // serial numbers, UUIDs, ways in and MAC addresses
	macs  bool            // MAC addresses too
	gone  map[uint32]bool // rows that are put aside, and claim nothing any more
	buf   []byte
}

// seen is the row in which a value stood first.
type seen struct {
	nth, line uint32
	system    uint32 // of a controller's address: hash of which of its hosts, 0 is not said
	out       bool   // the host is not in use
}

// named is the row in which a name stood first, or of several the one that is in use.
type named struct {
	seen
	at  uint32 // when the source last heard of the host, in seconds since 1970
	row uint64 // start of the row's digest
}

// A claim is a name that an earlier row has too.
type claim struct {
	nth, line    int  // of the earlier row
	same         bool // the two rows say the same
	newer, older bool // this row is the one to go by, or the other is
	state        bool // since one of them alone is in use; if not, since the source heard of it later
}

// A share is a value that an earlier row under another name has too.
type share struct {
	column, value string
	key           uint64
	first         seen
}

// newIdentities returns an empty set.
func newIdentities(seed maphash.Seed, macs bool) identities {
	return identities{seed: seed, macs: macs, names: map[uint64]named{}, ids: map[uint64]seen{}, gone: map[uint32]bool{}}
}

// isOut says that a host is not in use for sure: who has seen it may prove that it was online.
func isOut(h *Host) bool { return h.State == Retired || h.State == InStock }

// name records the nth host and returns what earlier host of its name there is.
func (s *identities) name(h *Host, nth, line int, row uint64) (claim, bool) {
	me := named{seen: seen{nth: uint32(nth), line: uint32(line), out: isOut(h)}, row: row}
	if at := h.Seen(); !at.IsZero() {
		me.at = uint32(at.Unix())
	}
	key := s.hash("name", h.Name)
	was, ok := s.names[key]
	if !ok || s.gone[was.nth] {
		s.names[key] = me
		return claim{}, false
	}
	c := claim{nth: int(was.nth), line: int(was.line), newer: me.at > was.at, older: me.at < was.at}
	if me.out != was.out {
		c.newer, c.older, c.state = was.out, me.out, true
	}
	c.same = was.row == row && !c.newer
	if c.newer {
		s.names[key] = me
	}
	return c, true
}

// values records what the nth host is known and reached by, and calls shared for what earlier hosts
// have as well.
func (s *identities) values(h *Host, nth, line int, shared func(share)) {
	me := seen{nth: uint32(nth), line: uint32(line), out: isOut(h)}
	s.each(h, func(v value) {
		me.system = v.system
		was, ok := s.ids[v.key]
		switch {
		case !ok:
			s.ids[v.key] = me
		case was.nth == me.nth:
			if v.system == 0 && was.system != 0 { // all of a controller, after one host of it
				s.ids[v.key] = me
			}
		case was.system == 0 || v.system == 0:
			shared(share{v.column, v.text, v.key, was})
		}
	})
}

// A value is one by which a host is known or reached.
type value struct {
	column, text string
	route, mac   int // which it is, from 1 on
	key          uint64
	system       uint32
}

// each calls f with the values of a host that no other has. What switches several hosts has one
// for all of it, and one for the host's own part.
func (s *identities) each(h *Host, f func(value)) {
	if h.Serial != "" {
		f(value{column: "serial", text: h.Serial, key: s.hash("serial", h.Serial)})
	}
	if h.UUID != "" {
		f(value{column: "uuid", text: h.UUID, key: s.hash("uuid", h.UUID)})
	}
	for i, r := range h.Routes {
		v := value{column: r.Driver, text: r.Address, route: i + 1}
		c, ok := controls(r)
		switch {
		case ok && c.system != "":
			own := v
			own.key = s.hash("bmc", c.host+" "+c.port+" "+c.system)
			f(own)
			v.system = uint32(own.key) | 1
			fallthrough
		case ok:
			v.key = s.hash("bmc", c.host+" "+c.port)
			f(v)
		case ofOneHost(r):
			v.key = s.hash(r.Driver, bareAddress(r.Address))
			f(v)
		}
	}
	if s.macs {
		for i, m := range h.MAC {
			f(value{column: "mac", text: m, mac: i + 1, key: s.hash("mac", m)})
		}
	}
}

// ofOneHost says that a way in is one host's alone: a technician stands for many, and some
// addresses are words for another way of the host.
func ofOneHost(r Route) bool {
	return r.Driver != "manual" && r.Address != "auto" && r.Address != "yes"
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
