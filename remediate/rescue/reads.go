package rescue

import (
	"fmt"
	"math/bits"
	"sync"
	"time"

	"unbrick/remediate"
)

// readBlock is what reads are counted in: a sector of a CD.
const readBlock = 2048

// A Fetch says how much of its image a host, or rather its BMC, has read from this process.
// The zero Fetch is nothing at all.
type Fetch struct {
	First, Last time.Time
	From        string // address of the last reader
	Bytes, Size int64  // distinct bytes, to a block of 2 KiB; and of the whole image
	File        string // for network boot: what was read last
}

// String says it to a person.
func (f Fetch) String() string {
	switch {
	case f.First.IsZero():
		return "its image was never fetched"
	case f.File != "":
		s := fmt.Sprintf("%s was the last of its image that was fetched (by %s at %s)", f.File, f.From, f.Last.UTC().Format(time.TimeOnly))
		if f.File == netbootPrefix+"grubx64.efi" {
			s += "; GRUB goes on at the next server of whoever gave it its address: lend addresses (netboot.lend), or have the site's DHCP server name this machine as next server"
		}
		return s
	case f.Bytes >= f.Size:
		return fmt.Sprintf("its image was fetched whole (last by %s at %s)", f.From, f.Last.UTC().Format(time.TimeOnly))
	}
	return fmt.Sprintf("%d of the %d bytes of its image were fetched (last by %s at %s)", f.Bytes, f.Size, f.From, f.Last.UTC().Format(time.TimeOnly))
}

// Fetched says how much of the target's image was read, from this process, since Image or
// Repair was called for it here and until Repair returned.
func (s *Server) Fetched(t remediate.Target) Fetch {
	return s.knownReads(hashToken(s.token(t))).fetch()
}

// readsOf returns the reads of a target's image and begins to count them.
func (s *Server) readsOf(hash string) *reads {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reads[hash] == nil {
		s.reads[hash] = &reads{size: s.cfg.Base.Size}
	}
	return s.reads[hash]
}

// knownReads returns nil where nobody counts.
func (s *Server) knownReads(hash string) *reads {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reads[hash]
}

// reads count which blocks of an image were read. The nil *reads counts nothing.
type reads struct {
	mu     sync.Mutex
	size   int64
	blocks []uint64 // a bit per block, made at the first read
	first  time.Time
	last   time.Time
	from   string
	file   string
	all    bool
}

func (r *reads) mark(off int64, n int) {
	if r == nil || n <= 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.blocks == nil {
		r.blocks = make([]uint64, (r.size/readBlock)/64+1)
	}
	for b := off / readBlock; b <= (off+int64(n)-1)/readBlock; b++ {
		r.blocks[b/64] |= 1 << (b % 64)
	}
}

// note records who read, when, and says whether that was the first time and whether the
// image was completed by it.
func (r *reads) note(now time.Time, from string, size int64) (first, all bool) {
	if r == nil {
		return false, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.blocks == nil { // nothing but its size was asked for
		return false, false
	}
	if r.first.IsZero() {
		r.first, first = now, true
	}
	r.last, r.from = now, from
	if !r.all && r.count() >= size {
		r.all, all = true, true
	}
	return first, all
}

// noteFile records who read which file for network boot, when.
func (r *reads) noteFile(now time.Time, from, name string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.first.IsZero() {
		r.first = now
	}
	r.last, r.from, r.file = now, from, name
}

func (r *reads) count() (n int64) {
	for _, w := range r.blocks {
		n += int64(bits.OnesCount64(w)) * readBlock
	}
	return min(n, r.size)
}

func (r *reads) fetch() Fetch {
	if r == nil {
		return Fetch{}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return Fetch{First: r.first, Last: r.last, From: r.from, Bytes: r.count(), Size: r.size, File: r.file}
}
