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
		b, _ := br.Peek(br.Buffered())
		i := bytes.Index(b, magic)
		if i < 0 {
			br.Discard(max(0, len(b)-len(magic)+1)) // it may go on in what comes next
			more, err := br.Peek(br.Size())
			switch {
			case bytes.Contains(more, magic), err == nil:
				continue
			case err == io.EOF:
				return wire.Config{}, errors.New("there is no configuration in this image: it is not one of unbrick's, or not all of it is here")
			}
			return wire.Config{}, fmt.Errorf("cannot read the image: %w", err)
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
