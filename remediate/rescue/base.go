package rescue

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"unbrick/remediate/rescue/wire"
)

// StubName begins the image of StubImage.
const StubName = "unbrick stub image: it boots nothing; simulated hosts find their configuration in it\n"

// StubImage returns a base image of 320 KiB for the lab and for trials: no host can boot it,
// simulated ones read their configuration in it (agent.ConfigFromImage).
func StubImage() Base {
	const offset = 128 << 10
	img := bytes.Repeat([]byte(StubName), 320<<10/len(StubName)+1)[:320<<10]
	copy(img[offset:], bytes.Repeat([]byte{' '}, wire.ConfigSize))
	copy(img[offset:], wire.Placeholder)
	return Base{ReaderAt: bytes.NewReader(img), Size: int64(len(img)), ConfigOffset: offset}
}

// OpenBase opens an image that unbrick image build made, and finds the place for the
// configuration in it.
func OpenBase(name string) (Base, io.Closer, error) {
	f, err := os.Open(name)
	if err != nil {
		return Base{}, nil, fmt.Errorf("cannot open the rescue image: %w; build it with unbrick image build", err)
	}
	info, err := f.Stat()
	if err == nil {
		b := Base{ReaderAt: f, Size: info.Size()}
		if b.ConfigOffset, err = findPlaceholder(f, b.Size); err == nil {
			return b, f, b.check()
		}
	}
	f.Close()
	return Base{}, nil, fmt.Errorf("cannot use %s as a rescue image: %w", name, err)
}

// findPlaceholder returns the offset of the only place in the image that has the placeholder
// followed by spaces to wire.ConfigSize.
func findPlaceholder(r io.ReaderAt, size int64) (int64, error) {
	found := int64(-1)
	buf := make([]byte, 1<<20)
	window := make([]byte, wire.ConfigSize)
	keep := int64(len(wire.Placeholder) - 1)
	for off := int64(0); off < size; off += int64(len(buf)) - keep {
		n, err := r.ReadAt(buf, off)
		if err != nil && err != io.EOF {
			return 0, err
		}
		for at, i := 0, 0; ; at += i + 1 {
			if i = bytes.Index(buf[at:n], []byte(wire.Placeholder)); i < 0 {
				break
			}
			here := off + int64(at+i)
			if m, _ := r.ReadAt(window, here); m < len(window) || len(bytes.TrimRight(window, " ")) != len(wire.Placeholder) {
				continue // the words, as in a program that knows them, and not the place
			}
			if found >= 0 && found != here {
				return 0, errors.New("it has room for more than one configuration")
			}
			found = here
		}
	}
	if found < 0 {
		return 0, errors.New("it has no room for the configuration of a host; build it with unbrick image build")
	}
	return found, nil
}
