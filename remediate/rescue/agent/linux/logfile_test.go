package linux_test

import (
	"bytes"
	"encoding/binary"
	"testing"
	"unicode/utf16"

	"unbrick/remediate/rescue/agent/linux"
)

// A restart is what a restart page says, as Windows writes it.
type restart struct {
	major, minor  uint16
	lsn           uint64
	client, flags uint16
	logSize       uint64
}

const noClient, volumeClean = 0xffff, 0x0002

// page returns a restart page of 4096 bytes with its fixups applied, laid out as Windows 10
// does: restart area at 48, one client called NTFS.
func (r restart) page() []byte {
	le := binary.LittleEndian
	b := make([]byte, 4096)
	copy(b, "RSTR")
	const fixups, area, client = 30, 48, 48 + 64
	le.PutUint16(b[4:], fixups)
	le.PutUint16(b[6:], 9)
	le.PutUint32(b[16:], 4096)
	le.PutUint32(b[20:], 4096)
	le.PutUint16(b[24:], area)
	le.PutUint16(b[26:], r.minor)
	le.PutUint16(b[28:], r.major)
	a := b[area:]
	le.PutUint64(a, r.lsn)
	le.PutUint16(a[8:], 1)
	le.PutUint16(a[10:], noClient)
	le.PutUint16(a[12:], r.client)
	le.PutUint16(a[14:], r.flags)
	bits := uint32(67)
	for s := r.logSize; s > 0; s >>= 1 {
		bits--
	}
	le.PutUint32(a[16:], bits)
	le.PutUint16(a[20:], 64+160)
	le.PutUint16(a[22:], 64)
	le.PutUint64(a[24:], r.logSize)
	le.PutUint16(a[36:], 48)
	le.PutUint16(a[38:], 64)
	le.PutUint32(a[40:], 1)
	c := b[client:]
	le.PutUint64(c, r.lsn)
	le.PutUint64(c[8:], r.lsn)
	le.PutUint16(c[16:], noClient)
	le.PutUint16(c[18:], noClient)
	le.PutUint32(c[28:], 8)
	for i, u := range utf16.Encode([]rune("NTFS")) {
		le.PutUint16(c[32+2*i:], u)
	}
	const usn = 0x0101
	le.PutUint16(b[fixups:], usn)
	for i := range 8 {
		end := b[(i+1)*512-2:]
		copy(b[fixups+2+2*i:], end[:2])
		le.PutUint16(end, usn)
	}
	return b
}

func TestParseLog(t *testing.T) {
	var (
		clean     = restart{major: 1, minor: 1, lsn: 100, client: noClient, flags: volumeClean}
		crashed   = restart{major: 2, minor: 0, lsn: 200}
		oldCrash  = restart{major: 1, minor: 1, lsn: 150}
		torn      = crashed.page()
		blank     = bytes.Repeat([]byte{0xff}, 4096)
		chkdsk    = append([]byte("CHKD"), clean.page()[4:]...)
		otherPart = bytes.Repeat([]byte{0}, 4096)
	)
	torn[1022]++
	for name, c := range map[string]struct {
		head []byte
		want string // as String gives it; empty means an error
	}{
		"clean":                      {bytes.Join([][]byte{clean.page(), clean.page()}, nil), "1.1 clean"},
		"crashed under Windows 10":   {bytes.Join([][]byte{crashed.page(), crashed.page()}, nil), "2.0 unclean"},
		"crashed under Windows 7":    {bytes.Join([][]byte{oldCrash.page(), oldCrash.page()}, nil), "1.1 unclean"},
		"the second page is newer":   {bytes.Join([][]byte{clean.page(), crashed.page()}, nil), "2.0 unclean"},
		"the first page is newer":    {bytes.Join([][]byte{crashed.page(), clean.page()}, nil), "2.0 unclean"},
		"the first page is torn":     {bytes.Join([][]byte{torn, oldCrash.page()}, nil), "1.1 unclean"},
		"the second page is missing": {oldCrash.page(), "1.1 unclean"},
		"clean by client alone":      {restart{major: 1, minor: 1, client: noClient}.page(), "1.1 clean"},
		"clean by flag alone":        {restart{major: 1, minor: 1, flags: volumeClean}.page(), "1.1 clean"},
		"never used":                 {bytes.Join([][]byte{blank, blank}, nil), "empty"},
		"both torn":                  {bytes.Join([][]byte{torn, torn}, nil), ""},
		"chkdsk was at work":         {chkdsk, ""},
		"zeros":                      {otherPart, ""},
		"short":                      {clean.page()[:4095], ""},
		"nothing":                    {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := linux.ParseLog(c.head)
			if c.want == "" {
				if err == nil {
					t.Fatalf("got %s, want an error", got)
				}
				return
			}
			if err != nil || got.String() != c.want {
				t.Fatalf("got %s, %v; want %s", got, err, c.want)
			}
		})
	}
}

// FuzzParseLog: a parser of what a broken disk holds never panics, and whatever it accepts is
// said by a page that is there.
func FuzzParseLog(f *testing.F) {
	f.Add(restart{major: 2, lsn: 7}.page())
	f.Add(append(restart{major: 1, minor: 1, flags: volumeClean}.page(), restart{major: 2, lsn: 7}.page()...))
	f.Add(bytes.Repeat([]byte{0xff}, 8192))
	f.Fuzz(func(t *testing.T, head []byte) {
		l, err := linux.ParseLog(head)
		if err == nil && !l.Empty && !bytes.Contains(head, []byte("RSTR")) {
			t.Errorf("%s out of nothing", l)
		}
	})
}

// FuzzReadLog: nor does the one that finds the journal on a volume.
func FuzzReadLog(f *testing.F) {
	f.Add(make([]byte, 512))
	b := make([]byte, 8192)
	copy(b[3:], "NTFS    ")
	b[12], b[13], b[48], b[64] = 2, 1, 1, 0xf6 // 512-byte sectors and clusters, MFT at cluster 1, records of 1 KiB
	copy(b[512+2048:], "FILE0\x00\x03\x00")
	f.Add(b)
	f.Fuzz(func(t *testing.T, volume []byte) {
		if l, err := linux.ReadLog(bytes.NewReader(volume)); err == nil && !l.Empty && !bytes.Contains(volume, []byte("RSTR")) {
			t.Errorf("%s out of nothing", l)
		}
	})
}
