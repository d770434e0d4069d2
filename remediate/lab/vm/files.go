package vm

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"
)

// ChannelDir is where the files in question are, on the volume.
const ChannelDir = "Windows/System32/drivers/CrowdStrike"

// The two channel files 291 by name. Same sizes and headers: only the time of their last
// write tells them apart, as it was.
const (
	FaultyFile = ChannelDir + "/C-00000291-00000000-00000032.sys"
	GoodFile   = ChannelDir + "/C-00000291-00000000-00000033.sys"
)

// A file is one file of the volume before anything happened to it.
type file struct {
	path    string
	size    int
	header  []byte
	written time.Time // last write
}

// windowsFiles lists the files of a small system volume.
func windowsFiles(faulty, good bool) []file {
	installed := time.Date(2023, 11, 14, 9, 30, 0, 0, time.UTC)
	day := func(hour, min, sec int) time.Time {
		return time.Date(2024, 7, 19, hour, min, sec, 123456700, time.UTC)
	}
	channel := func(n byte) []byte { return []byte{0xAA, 0xAA, 0xAA, 0xAA, 0x01, 0x00, n, 0x01} }
	files := []file{
		{"Windows/System32/config/SYSTEM", 64 << 10, []byte("regf"), day(3, 58, 2)},
		{"Windows/System32/config/SOFTWARE", 96 << 10, []byte("regf"), day(3, 58, 3)},
		{"Windows/System32/ntoskrnl.exe", 128 << 10, []byte("MZ"), installed},
		{"Windows/System32/winload.efi", 48 << 10, []byte("MZ"), installed},
		{"Windows/System32/drivers/ntfs.sys", 32 << 10, []byte("MZ"), installed},
		{ChannelDir + "/csagent.sys", 80 << 10, []byte("MZ"), day(1, 2, 3)},
		{ChannelDir + "/C-00000285-00000000-00000031.sys", 20 << 10, channel(0x1D), day(4, 9, 31)}, // same minute, another channel
		{ChannelDir + "/C-00000290-00000000-00000007.sys", 700, channel(0x22), day(2, 11, 0)},      // resident in its MFT record
		{"Users/Public/Documents/letter.txt", 1200, []byte("To whom it may concern"), day(2, 0, 0)},
	}
	if faulty {
		files = append(files, file{FaultyFile, 40816, channel(0x23), day(4, 9, 17)})
	}
	if good {
		files = append(files, file{GoodFile, 40816, channel(0x23), day(5, 27, 41)})
	}
	return files
}

// writeTree writes the files under dir, with the same content every time.
func writeTree(dir string, files []file) error {
	for i, f := range files {
		name := filepath.Join(dir, filepath.FromSlash(f.path))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return fmt.Errorf("cannot write the tree of the volume: %w", err)
		}
		b := make([]byte, f.size)
		rng := rand.NewChaCha8([32]byte{byte(i)})
		_, _ = rng.Read(b) // never fails
		copy(b, f.header)
		if err := os.WriteFile(name, b, 0o644); err != nil {
			return fmt.Errorf("cannot write the tree of the volume: %w", err)
		}
		if err := os.Chtimes(name, f.written, f.written); err != nil {
			return fmt.Errorf("cannot write the tree of the volume: %w", err)
		}
	}
	return nil
}
