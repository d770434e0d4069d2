package saved

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"runtime"

	"github.com/klauspost/compress/zstd"

	"unbrick/inventory"
)

// A row is one line: a host, or what was wrong with one.
type row struct {
	Host *inventory.Host     `json:"host,omitempty"`
	Note *inventory.RowError `json:"note,omitempty"`
}

// encoder writes rows as one frame, and sums up what it writes.
type encoder struct {
	out  io.Writer
	zstd *zstd.Encoder
	json *json.Encoder
	sum  hash.Hash
	n    int64
}

func newEncoder(out io.Writer) (*encoder, error) {
	e := &encoder{out: out, sum: sha256.New()}
	var err error
	if e.zstd, err = zstd.NewWriter(e, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1)); err != nil {
		return nil, err
	}
	e.json = json.NewEncoder(e.zstd)
	e.json.SetEscapeHTML(false)
	return e, nil
}

// Write takes what comes out of the frame.
func (e *encoder) Write(b []byte) (int, error) {
	n, err := e.out.Write(b)
	e.sum.Write(b[:n])
	e.n += int64(n)
	return n, err
}

// record writes all that src yields. Its error is that of the source, or of writing.
func (e *encoder) record(ctx context.Context, src inventory.Source, s *Section, count func(hosts int)) error {
	for h, err := range src.Hosts(ctx) {
		var note *inventory.RowError
		var partial *inventory.PartialError
		switch {
		case errors.As(err, &note):
			s.Notes++
			err = e.json.Encode(row{Note: note})
		case errors.As(err, &partial):
			if err := e.finish(s); err != nil {
				return err
			}
			return err
		case err != nil:
			return err
		default:
			err = e.json.Encode(row{Host: &h})
			if s.Hosts++; s.Hosts%1024 == 0 {
				count(s.Hosts)
			}
		}
		if err != nil {
			return fmt.Errorf("cannot save hosts: %w", err)
		}
	}
	count(s.Hosts)
	return e.finish(s)
}

// finish ends the frame.
func (e *encoder) finish(s *Section) error {
	if err := e.zstd.Close(); err != nil {
		return fmt.Errorf("cannot save hosts: %w", err)
	}
	s.Bytes, s.SHA256 = e.n, hex.EncodeToString(e.sum.Sum(nil))
	return nil
}

// A recorded source yields the rows of a section.
type recorded struct {
	section Section
	in      *io.SectionReader
}

var _ inventory.Source = recorded{}

// Hosts implements inventory.Source. Lines are decoded by as many goroutines as there are
// processors, since that takes longest; all have ended when the sequence has.
func (r recorded) Hosts(ctx context.Context) iter.Seq2[inventory.Host, error] {
	return func(yield func(inventory.Host, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		batches := make(chan chan batch, runtime.GOMAXPROCS(0))
		done := make(chan error, 1)
		go func() { done <- r.split(ctx, batches) }()
		defer func() {
			cancel()
			for next := range batches { // until split has seen that it is over
				<-next
			}
		}()
		hosts := 0
		for next := range batches {
			b := <-next
			if b.err != nil {
				yield(inventory.Host{}, r.fail(b.err))
				return
			}
			for i := range b.rows {
				if n := b.rows[i].Note; n != nil {
					if !yield(inventory.Host{}, n) {
						return
					}
					continue
				}
				hosts++
				if !yield(*b.rows[i].Host, nil) {
					return
				}
			}
		}
		err := <-done
		if err == nil && hosts != r.section.Hosts {
			err = errNone
		}
		if err != nil {
			yield(inventory.Host{}, r.fail(err))
		}
	}
}

// fail says which part of the file cannot be read.
func (r recorded) fail(err error) error {
	return fmt.Errorf("cannot read the hosts of %s from the saved fleet: %w", r.section.Name, err)
}

// A batch is some lines, decoded.
type batch struct {
	rows []row
	err  error
}

// batchBytes is about how much is decoded at once.
const batchBytes = 256 << 10

// split hands out the lines in batches, in their order, and closes batches at the end.
func (r recorded) split(ctx context.Context, batches chan<- chan batch) error {
	defer close(batches)
	sum := sha256.New()
	in, err := zstd.NewReader(io.TeeReader(io.NewSectionReader(r.in, 0, r.in.Size()), sum), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(1<<30))
	if err != nil {
		return err
	}
	defer in.Close()
	var rest []byte // of a line that has not ended
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		text := make([]byte, max(batchBytes, 2*len(rest)))
		n, err := io.ReadFull(in, text[copy(text, rest):])
		n += len(rest)
		ended := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !ended {
			return errNone
		}
		text = text[:n]
		cut := bytes.LastIndexByte(text, '\n') + 1
		if ended && cut < len(text) {
			return errNone // a line without its end
		}
		if !ended && cut == 0 { // a long one
			rest = text
			continue
		}
		rest = bytes.Clone(text[cut:])
		next := make(chan batch, 1)
		select {
		case batches <- next:
		case <-ctx.Done():
			return ctx.Err()
		}
		go func() { next <- decode(text[:cut]) }()
		if ended {
			break
		}
	}
	if hex.EncodeToString(sum.Sum(nil)) != r.section.SHA256 {
		return errors.New("it was changed; unbrick inventory import makes it anew")
	}
	return nil
}

// decode reads lines.
func decode(text []byte) (b batch) {
	b.rows = make([]row, 0, bytes.Count(text, []byte{'\n'}))
	for line := range bytes.Lines(text) {
		var one row
		if err := json.Unmarshal(line, &one); err != nil || (one.Host == nil) == (one.Note == nil) {
			return batch{err: errNone}
		}
		b.rows = append(b.rows, one)
	}
	return b
}
