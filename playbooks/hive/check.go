package hive

import "fmt"

// none is the offset that leads nowhere.
const none = 0xffffffff

// Bins and cells.
const (
	binHeader  = 32
	cellHeader = 4
	nkName     = 76
	vkName     = 20
	inlineData = 1 << 31 // in the size of a value's data: it is in the place of its offset
	segment    = 16344   // data in one cell of big data
	maxDepth   = 512     // keys below each other; Windows has the same limit
)

// A set holds small numbers.
type set []uint64

func newSet(n int) set       { return make(set, n/64+1) }
func (s set) has(n int) bool { return s[n/64]&(1<<(n%64)) != 0 }
func (s set) add(n int)      { s[n/64] |= 1 << (n % 64) }

// checkBins walks all bins and cells and notes where the cells begin.
func (h *Hive) checkBins() error {
	h.cells = newSet(len(h.bins) / 8)
	for at := 0; at < len(h.bins); {
		bin := h.bins[at:]
		size := int64(get(bin, 8))
		switch {
		case string(bin[:4]) != "hbin":
			return h.damage(uint32(at), "no hive bin begins here")
		case int64(get(bin, 4)) != int64(at):
			return h.damage(uint32(at), "a hive bin says that it is at %#x", int64(get(bin, 4))+baseSize)
		case size < pageSize || size%pageSize != 0 || size > int64(len(bin)):
			return h.damage(uint32(at), "a hive bin has %d bytes", size)
		}
		end := at + int(size)
		for cell := at + binHeader; cell < end; {
			n := cellSize(h.bins, cell)
			if n < 8 || n%8 != 0 || n > int64(end-cell) {
				return h.damage(uint32(cell), "a cell has %d bytes", n)
			}
			h.cells.add(cell / 8)
			cell += int(n)
		}
		at = end
	}
	return nil
}

// cellSize is the size of a cell with its header; the sign says whether it is in use.
func cellSize(bins []byte, at int) int64 {
	n := int64(int32(get(bins, at)))
	return max(n, -n)
}

// cell returns the content of a cell in use, of at least n bytes.
func (h *Hive) cell(at uint32, n int) ([]byte, error) {
	if at%8 != 0 || int64(at) >= int64(len(h.bins)) || !h.cells.has(int(at/8)) {
		return nil, h.damage(at, "there is no cell")
	}
	if int32(get(h.bins, int(at))) > 0 {
		return nil, h.damage(at, "a free cell is in use")
	}
	c := h.bins[at+cellHeader : int64(at)+cellSize(h.bins, int(at))]
	if len(c) < n {
		return nil, h.damage(at, "a cell has %d bytes and needs %d", len(c), n)
	}
	return c, nil
}

// record returns a cell that begins with a signature of two letters.
func (h *Hive) record(at uint32, sign string, n int) ([]byte, error) {
	c, err := h.cell(at, n)
	if err == nil && string(c[:2]) != sign {
		err = h.damage(at, "a cell begins with %q, not %q", c[:2], sign)
	}
	return c, err
}

// checkTree visits everything below the root key. A key that is reached twice is damage, so
// the walk ends.
func (h *Hive) checkTree() error {
	type visit struct {
		at, parent uint32
		depth      int
	}
	seen := newSet(len(h.bins) / 8)
	once := func(at uint32) error {
		if seen.has(int(at / 8)) {
			return h.damage(at, "a cell is in use twice")
		}
		seen.add(int(at / 8))
		return nil
	}
	root := get(h.b, offRoot)
	for todo := []visit{{root, none, 0}}; len(todo) > 0; {
		v := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		k, err := h.key(v.at)
		if err != nil {
			return err
		}
		if err := once(v.at); err != nil {
			return fmt.Errorf("key %q: %w", k.name(), err)
		}
		if v.depth > maxDepth {
			return h.damage(v.at, "keys are nested deeper than %d", maxDepth)
		}
		if v.parent != none && k.parent() != v.parent {
			return h.damage(v.at, "the key %q does not belong to the key that lists it", k.name())
		}
		if err := h.checkKey(k, once); err != nil {
			return fmt.Errorf("key %q: %w", k.name(), err)
		}
		subs, err := h.subkeys(k)
		if err != nil {
			return fmt.Errorf("key %q: %w", k.name(), err)
		}
		for _, s := range subs {
			todo = append(todo, visit{s, v.at, v.depth + 1})
		}
	}
	return nil
}

// checkKey checks what a key has besides its subkeys. Once fails for a cell that it was asked
// about before: only security descriptors are shared.
func (h *Hive) checkKey(k key, once func(uint32) error) error {
	if sk := k.security(); sk != none {
		c, err := h.record(sk, "sk", 20)
		if err != nil {
			return err
		}
		if n := int64(get(c, 16)); n > int64(len(c)-20) {
			return h.damage(sk, "a security descriptor has %d bytes", n)
		}
	}
	values, err := h.values(k)
	if err != nil {
		return err
	}
	for _, at := range values {
		v, err := h.value(at)
		if err != nil {
			return err
		}
		cells, err := h.dataCells(v)
		for _, c := range append(cells, at) {
			if err == nil {
				err = once(c)
			}
		}
		if err != nil {
			return fmt.Errorf("value %q: %w", v.name(), err)
		}
	}
	return nil
}
