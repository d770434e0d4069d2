package hive

import (
	"bytes"
	"fmt"
	"slices"
	"time"
)

// An Editor changes a copy of a hive. Its changes are seen in what Bytes returns alone.
type Editor struct {
	*Hive
	old []byte
	now time.Time
}

// Edit returns an Editor for a hive that is not dirty; now becomes its last-write time and
// that of the keys that change.
func (h *Hive) Edit(now time.Time) (*Editor, error) {
	if Dirty(h.b) {
		return nil, fmt.Errorf("the hive is dirty: its logs come first")
	}
	b := bytes.Clone(h.b)
	c := &Hive{b: b, bins: b[baseSize : baseSize+len(h.bins)], cells: slices.Clone(h.cells), minor: h.minor}
	return &Editor{Hive: c, old: h.b, now: now}, nil
}

// Bytes returns the primary file with the changes, clean, after the load test.
func (e *Editor) Bytes() ([]byte, error) {
	b := bytes.Clone(e.b)
	put(b, offPrimary, get(e.old, offPrimary)+2) // one for the entry in the log, one for this
	put(b, offSecondary, get(e.old, offPrimary)+2)
	putTime(b, offWritten, e.now)
	putTime(b, baseSize+20, e.now)
	seal(b)
	if _, err := Open(b); err != nil {
		return nil, fmt.Errorf("the change would damage the hive: %w", err)
	}
	return b, nil
}

// Set makes data the data of a value that is there. Data of up to 4 bytes takes the place of
// its offset, as Windows has it; longer data stays in its cell if there is room, or gets a
// free one. ErrFull means that there is none.
func (e *Editor) Set(path, name string, kind Type, data []byte) error {
	if len(data) > segment {
		return fmt.Errorf("data of %d bytes is more than one cell can hold", len(data))
	}
	k, err := e.find(path)
	if err != nil {
		return err
	}
	v, _, err := e.findValue(k, name)
	if err != nil {
		return err
	}
	cells, err := e.dataCells(v)
	if err != nil {
		return err
	}
	put(v.c, 12, uint32(kind))
	switch {
	case len(data) <= 4:
		e.free(cells...)
		clear(v.c[8:12])
		copy(v.c[8:12], data)
		put(v.c, 4, uint32(len(data))|inlineData)
	case len(cells) == 1 && e.room(cells[0]) >= len(data):
		e.fill(cells[0], data)
		put(v.c, 4, uint32(len(data)))
	default:
		at, err := e.alloc(len(data))
		if err != nil {
			return err
		}
		e.free(cells...)
		e.fill(at, data)
		put(v.c, 8, at)
		put(v.c, 4, uint32(len(data)))
	}
	put(k.c, 64, max(get(k.c, 64), uint32(len(data)))) // largest data
	putTime(k.c, 4, e.now)
	return nil
}

// Delete removes a value that is there.
func (e *Editor) Delete(path, name string) error {
	k, err := e.find(path)
	if err != nil {
		return err
	}
	v, place, err := e.findValue(k, name)
	if err != nil {
		return err
	}
	cells, err := e.dataCells(v)
	if err != nil {
		return err
	}
	n := get(k.c, 36)
	list := get(k.c, 40)
	c, err := e.cell(list, int(4*n))
	if err != nil {
		return err
	}
	copy(c[4*place:], c[4*place+4:4*n])
	put(c, int(4*n-4), 0)
	put(k.c, 36, n-1)
	e.free(append(cells, v.at)...)
	if n == 1 {
		e.free(list)
		put(k.c, 40, none)
	}
	putTime(k.c, 4, e.now)
	return nil
}

