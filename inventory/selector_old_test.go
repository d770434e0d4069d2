package inventory_test

import (
	"fmt"
	"path"
	"strings"

	"unbrick/inventory"
)

// The selectors of before, as they were: what the translation of their form is measured by.

type oldSelector []term

func parseOld(s string) (sel oldSelector, ok bool) {
	for _, word := range strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == '\t' }) {
		t, _, reason := parseTerm(word)
		if reason != "" {
			return nil, false
		}
		sel = append(sel, t)
	}
	return sel, len(sel) > 0
}

// A term is one condition.
type term struct {
	field  string
	values []string // lower case
}

// selectable are the fields that a term may name.
var selectable = []string{"name", "site", "country", "region", "tier", "group"}

// parseTerm reads "field=value,value". A reason says what is wrong at offset off.
func parseTerm(s string) (t term, off int, reason string) {
	field, values, ok := strings.Cut(s, "=")
	if !ok {
		return t, 0, fmt.Sprintf("%q has no =; write field=value, such as site=SYD", s)
	}
	t.field = strings.ToLower(field)
	known := false
	for _, f := range selectable {
		known = known || f == t.field
	}
	if !known {
		return t, 0, fmt.Sprintf("no field %q; it is one of %s", field, strings.Join(selectable, ", "))
	}
	off = len(field) + 1
	for v := range strings.SplitSeq(values, ",") {
		if v == "" {
			return t, off, "a value is missing"
		}
		pattern := strings.ToLower(v)
		if _, err := path.Match(pattern, ""); err != nil {
			return t, off, fmt.Sprintf("%q is not a pattern: a [ is not closed", v)
		}
		if t.field == "tier" && !strings.ContainsAny(v, `*?[\`) {
			if _, err := inventory.ParseTier(v); err != nil {
				return t, off, err.Error()
			}
		}
		t.values = append(t.values, pattern)
		off += len(v) + 1
	}
	return t, 0, ""
}

func (s oldSelector) Match(h inventory.Host) bool {
	for _, t := range s {
		if !t.match(&h) {
			return false
		}
	}
	return true
}

// match says whether one of the values fits the host.
func (t *term) match(h *inventory.Host) bool {
	var v string
	switch t.field {
	case "name":
		v = h.Name
	case "site":
		v = h.Site
	case "country":
		v = h.Country
	case "region":
		v = h.Region
	case "tier":
		v = h.Tier.String()
	case "group":
		v = h.Group
	}
	v = strings.ToLower(v)
	for _, pattern := range t.values {
		// A * of path.Match stops at a slash, which means nothing in the name of a site.
		ok, _ := path.Match(strings.ReplaceAll(pattern, "/", "\x00"), strings.ReplaceAll(v, "/", "\x00"))
		if ok {
			return true
		}
	}
	return false
}
