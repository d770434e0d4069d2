package inventory

import (
	"fmt"
	"path"
	"strings"
)

// SameName says whether two names are one host's: Windows compares them without case.
func SameName(a, b string) bool { return strings.EqualFold(a, b) }

// A Selector picks hosts: "site=SYD,MEL tier=critical name=SYD-*". Terms are joined by
// spaces and must all hold; of a term's values, joined by commas, one must.
//
// Values are compared without case and may be patterns as path.Match has them: * any number
// of characters, ? one, [a-f] one of these. ? also stands for a space, which ends a term.
type Selector struct{ terms []term }

// A term is one condition.
type term struct {
	field  string
	values []string // lower case
}

// selectable are the fields that a term may name.
var selectable = []string{"name", "site", "country", "region", "tier", "group"}

// A SelectorError is what is wrong with a selector, and where.
type SelectorError struct {
	Text   string
	Column int // 1-based, in bytes
	Reason string
}

// Error says what is wrong, and at which column.
func (e *SelectorError) Error() string {
	return fmt.Sprintf("cannot read selector %q: column %d: %s", e.Text, e.Column, e.Reason)
}

// ParseSelector reads a selector. The error is a *SelectorError.
func ParseSelector(s string) (*Selector, error) {
	sel := new(Selector)
	for at := 0; at < len(s); {
		if s[at] == ' ' || s[at] == '\t' {
			at++
			continue
		}
		end := at
		for end < len(s) && s[end] != ' ' && s[end] != '\t' {
			end++
		}
		t, off, reason := parseTerm(s[at:end])
		if reason != "" {
			return nil, &SelectorError{s, at + off + 1, reason}
		}
		sel.terms = append(sel.terms, t)
		at = end
	}
	if len(sel.terms) == 0 {
		return nil, &SelectorError{s, 1, "it selects nothing; write field=value, such as site=SYD"}
	}
	return sel, nil
}

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
			if _, err := ParseTier(v); err != nil {
				return t, off, err.Error()
			}
		}
		t.values = append(t.values, pattern)
		off += len(v) + 1
	}
	return t, 0, ""
}

// Match says whether the selector picks h.
func (s *Selector) Match(h Host) bool {
	for _, t := range s.terms {
		if !t.match(&h) {
			return false
		}
	}
	return true
}

// match says whether one of the values fits the host.
func (t *term) match(h *Host) bool {
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
