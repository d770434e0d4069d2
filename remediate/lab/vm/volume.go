package vm

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"www.velocidex.com/golang/go-ntfs/parser"
)

// A File is one file as it stands on a volume.
type File struct {
	Size    int64
	ModTime time.Time // last write
	SHA256  string    // of the content, lower-case hex
}

// ReadVolume reads all files of the NTFS volume on a disk image, by path, and their further
// streams, by path:stream. No host may run from the disk. It reads by a library that has
// nothing in common with what wrote: neither ntfs-3g nor wimlib. A BitLocker volume it opens
// with the key beside the disk.
func ReadVolume(disk string) (map[string]File, error) {
	f, err := os.Open(disk)
	if err != nil {
		return nil, fmt.Errorf("cannot read the disk: %w", err)
	}
	defer f.Close()
	start, size, locked, err := findNTFS(f)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", disk, err)
	}
	var volume io.ReaderAt = io.NewSectionReader(f, start, size)
	if locked {
		if volume, err = unlock(volume, disk); err != nil {
			return nil, fmt.Errorf("cannot read %s: %w", disk, err)
		}
	}
	pages, err := parser.NewPagedReader(volume, 4096, 4096)
	if err != nil {
		return nil, err
	}
	ntfs, err := parser.GetNTFSContext(pages, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot read the NTFS volume: %w", err)
	}
	defer ntfs.Close()
	files := map[string]File{}
	const root = 5 // the MFT record of the root directory
	if err := walk(ntfs, root, "", files); err != nil {
		return nil, fmt.Errorf("cannot read the NTFS volume: %w", err)
	}
	return files, nil
}

// walk adds the files under one directory.
func walk(ntfs *parser.NTFSContext, record int64, dir string, files map[string]File) error {
	entry, err := ntfs.GetMFT(record)
	if err != nil {
		return err
	}
	for _, info := range parser.ListDir(ntfs, entry) {
		if info.Name == "" || info.Name == "." || dir == "" && strings.HasPrefix(info.Name, "$") {
			continue // the file system's own
		}
		name := path.Join(dir, info.Name)
		if info.IsDir {
			below, _, _, _, err := parser.ParseMFTId(info.MFTId)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if err := walk(ntfs, below, name, files); err != nil {
				return err
			}
			continue
		}
		sum, err := hash(ntfs, info)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		files[name] = File{info.Size, info.Mtime.UTC(), sum}
	}
	return nil
}

// hash reads one stream to its end.
func hash(ntfs *parser.NTFSContext, info *parser.FileInfo) (string, error) {
	record, kind, id, stream, err := parser.ParseMFTId(info.MFTId)
	if err != nil {
		return "", err
	}
	entry, err := ntfs.GetMFT(record)
	if err != nil {
		return "", err
	}
	r, err := parser.OpenStream(ntfs, entry, uint64(kind), uint16(id), stream)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	n, err := io.Copy(h, io.NewSectionReader(r, 0, info.Size))
	if err == nil && n != info.Size {
		err = io.ErrUnexpectedEOF
	}
	return hex.EncodeToString(h.Sum(nil)), err
}

// findNTFS returns where the NTFS volume is, in bytes, by the GPT of the disk, and whether it
// is a BitLocker volume.
func findNTFS(disk io.ReaderAt) (start, size int64, locked bool, err error) {
	header := make([]byte, 92)
	if _, err := disk.ReadAt(header, sector); err != nil {
		return 0, 0, false, err
	}
	if string(header[:8]) != "EFI PART" {
		return 0, 0, false, errors.New("the disk has no GPT")
	}
	le := binary.LittleEndian
	table, count, width := int64(le.Uint64(header[72:])), int64(le.Uint32(header[80:])), int64(le.Uint32(header[84:]))
	for i := range count {
		e := make([]byte, 48)
		if _, err := disk.ReadAt(e, table*sector+i*width); err != nil {
			return 0, 0, false, err
		}
		first, last := int64(le.Uint64(e[32:])), int64(le.Uint64(e[40:]))
		boot := make([]byte, 11)
		if _, err := disk.ReadAt(boot, first*sector); err != nil {
			continue
		}
		if kind := string(boot[3:]); kind == "NTFS    " || kind == "-FVE-FS-" {
			return first * sector, (last - first + 1) * sector, kind == "-FVE-FS-", nil
		}
	}
	return 0, 0, false, errors.New("the disk has no NTFS volume")
}
