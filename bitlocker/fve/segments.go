package fve

import (
	"cmp"
	"errors"
	"slices"
)

// A Segment is a stretch of the decrypted volume.
type Segment struct {
	Offset, Length int64 // bytes, whole sectors
	Source         int64 // where it is on the disk; meaningless if Zero
	Zero           bool  // it reads as zeros, and what is written there is lost
}

// Segments returns what the decrypted volume is made of, in order and without gaps, from 0 to
// Size. Its beginning is kept elsewhere, since BitLocker's own header lies there; that place
// and the metadata blocks read as zeros.
func (v *Volume) Segments() []Segment {
	var zeros []Segment
	for _, at := range v.meta {
		zeros = append(zeros, Segment{Offset: at, Length: blockSize, Zero: true})
	}
	zeros = append(zeros, Segment{Offset: v.header, Length: v.headerSize, Zero: true})
	slices.SortFunc(zeros, func(a, b Segment) int { return cmp.Compare(a.Offset, b.Offset) })

	all := []Segment{{Offset: 0, Length: v.headerSize, Source: v.header}}
	end := v.headerSize
	for _, z := range zeros {
		if z.Offset > end {
			all = append(all, Segment{Offset: end, Length: z.Offset - end, Source: end})
		}
		all = append(all, z)
		end = z.Offset + z.Length
	}
	if end < v.Size {
		all = append(all, Segment{Offset: end, Length: v.Size - end, Source: end})
	}
	return all
}

// checkLayout returns an error unless the parts of the volume are whole sectors inside it and
// apart from each other: on that rests what Segments promises.
func (v *Volume) checkLayout() error {
	sector := int64(v.SectorSize)
	if v.Size <= 0 || v.Size > maxSize || v.Size%sector != 0 {
		return errors.New("the size of the volume in it is impossible")
	}
	if v.headerSize <= 0 || v.headerSize > maxHeader || v.headerSize%sector != 0 {
		return errors.New("the size of the volume's header in it is impossible")
	}
	parts := []Segment{{Offset: 0, Length: v.headerSize}, {Offset: v.header, Length: v.headerSize}}
	for _, at := range v.meta {
		parts = append(parts, Segment{Offset: at, Length: blockSize})
	}
	slices.SortFunc(parts, func(a, b Segment) int { return cmp.Compare(a.Offset, b.Offset) })
	end := int64(0)
	for _, p := range parts {
		if p.Offset < end || p.Offset%sector != 0 || p.Offset > v.Size-p.Length {
			return errors.New("the places of the volume's parts in it are impossible")
		}
		end = p.Offset + p.Length
	}
	return nil
}
