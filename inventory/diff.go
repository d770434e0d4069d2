package inventory

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// Changes are what differs between two fleets. Where a host was read, when it was seen and what
// sources do not agree on is not compared.
type Changes struct {
	Added   []string `json:"added"` // names, in alphabetical order, as are those of the others
	Gone    []string `json:"gone"`
	Changed []Change `json:"changed"`
}

// None says that the fleets do not differ.
func (c *Changes) None() bool { return len(c.Added)+len(c.Gone)+len(c.Changed) == 0 }

// A Change is what differs of one host.
type Change struct {
	Host   string        `json:"host"` // its name now
	Fields []FieldChange `json:"fields"`
}

// A FieldChange is a value of [Host.Values] that is another one; empty is none.
type FieldChange struct {
	Field string `json:"field"`
	Old   string `json:"old,omitempty"`
	New   string `json:"new,omitempty"`
}

// Diff compares two fleets. Hosts are the same by name, in any case, and of the others by serial
// number or UUID: one that is called something else now has changed its name.
func Diff(old, now []Host) Changes {
	c := Changes{Added: []string{}, Gone: []string{}, Changed: []Change{}}
	rest := make(map[string]*Host, len(old))
	for i := range old {
		rest[strings.ToLower(old[i].Name)] = &old[i]
	}
	var others []*Host
	for i := range now {
		key := strings.ToLower(now[i].Name)
		if was := rest[key]; was != nil {
			delete(rest, key)
			c.compare(was, &now[i])
		} else {
			others = append(others, &now[i])
		}
	}
	ids := make(map[string]*Host)
	for _, h := range rest {
		for _, id := range machineIDs(h) {
			ids[id] = h
		}
	}
	for _, h := range others {
		was := (*Host)(nil)
		for _, id := range machineIDs(h) {
			if o := ids[id]; o != nil && rest[strings.ToLower(o.Name)] != nil {
				was = o
				break
			}
		}
		if was == nil {
			c.Added = append(c.Added, h.Name)
			continue
		}
		delete(rest, strings.ToLower(was.Name))
		c.compare(was, h)
	}
	for _, h := range rest {
		c.Gone = append(c.Gone, h.Name)
	}
	slices.Sort(c.Added)
	slices.Sort(c.Gone)
	slices.SortFunc(c.Changed, func(a, b Change) int { return strings.Compare(a.Host, b.Host) })
	return c
}

// machineIDs are what a machine is recognised by, whatever it is called.
func machineIDs(h *Host) (ids []string) {
	if h.Serial != "" {
		ids = append(ids, "serial "+strings.ToLower(h.Serial))
	}
	if h.UUID != "" {
		ids = append(ids, "uuid "+h.UUID)
	}
	return ids
}

// compare notes what differs of a host.
func (c *Changes) compare(old, now *Host) {
	was := maps.Collect(old.Values())
	one := Change{Host: now.Name}
	for f, v := range now.Values() {
		if o := was[f]; o != v {
			one.Fields = append(one.Fields, FieldChange{f, o, v})
		}
		delete(was, f)
	}
	for f, o := range was {
		one.Fields = append(one.Fields, FieldChange{Field: f, Old: o})
	}
	if len(one.Fields) > 0 {
		slices.SortFunc(one.Fields, func(a, b FieldChange) int {
			return cmp.Or(fieldPlace(a.Field)-fieldPlace(b.Field), strings.Compare(a.Field, b.Field))
		})
		c.Changed = append(c.Changed, one)
	}
}

// fieldPlace orders fields as Values does: labels come last.
func fieldPlace(field string) int {
	if i := slices.Index(fieldOrder, field); i >= 0 {
		return i
	}
	return len(fieldOrder)
}
