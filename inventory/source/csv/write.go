package csv

import (
	stdcsv "encoding/csv"
	"io"
	"maps"
	"slices"
	"strings"

	"unbrick/inventory"
)

// Left is what [Write] could not write, in hosts.
type Left struct {
	Routes int // that have a way in which no column is for, or two by one driver: the first is written
	Labels int // that have a label which would be taken for a secret when the file is read
}

// Write writes hosts so that a [Source] reads the same ones again: all but where they were read,
// when they were seen, what sources did not agree on, and in which order a host has ways in by
// different drivers.
func Write(w io.Writer, hosts []inventory.Host) (left Left, err error) {
	cols, hide := columnsOf(hosts)
	out := stdcsv.NewWriter(w)
	rec := make([]string, len(cols))
	for i, c := range cols {
		rec[i] = c.title
	}
	if err := out.Write(rec); err != nil {
		return left, err
	}
	for i := range hosts {
		h := &hosts[i]
		for c := range cols {
			rec[c] = cols[c].value(h)
		}
		if err := out.Write(rec); err != nil {
			return left, err
		}
		left.count(h, hide)
	}
	out.Flush()
	return left, out.Error()
}

func (l *Left) count(h *inventory.Host, hide map[string]bool) {
	drivers := map[string]bool{}
	for _, r := range h.Routes {
		if _, ok := fields[r.Driver]; ok {
			drivers[r.Driver] = true
		}
	}
	if len(drivers) < len(h.Routes) {
		l.Routes++
	}
	for k := range h.Labels {
		if hide[k] {
			l.Labels++
			return
		}
	}
}

// A field is one column that is written.
type field struct {
	title string
	value func(*inventory.Host) string
}

// valueOf returns the value of a field; of several ways in by one driver the first.
func valueOf(h *inventory.Host, field string) string {
	for _, r := range h.Routes {
		if r.Driver == field {
			return r.Address
		}
	}
	return h.Value(field)
}

// columnsOf returns the columns in which some host has a value, name first, and the labels that
// are not written.
func columnsOf(hosts []inventory.Host) (cols []field, hide map[string]bool) {
	own, labels := map[string]bool{"name": true}, map[string]bool{}
	for i := range hosts {
		for f, v := range hosts[i].Values() {
			if label, ok := strings.CutPrefix(f, inventory.LabelPrefix); ok {
				labels[label] = true
			} else if v != "" {
				own[f] = true
			}
		}
	}
	for _, f := range inventory.DraftFields() {
		if own[f] {
			cols = append(cols, field{f, func(h *inventory.Host) string { return valueOf(h, f) }})
		}
	}
	hide = map[string]bool{}
	for _, l := range slices.Sorted(maps.Keys(labels)) {
		if looksSecret(l) {
			hide[l] = true
			continue
		}
		title := l
		if meaning(l, nil).field != "" || strings.TrimSpace(l) != l || strings.HasPrefix(l, labelPrefix) {
			title = labelPrefix + l
		}
		cols = append(cols, field{title, func(h *inventory.Host) string { return h.Labels[l] }})
	}
	return cols, hide
}
