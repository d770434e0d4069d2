package csv

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"unbrick/inventory"
)

// A column is what one column of the file means.
type column struct {
	field string // empty: a label; "-": no header, ignored
	title string // as the file has it
	set   setter
}

// ignored marks a column without a header.
const ignored = "-"

// key folds a header to letters and digits in lower case, so that "Serial number",
// "serial_number" and "SerialNumber" are one.
func key(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return unicode.ToLower(r)
		}
		return -1
	}, s)
}

// A want is one field that a header may stand for.
type want struct {
	field string
	rank  int // 0: mapped by the operator, 1: its own name, 2 and up: an alias, best first
}

// resolve says what each column means. Of several columns for one field the best takes it and
// the others become labels, which is noted; MAC columns are added together.
func resolve(names []string, mapping map[string]string) ([]column, []*inventory.RowError, error) {
	cols := make([]column, len(names))
	for i, n := range names {
		cols[i].title = strings.TrimSpace(n)
		if looksSecret(n) {
			return nil, nil, fmt.Errorf("column %q looks like a secret: take it out of the file. "+
				"Logins are named in unbrick.yaml by reference (file:, env:, exec:), recovery keys come from a key source", cols[i].title)
		}
	}
	if err := checkMap(cols, mapping); err != nil {
		return nil, nil, err
	}
	best := map[string]int{} // field: column
	ranks := make([]want, len(cols))
	var notes []*inventory.RowError
	for i := range cols {
		w := meaning(cols[i].title, mapping)
		ranks[i] = w
		if w.field == "" || w.field == ignored {
			cols[i].field = w.field
			continue
		}
		j, taken := best[w.field]
		switch {
		case !taken || w.field == "mac":
			best[w.field] = i
		case w.rank == ranks[j].rank:
			return nil, nil, fmt.Errorf("columns %d and %d are both %q; keep one", j+1, i+1, cols[i].title)
		default:
			loser := i
			if w.rank < ranks[j].rank {
				best[w.field], loser = i, j
			}
			cols[loser].field = ""
			notes = append(notes, &inventory.RowError{
				Column: cols[loser].title, Reason: "kept as a label: " + w.field + " is column " + fmt.Sprintf("%q", cols[best[w.field]].title),
				Want: "--map " + w.field + "=HEADER if that is wrong",
			})
			if loser == i {
				continue
			}
		}
		cols[i].field = w.field
	}
	if _, ok := best["name"]; !ok {
		return nil, nil, noName(cols)
	}
	return cols, append(notes, finish(cols)...), nil
}

// finish gives each column its setter and keeps labels apart that have one name.
func finish(cols []column) (notes []*inventory.RowError) {
	labels := map[string]int{}
	for i := range cols {
		c := &cols[i]
		switch c.field {
		case ignored:
			notes = append(notes, &inventory.RowError{Reason: fmt.Sprintf("column %d has no name and is not read", i+1), Want: "a header for each column"})
		case "":
			if labels[c.title]++; labels[c.title] > 1 {
				c.title = fmt.Sprintf("%s (%d)", c.title, labels[c.title])
			}
			c.set = setLabel
		default:
			c.set = fields[c.field]
		}
	}
	return notes
}

// meaning returns the field of a header.
func meaning(title string, mapping map[string]string) want {
	k := key(title)
	if strings.TrimSpace(title) == "" {
		return want{field: ignored}
	}
	mapped := ""
	for field, header := range mapping {
		if strings.EqualFold(strings.TrimSpace(header), title) {
			return want{field, 0}
		}
		if field == k {
			mapped = field
		}
	}
	if mapped != "" { // another column was named for it
		return want{}
	}
	if _, ok := fields[k]; ok {
		return want{k, 1}
	}
	for i, a := range aliases {
		if a.header == k {
			if mapping[a.field] != "" {
				return want{}
			}
			return want{a.field, 2 + i}
		}
	}
	return want{}
}

func checkMap(cols []column, mapping map[string]string) error {
	for field, header := range mapping {
		if _, ok := fields[field]; !ok {
			return fmt.Errorf("no field %q to map; the fields are %s", field, strings.Join(Fields(), ", "))
		}
		if !slices.ContainsFunc(cols, func(c column) bool { return strings.EqualFold(c.title, strings.TrimSpace(header)) }) {
			return fmt.Errorf("no column %q for %s; the columns are %s", header, field, titles(cols))
		}
	}
	return nil
}

func noName(cols []column) error {
	if len(cols) == 1 {
		return fmt.Errorf("no column \"name\", and only one column, %s; the first row must name the columns, separated by comma, semicolon or tab", titles(cols))
	}
	return errors.New("no column \"name\"; the columns are " + titles(cols) + ". Say which one it is: --map name=HEADER")
}

func titles(cols []column) string {
	var q []string
	for _, c := range cols {
		q = append(q, fmt.Sprintf("%q", shorten(c.title)))
	}
	return strings.Join(q, ", ")
}

// Fields returns the names of the fields that a column can be, in alphabetical order.
func Fields() []string {
	var names []string
	for f := range fields {
		names = append(names, f)
	}
	slices.Sort(names)
	return names
}
