package fve_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"unbrick/bitlocker"
	"unbrick/bitlocker/fve"
	"unbrick/bitlocker/fve/fvetest"
)

// FuzzParse changes the metadata in up to eight places and corrects the checksum, as somebody
// would who wants to be read. Law: nothing panics; what is read covers the volume from 0 to
// its size without gaps, in whole sectors that come from the disk; and a changed volume does
// not open, even with its key.
func FuzzParse(f *testing.F) {
	whole, master := volume(f, fvetest.Options{Description: "PC1", Protectors: append(protectors(7)[:1], fvetest.Protector{Kind: fve.ClearKey, ID: bitlocker.KeyID{3}})})
	f.Add([]byte{})
	f.Add([]byte{0, 8, 0xff, 0, 9, 0xff})         // size of the block
	f.Add([]byte{0, 16, 1, 0, 23, 0xff})          // size of the volume
	f.Add([]byte{0, 28, 0xff, 0, 31, 0xff})       // size of the header
	f.Add([]byte{0, 56, 0, 0, 57, 2})             // place of the header
	f.Add([]byte{0, 64, 0xff, 0, 72, 0xff})       // size of the metadata
	f.Add([]byte{0, 112, 1})                      // size of the first entry
	f.Add([]byte{0, 112, 0, 0, 113, 0})           // end of the list
	f.Add([]byte{0, 100, 0})                      // method
	f.Add([]byte{1, 0, 0xff, 1, 20, 9, 1, 80, 1}) // somewhere in a protector
	f.Fuzz(func(t *testing.T, changes []byte) {
		d := slices.Clone(whole)
		for ; len(changes) >= 3 && len(changes) <= 24; changes = changes[3:] {
			patch(d, 0, int(changes[0])<<8|int(changes[1]), changes[2])
		}
		for _, at := range blocks[1:] {
			d[at]++
		}
		v, err := fve.Parse(d)
		if err != nil {
			return
		}
		end := int64(0)
		for _, s := range v.Segments() {
			if s.Offset != end || s.Length <= 0 || s.Length%int64(v.SectorSize) != 0 || s.Source < 0 || s.Source+s.Length > v.Size {
				t.Fatalf("segment %+v after %d", s, end)
			}
			end += s.Length
		}
		if end != v.Size {
			t.Fatalf("the segments end at %d of %d", end, v.Size)
		}
		size := int64(binary.LittleEndian.Uint16(d[blocks[0]+8:])) * 16
		same := bytes.Equal(d[blocks[0]:][:size], whole[blocks[0]:][:size])
		_, byMaster := v.UnlockMaster(master)
		_, byClear := v.UnlockSuspended()
		if !same && (byMaster == nil || byClear == nil) {
			t.Error("a changed volume opens")
		}
	})
}

// FuzzParseAny: law: whatever bytes these are, Parse returns.
func FuzzParseAny(f *testing.F) {
	whole, _ := volume(f, fvetest.Options{Blocks: [3]int64{8192, 96 << 10, 176 << 10}})
	f.Add([]byte(whole[:256<<10]))
	f.Add([]byte(whole[:20<<10]))
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, err := fve.Parse(disk(b)); err == nil {
			v.Segments()
		}
	})
}
