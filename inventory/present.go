package inventory

import (
	"iter"
	"maps"
	"slices"
	"strings"
)

// LabelPrefix stands before the names of labels among those of fields: "label:model".
const LabelPrefix = "label:"

// Values yields what is known of the host, by the names of [DraftFields] and, for labels, their
// own behind LabelPrefix, always in the same order. What is empty is left out, as are the tier
// of a host whose tier nobody named, where it was read and what sources do not agree on. Of
// several ways in by one driver the addresses are separated by spaces, as MAC addresses are.
func (h *Host) Values() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for _, f := range fieldOrder {
			if v := h.Value(f); v != "" && !yield(f, v) {
				return
			}
		}
		for i, r := range h.Routes { // drivers that no source of ours knows
			first := !slices.ContainsFunc(h.Routes[:i], func(o Route) bool { return o.Driver == r.Driver })
			if first && !slices.Contains(fieldOrder, r.Driver) && !yield(r.Driver, h.Value(r.Driver)) {
				return
			}
		}
		for _, k := range slices.Sorted(maps.Keys(h.Labels)) {
			if !yield(LabelPrefix+k, h.Labels[k]) {
				return
			}
		}
	}
}

// fieldOrder is DraftFields, made once.
var fieldOrder = DraftFields()

// Value returns what is known under a name of [Host.Values].
func (h *Host) Value(field string) string {
	if label, ok := strings.CutPrefix(field, LabelPrefix); ok {
		return h.Labels[label]
	}
	switch field {
	case "mac":
		return strings.Join(h.MAC, " ")
	case "state":
		return string(h.State)
	case "tier":
		if h.Tier == Normal {
			return ""
		}
		return h.Tier.String()
	}
	for _, f := range textFields {
		if f.name == field {
			return *f.at(h)
		}
	}
	var all []string
	for _, r := range h.Routes {
		if r.Driver == field {
			all = append(all, r.Address)
		}
	}
	return strings.Join(all, " ")
}
