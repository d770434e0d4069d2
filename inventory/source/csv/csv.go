// Package csv reads the fleet from a CSV file: our own fleet.csv, or what ServiceNow, Intune,
// Active Directory, Falcon or ConfigMgr export.
//
// The first row names the columns, in any order and case. One column for each way in, named
// after its driver, holds its address; columns nobody knows become labels. A file that cannot
// be read as a whole is one error; a row that cannot be used is an *inventory.RowError for
// each of its values, and the reading goes on.
package csv

import (
	"context"
	stdcsv "encoding/csv"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"

	"unbrick/inventory"
	"unbrick/inventory/calendar"
)

// A Source is one CSV file. Its Hosts may be called any number of times.
type Source struct {
	Path string
	// Map names the file's header for a field, where it is not recognised: {"name": "Hostname"}.
	// A column that is mapped wins over every other for its field.
	Map map[string]string
}

var _ inventory.Source = Source{}

// ParseMap reads "field=Header" pairs, as --map takes them.
func ParseMap(pairs []string) (map[string]string, error) {
	m := map[string]string{}
	for _, p := range pairs {
		field, header, ok := strings.Cut(p, "=")
		field = key(field)
		if !ok || strings.TrimSpace(header) == "" {
			return nil, fmt.Errorf("cannot read %q: write field=Header, such as name=Hostname", p)
		}
		if _, known := fields[field]; !known {
			return nil, fmt.Errorf("no field %q; the fields are %s", field, strings.Join(Fields(), ", "))
		}
		if other, twice := m[field]; twice {
			return nil, fmt.Errorf("field %s is mapped twice: to %q and %q", field, other, header)
		}
		m[field] = header
	}
	return m, nil
}

// checkEvery is how many rows are read between two looks at the context.
const checkEvery = 1024

// Hosts yields a host for each good row. Memory does not grow with the file.
func (s Source) Hosts(ctx context.Context) iter.Seq2[inventory.Host, error] {
	return func(yield func(inventory.Host, error) bool) {
		if err := ctx.Err(); err != nil {
			yield(inventory.Host{}, err)
			return
		}
		f, err := os.Open(s.Path)
		if err != nil {
			yield(inventory.Host{}, fmt.Errorf("cannot read inventory: %w", err))
			return
		}
		defer f.Close()
		if err := s.read(ctx, f, yield); err != nil {
			yield(inventory.Host{}, fmt.Errorf("cannot read inventory %s: %w", s.Path, err))
		}
	}
}

// errStopped says that the consumer wants no more: nothing is yielded after it.
var errStopped = errors.New("stopped")

// read turns f into calls of yield. Its error is one of the whole file.
func (s Source) read(ctx context.Context, f *os.File, yield func(inventory.Host, error) bool) error {
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return errors.New("it is a directory; name the CSV file in it")
	}
	t, err := open(f)
	if err != nil {
		return err
	}
	r := &rows{
		place: s.Path, text: t, zones: calendar.New(), opens: map[string]bool{},
		yield: func(h inventory.Host, err error) error {
			if !yield(h, err) {
				return errStopped
			}
			return nil
		},
	}
	if err = r.header(s.Map); err == nil {
		err = r.all(ctx)
	}
	if errors.Is(err, errStopped) {
		return nil
	}
	return err
}

// rows turns the rows of one file into hosts. The fields from line on belong to the row that
// is being read.
type rows struct {
	place string
	text  *text
	cols  []column
	zones *calendar.Calendar
	opens map[string]bool // hours that are right
	yield func(inventory.Host, error) error

	line int
	bad  int   // values of this row that cannot be used
	err  error // of yield
	host inventory.Host
}

// header reads the first row. What it has to note comes before the first host.
func (r *rows) header(mapping map[string]string) error {
	names, err := r.text.Read()
	if errors.Is(err, io.EOF) {
		return errors.New("it is empty; its first row must name the columns, one of them \"name\"")
	}
	var parse *stdcsv.ParseError
	if errors.As(err, &parse) {
		return fmt.Errorf("line %d: the header is broken: %w", parse.StartLine+r.text.skipped, reason(err))
	}
	if err != nil {
		return err
	}
	r.line = r.text.line()
	cols, notes, err := resolve(names, mapping)
	if err != nil {
		return fmt.Errorf("line %d: %w", r.line, err)
	}
	r.cols = cols
	for _, n := range notes {
		n.Place, n.Line, n.Warning = r.place, r.line, true
		if err := r.yield(inventory.Host{}, n); err != nil {
			return err
		}
	}
	return nil
}

// all reads the rows after the header. A row that quotes tore apart costs that row, not the
// file; what the file itself does not give ends it.
func (r *rows) all(ctx context.Context) error {
	for n := 0; ; n++ {
		if n%checkEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		rec, err := r.text.Read()
		var parse *stdcsv.ParseError
		switch {
		case errors.Is(err, io.EOF):
			if n == 0 {
				return errors.New("it has a header and no hosts")
			}
			return nil
		case errors.As(err, &parse):
			r.line = parse.StartLine + r.text.skipped
			err = r.broken(parse)
		case err != nil:
			return fmt.Errorf("after line %d: %w", r.line, err)
		default:
			r.line = r.text.line()
			err = r.row(rec)
		}
		if err != nil {
			return err
		}
	}
}

// broken reports rows that quotes tore apart.
func (r *rows) broken(p *stdcsv.ParseError) error {
	e := &inventory.RowError{Place: r.place, Line: r.line, Reason: reason(p).Error(), Want: `a field in quotes, with quotes inside it doubled: "19"" rack"`}
	if p.Line != p.StartLine {
		e.Reason += fmt.Sprintf("; lines %d to %d were not read", r.line, p.Line+r.text.skipped)
	}
	return r.yield(inventory.Host{}, e)
}

// reason says in our words what encoding/csv found.
func reason(err error) error {
	switch {
	case errors.Is(err, stdcsv.ErrQuote):
		return errors.New("a quote is not closed, or something follows where it closes")
	case errors.Is(err, stdcsv.ErrBareQuote):
		return errors.New("a quote in a field that does not begin with one")
	}
	return err
}

// row turns one row into a host, or into an error for each of its values that is wrong: the
// person who corrects the file should see them all at once.
func (r *rows) row(rec []string) error {
	if blank(rec) {
		return nil
	}
	for len(rec) > len(r.cols) && strings.TrimSpace(rec[len(rec)-1]) == "" {
		rec = rec[:len(rec)-1] // spreadsheets add delimiters at the end
	}
	if len(rec) != len(r.cols) {
		return r.yield(inventory.Host{}, &inventory.RowError{
			Place: r.place, Line: r.line,
			Reason: fmt.Sprintf("%d fields", len(rec)),
			Want:   fmt.Sprintf("%d, as the header has; a %q inside a value needs quotes around it", len(r.cols), r.text.comma),
		})
	}
	r.bad, r.err = 0, nil
	r.host = inventory.Host{
		Tier: inventory.Normal,
		From: []inventory.Origin{{Source: "csv", Place: r.place, Line: r.line}},
	}
	for i, v := range rec {
		if v = strings.TrimSpace(v); v != "" || r.cols[i].field == "name" {
			r.set(&r.cols[i], v)
		}
	}
	r.checkAddress()
	if r.err != nil || r.bad > 0 {
		return r.err
	}
	return r.yield(r.host, nil)
}

// blank says that a row has no values: spreadsheets leave such rows at the end.
func blank(rec []string) bool {
	for _, v := range rec {
		if strings.TrimSpace(v) != "" {
			return false
		}
	}
	return true
}
