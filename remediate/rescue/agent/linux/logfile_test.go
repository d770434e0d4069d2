package linux_test

import (
	"bytes"
	"testing"

	"unbrick/remediate/rescue/agent/linux"
	"unbrick/remediate/rescue/agent/linux/ntfstest"
)

func TestParseLog(t *testing.T) {
	var (
		clean     = ntfstest.Restart{Major: 1, Minor: 1, LSN: 100, Client: ntfstest.NoClient, Flags: ntfstest.VolumeClean}
		crashed   = ntfstest.Restart{Major: 2, Minor: 0, LSN: 200}
		oldCrash  = ntfstest.Restart{Major: 1, Minor: 1, LSN: 150}
		torn      = crashed.Page()
		blank     = bytes.Repeat([]byte{0xff}, 4096)
		chkdsk    = append([]byte("CHKD"), clean.Page()[4:]...)
		otherPart = bytes.Repeat([]byte{0}, 4096)
	)
	torn[1022]++
	for name, c := range map[string]struct {
		head []byte
		want string // as String gives it; empty means an error
	}{
		"clean":                      {bytes.Join([][]byte{clean.Page(), clean.Page()}, nil), "1.1 clean"},
		"crashed under Windows 10":   {bytes.Join([][]byte{crashed.Page(), crashed.Page()}, nil), "2.0 unclean"},
		"crashed under Windows 7":    {bytes.Join([][]byte{oldCrash.Page(), oldCrash.Page()}, nil), "1.1 unclean"},
		"the second page is newer":   {bytes.Join([][]byte{clean.Page(), crashed.Page()}, nil), "2.0 unclean"},
		"the first page is newer":    {bytes.Join([][]byte{crashed.Page(), clean.Page()}, nil), "2.0 unclean"},
		"the first page is torn":     {bytes.Join([][]byte{torn, oldCrash.Page()}, nil), "1.1 unclean"},
		"the second page is missing": {oldCrash.Page(), "1.1 unclean"},
		"clean by client alone":      {ntfstest.Restart{Major: 1, Minor: 1, Client: ntfstest.NoClient}.Page(), "1.1 clean"},
		"clean by flag alone":        {ntfstest.Restart{Major: 1, Minor: 1, Flags: ntfstest.VolumeClean}.Page(), "1.1 clean"},
		"never used":                 {bytes.Join([][]byte{blank, blank}, nil), "empty"},
		"both torn":                  {bytes.Join([][]byte{torn, torn}, nil), ""},
		"chkdsk was at work":         {chkdsk, ""},
		"zeros":                      {otherPart, ""},
		"short":                      {clean.Page()[:4095], ""},
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
	f.Add(ntfstest.Restart{Major: 2, LSN: 7}.Page())
	f.Add(append(ntfstest.Restart{Major: 1, Minor: 1, Flags: ntfstest.VolumeClean}.Page(), ntfstest.Restart{Major: 2, LSN: 7}.Page()...))
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
