package agent

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"unbrick/remediate/rescue/wire"
)

// ConfigFromImage reads an image until it finds the configuration of a host: the place of
// wire.ConfigSize bytes that begins with wire.Magic, is JSON and ends in spaces. A base image
// is wire.ErrPlaceholder. The rest of r is not read.
func ConfigFromImage(r io.Reader) (wire.Config, error) {
	br := bufio.NewReaderSize(r, 4*wire.ConfigSize)
	magic := []byte(wire.Magic)
	for {
		b, err := br.Peek(br.Size())
		i := bytes.Index(b, magic)
		switch {
		case i < 0 && err == io.EOF:
			return wire.Config{}, errors.New("there is no configuration in this image: it is not one of unbrick's, or not all of it is here")
		case i < 0 && err != nil:
			return wire.Config{}, fmt.Errorf("cannot read the image: %w", err)
		case i < 0:
			br.Discard(len(b) - len(magic) + 1)
			continue
		}
		br.Discard(i)
		place, err := br.Peek(wire.ConfigSize)
		if err != nil && err != io.EOF {
			return wire.Config{}, fmt.Errorf("cannot read the image: %w", err)
		}
		if len(place) == wire.ConfigSize && json.Valid(place) {
			return wire.ParseConfig(place)
		}
		br.Discard(1) // the words alone, as in a program that knows them
	}
}
