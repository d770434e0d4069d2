package fvetest

import (
	"errors"
	"fmt"
	"io"

	"www.velocidex.com/golang/go-ntfs/parser"
)

// freePlaces returns places for the three metadata blocks, the first with room for the header
// behind it, where the NTFS volume has nothing.
func freePlaces(f io.ReaderAt, size int64) (places [3]int64, err error) {
	boot := make([]byte, 512)
	if _, err := f.ReadAt(boot, 0); err != nil {
		return places, err
	}
	if n := int64(le.Uint16(boot[11:])) * int64(le.Uint64(boot[40:])); n > 0 && n < size {
		size = n // the file system ends before its partition
	}
	bitmap, cluster, err := readBitmap(f, size)
	if err != nil {
		return places, fmt.Errorf("cannot find room on the NTFS volume: %w", err)
	}
	const align = 64 << 10 // suits all clusters and sectors
	free := func(at, length int64) bool {
		for c := at / cluster; c*cluster < at+length; c++ {
			if c/8 >= int64(len(bitmap)) || bitmap[c/8]&(1<<(c%8)) != 0 {
				return false
			}
		}
		return at+length < size-align // the end is that of the volume's own
	}
	for i, percent := range []int64{60, 75, 90} {
		at := size / 100 * percent / align * align
		if i > 0 {
			at = max(at, places[i-1]+2*align)
		}
		for !free(at, blockSize+headerSize) {
			if at += align; at >= size {
				return places, errors.New("cannot find room on the NTFS volume: it is too full")
			}
		}
		places[i] = at
	}
	return places, nil
}

// readBitmap returns a bit for every cluster that is in use, and the size of a cluster.
func readBitmap(f io.ReaderAt, size int64) (bitmap []byte, cluster int64, err error) {
	pages, err := parser.NewPagedReader(io.NewSectionReader(f, 0, size), 4096, 4096)
	if err != nil {
		return nil, 0, err
	}
	ntfs, err := parser.GetNTFSContext(pages, 0)
	if err != nil {
		return nil, 0, err
	}
	defer ntfs.Close()
	const record, data = 6, 128 // $Bitmap, and its content
	entry, err := ntfs.GetMFT(record)
	if err != nil {
		return nil, 0, err
	}
	r, err := parser.OpenStream(ntfs, entry, data, parser.WILDCARD_STREAM_ID, parser.WILDCARD_STREAM_NAME)
	if err != nil {
		return nil, 0, err
	}
	cluster = ntfs.ClusterSize
	bitmap = make([]byte, size/cluster/8+1)
	n, err := r.ReadAt(bitmap, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, 0, err
	}
	return bitmap[:n], cluster, nil
}
