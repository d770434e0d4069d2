package calendar

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	ics "github.com/arran4/golang-ical"
	"github.com/teambition/rrule-go"

	"unbrick/inventory"
)

// ReadDays reads days from a CSV file with a header: date (2026-12-24), and, all optional,
// country, site, open (yes: open although the rule says closed) and name. Every bad value is
// an *inventory.RowError; they are joined.
func ReadDays(place string, r io.Reader) ([]Day, error) {
	rows, err := readTable(place, r, []string{"date"}, []string{"country", "site", "open", "name"})
	if err != nil {
		return nil, err
	}
	var days []Day
	var errs []error
	for _, row := range rows {
		d := Day{Date: row.get("date"), Site: row.get("site"), Name: row.get("name")}
		if _, err := time.Parse(time.DateOnly, d.Date); err != nil {
			errs = append(errs, row.bad("date", &inventory.ValueError{Reason: "not a date", Want: "2026-12-24"}))
		}
		if c := row.get("country"); c != "" {
			var err error
			if d.Country, err = ParseCountry(c); err != nil {
				errs = append(errs, row.bad("country", err))
			}
		}
		switch strings.ToLower(row.get("open")) {
		case "", "no", "false", "0":
		case "yes", "true", "1":
			d.Open = true
		default:
			errs = append(errs, row.bad("open", &inventory.ValueError{Reason: "neither yes nor no", Want: "yes, no or nothing"}))
		}
		days = append(days, d)
	}
	return days, errors.Join(errs...)
}

// ReadICS reads the days of an iCalendar file (RFC 5545), as calendars on the web offer them, as
// closed: whole-day events from one year before now to six after, repeated as their rules say.
// An event with a time of day closes nothing and is left out. They are of the country, or of
// everywhere if that is empty.
func ReadICS(place string, r io.Reader, country string, now time.Time) ([]Day, error) {
	cal, err := ics.ParseCalendar(r)
	if err == nil && len(cal.Components) == 0 {
		err = errors.New("nothing in it")
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: not an iCalendar file: %v", place, err)
	}
	from, until := now.AddDate(-1, 0, 0), now.AddDate(6, 0, 0)
	var days []Day
	for _, e := range cal.Events() {
		first, last, ok := wholeDays(e)
		if !ok {
			continue
		}
		starts := []time.Time{first}
		if p := e.GetProperty(ics.ComponentPropertyRrule); p != nil {
			if starts, err = repeated(p.Value, first, from, until); err != nil {
				return nil, fmt.Errorf("cannot read %s: event of %s: %v", place, first.Format(time.DateOnly), err)
			}
		}
		name := ""
		if p := e.GetProperty(ics.ComponentPropertySummary); p != nil {
			name = p.Value
		}
		for _, start := range starts {
			for d := start; d.Before(start.Add(last.Sub(first))) && d.Before(until); d = d.AddDate(0, 0, 1) {
				if d.After(from) {
					days = append(days, Day{Date: d.Format(time.DateOnly), Country: country, Name: name})
				}
			}
		}
	}
	return days, nil
}

// wholeDays returns the first date of an event and the one after its last, at midnight UTC. It
// is false for an event with a time of day, and for one of more than a year, which is a mistake.
func wholeDays(e *ics.VEvent) (first, end time.Time, ok bool) {
	date := func(name ics.ComponentProperty) (time.Time, bool) {
		p := e.GetProperty(name)
		if p == nil {
			return time.Time{}, false
		}
		t, err := time.Parse("20060102", p.Value)
		return t, err == nil
	}
	if first, ok = date(ics.ComponentPropertyDtStart); !ok {
		return first, end, false
	}
	if end, ok = date(ics.ComponentPropertyDtEnd); !ok || !end.After(first) {
		end = first.AddDate(0, 0, 1)
	}
	return first, end, end.Sub(first) < 366*24*time.Hour
}

// repeated returns the starts of an event that its rule gives.
func repeated(rule string, first, from, until time.Time) ([]time.Time, error) {
	o, err := rrule.StrToROption(rule)
	if err != nil {
		return nil, err
	}
	if o.Freq > rrule.DAILY {
		return nil, errors.New("a whole day that repeats within the day")
	}
	o.Dtstart = first
	r, err := rrule.NewRRule(*o)
	if err != nil {
		return nil, err
	}
	return r.Between(from.AddDate(-1, 0, 0), until, true), nil
}

// A row is one line of a table, by the names of its columns.
type row struct {
	place  string
	line   int
	fields map[string]string
}

func (r row) get(column string) string { return r.fields[column] }

func (r row) bad(column string, err error) error {
	e := &inventory.RowError{Place: r.place, Line: r.line, Column: column, Value: r.get(column), Reason: err.Error()}
	var value *inventory.ValueError
	if errors.As(err, &value) {
		e.Reason, e.Want = value.Reason, value.Want
	}
	return e
}

// readTable reads a small CSV file. A column that is neither needed nor known is a mistake.
func readTable(place string, in io.Reader, needed, known []string) ([]row, error) {
	text := bufio.NewReader(in)
	if mark, _ := text.Peek(3); string(mark) == "\xef\xbb\xbf" {
		text.Discard(3)
	}
	r := csv.NewReader(text)
	r.TrimLeadingSpace, r.FieldsPerRecord = true, -1
	header, err := r.Read()
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: its first line must name the columns: %s", place, strings.Join(append(needed, known...), ", "))
	}
	for i, h := range header {
		header[i] = strings.ToLower(strings.TrimSpace(h))
		if !slices.Contains(needed, header[i]) && !slices.Contains(known, header[i]) {
			return nil, &inventory.RowError{Place: place, Line: 1, Column: h, Reason: "no such column", Want: strings.Join(append(needed, known...), ", ")}
		}
	}
	for _, n := range needed {
		if !slices.Contains(header, n) {
			return nil, &inventory.RowError{Place: place, Line: 1, Reason: "no column " + n, Want: strings.Join(append(needed, known...), ", ")}
		}
	}
	var rows []row
	for {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read %s: %v", place, err)
		}
		line, _ := r.FieldPos(0)
		rw := row{place: place, line: line, fields: map[string]string{}}
		for i, v := range record {
			if i < len(header) {
				rw.fields[header[i]] = strings.TrimSpace(v)
			}
		}
		rows = append(rows, rw)
	}
}
