package csv

import (
	"errors"
	"fmt"
	"maps"
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
		ranks[i], cols[i].field = w, w.field
		j, taken := best[w.field]
		if w.field == "" || w.field == ignored {
			continue
		}
		if !taken || w.field == "mac" {
			best[w.field] = i
			continue
		}
		if w.rank == ranks[j].rank {
			return nil, nil, fmt.Errorf("columns %d and %d are both %q; keep one", j+1, i+1, cols[i].title)
		}
		winner, loser := j, i
		if w.rank < ranks[j].rank {
			winner, loser = i, j
		}
		best[w.field], cols[loser].field = winner, ""
		notes = append(notes, &inventory.RowError{
			Column: cols[loser].title,
			Reason: fmt.Sprintf("kept as a label: %s is column %q", w.field, cols[winner].title),
			Want:   "--map " + w.field + "=HEADER if that is wrong",
		})
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
			c.title = strings.TrimPrefix(c.title, labelPrefix)
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

// labelPrefix marks a header as that of a label, whatever it would be otherwise: [Write] puts it
// before labels that are called like a field.
const labelPrefix = "label:"

// meaning returns the field of a header. A field that is mapped takes no other column.
func meaning(title string, mapping map[string]string) want {
	if title == "" {
		return want{field: ignored}
	}
	for field, header := range mapping {
		if sameHeader(header, title) {
			return want{field, 0}
		}
	}
	w := want{}
	k := key(title)
	if strings.HasPrefix(title, labelPrefix) {
		return w
	}
	if _, ok := fields[k]; ok {
		w = want{k, 1}
	} else if i := slices.IndexFunc(aliases, func(a alias) bool { return a.header == k }); i >= 0 {
		w = want{aliases[i].field, 2 + i}
	}
	if mapping[w.field] != "" {
		return want{}
	}
	return w
}

// sameHeader says that header, as the operator typed it, is a column's title.
func sameHeader(header, title string) bool {
	return strings.EqualFold(strings.TrimSpace(header), title)
}

// checkMap refuses a mapping of a field or a header that does not exist: a slip there would
// otherwise leave a column unread without a word.
func checkMap(cols []column, mapping map[string]string) error {
	used := map[string]string{}
	for _, field := range slices.Sorted(maps.Keys(mapping)) {
		header := mapping[field]
		if _, ok := fields[field]; !ok {
			return fmt.Errorf("no field %q to map; the fields are %s", field, strings.Join(Fields(), ", "))
		}
		i := slices.IndexFunc(cols, func(c column) bool { return sameHeader(header, c.title) })
		if i < 0 {
			return fmt.Errorf("no column %q for %s; the columns are %s", header, field, titles(cols))
		}
		if other, twice := used[cols[i].title]; twice {
			return fmt.Errorf("column %q is mapped twice: to %s and %s", header, other, field)
		}
		used[cols[i].title] = field
	}
	return nil
}

// noName says which columns there are, so that the next command can name the right one.
func noName(cols []column) error {
	if len(cols) == 1 {
		return fmt.Errorf("no column \"name\", and only one column, %s; the first row must name the columns, separated by comma, semicolon or tab", titles(cols))
	}
	return errors.New("no column \"name\"; the columns are " + titles(cols) + ". Say which one it is: --map name=HEADER")
}

// titles lists the headers for an error.
func titles(cols []column) string {
	var q []string
	for _, c := range cols {
		q = append(q, fmt.Sprintf("%q", shorten(c.title)))
	}
	return strings.Join(q, ", ")
}

// Fields returns the names of the fields that a column can be, in alphabetical order.
func Fields() []string {
	return slices.Sorted(maps.Keys(fields))
}