// DeleteKey removes a key that has no keys below it, with its values.
func (e *Editor) DeleteKey(path string) error {
	k, err := e.find(path)
	if err != nil {
		return err
	}
	if get(k.c, 20) != 0 || k.at == get(e.b, offRoot) {
		return fmt.Errorf("key %s has keys below it: it is not removed", path)
	}
	values, err := e.Values(path)
	if err != nil {
		return err
	}
	for _, v := range values {
		if err := e.Delete(path, v.Name); err != nil {
			return err
		}
	}
	parent, err := e.key(k.parent())
	if err != nil {
		return err
	}
	if err := e.unlist(parent, k.at); err != nil {
		return err
	}
	if err := e.unshare(k.security()); err != nil {
		return err
	}
	if class := get(k.c, 48); get16(k.c, 74) > 0 && class != none {
		if _, err := e.cell(class, 0); err != nil {
			return err
		}
		e.free(class)
	}
	e.free(k.at)
	putTime(parent.c, 4, e.now)
	return nil
}

// unlist takes a key out of its parent's list, and lists that are empty then with it.
func (e *Editor) unlist(parent key, child uint32) error {
	index, lists, err := e.leaves(parent)
	if err != nil {
		return err
	}
	count := get(parent.c, 20) - 1
	for i, l := range lists {
		for j := range l.len() {
			if l.get(j) != child {
				continue
			}
			l.drop(j)
			if l.len() == 0 {
				e.free(l.at)
				if index != nil {
					index.drop(i)
				}
			}
			if count == 0 {
				if index != nil {
					e.free(index.at)
				}
				put(parent.c, 28, none)
			}
			put(parent.c, 20, count)
			return nil
		}
	}
	return e.damage(child, "a key is not in the list of the key above it")
}

// drop takes one element out of a list.
func (l leaf) drop(i int) {
	end := 4 + l.len()*l.step
	copy(l.c[4+i*l.step:], l.c[4+(i+1)*l.step:end])
	clear(l.c[end-l.step : end])
	put16(l.c, 2, l.len()-1)
}

// unshare counts one user less of a security descriptor, and takes the last one's out of the
// ring that these cells form.
func (e *Editor) unshare(at uint32) error {
	if at == none {
		return nil
	}
	c, err := e.record(at, "sk", 20)
	if err != nil {
		return err
	}
	if users := get(c, 12); users > 1 {
		put(c, 12, users-1)
		return nil
	}
	next, err := e.record(get(c, 4), "sk", 20)
	if err != nil {
		return err
	}
	last, err := e.record(get(c, 8), "sk", 20)
	if err != nil {
		return err
	}
	put(last, 4, get(c, 4))
	put(next, 8, get(c, 8))
	e.free(at)
	return nil
}

// room is how many bytes a cell holds.
func (e *Editor) room(at uint32) int { return int(cellSize(e.bins, int(at))) - cellHeader }

// fill makes data the content of a cell that has room for it.
func (e *Editor) fill(at uint32, data []byte) {
	c := e.bins[at+cellHeader : int(at)+cellHeader+e.room(at)]
	clear(c[copy(c, data):])
}

// free gives cells back. What was in them stays until they are used again, as in Windows.
func (e *Editor) free(cells ...uint32) {
	for _, at := range cells {
		put(e.bins, int(at), uint32(cellSize(e.bins, int(at))))
	}
}

// alloc returns the first free cell with room for n bytes, and gives back what it does not
// need of it.
func (e *Editor) alloc(n int) (uint32, error) {
	need := (n + cellHeader + 7) / 8 * 8
	for bin := 0; bin < len(e.bins); {
		end := bin + int(get(e.bins, bin+8))
		for at := bin + binHeader; at < end; {
			size := int(cellSize(e.bins, at))
			if int32(get(e.bins, at)) < 0 || size < need {
				at += size
				continue
			}
			if rest := size - need; rest > 0 {
				put(e.bins, at+need, uint32(rest))
				e.cells.add((at + need) / 8)
				put(e.bins, at, uint32(need))
			}
			put(e.bins, at, uint32(-int32(get(e.bins, at))))
			return uint32(at), nil
		}
		bin = end
	}
	return 0, fmt.Errorf("%d bytes: %w", n, ErrFull)
}
