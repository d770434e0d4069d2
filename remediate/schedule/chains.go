package schedule

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"unbrick/inventory"
	"unbrick/remediate"
)

// A chain is the ways that a host of a model goes, one after the other.
type chain struct {
	model string
	ways  []string
	again []float32
	kind  int32 // of its first way; -1 before the kinds are known
}

// chainOf returns the chain of a host that these ways lead into: the ways as [remediate.Climb] goes them if each of them fails after
// it got in: round after round, and a person at the end.
func (b *Builder) chainOf(model string, routes []inventory.Route) *chain {
	b.text = append(append(b.text[:0], model...), 0)
	for _, r := range routes {
		b.text = append(append(b.text, r.Driver...), 0)
	}
	c := b.routes[string(b.text)]
	if c == nil {
		c = b.climb(model, routes)
		b.routes[string(b.text)] = c
	}
	return c
}

func (b *Builder) climb(model string, routes []inventory.Route) *chain {
	var ways []string
	tries := func(way string) int { return cmp.Or(b.opts.Ladder.Rung(way).Tries, b.opts.Attempts) }
	for round, more := 0, true; more; round++ {
		more = false
		for _, r := range routes {
			if r.Driver != remediate.Manual && tries(r.Driver) > round {
				ways, more = append(ways, r.Driver), true
			}
		}
	}
	for _, r := range routes {
		if r.Driver == remediate.Manual {
			ways = append(ways, r.Driver)
		}
	}
	return b.chain(model, ways[:min(len(ways), longestChain)], nil)
}

// longestChain bounds what one host adds to the plan of its site.
const longestChain = 12

func (b *Builder) chain(model string, ways []string, again []float32) *chain {
	text := fmt.Sprint(model, "\x00", strings.Join(ways, "\x00"), again)
	c := b.chains[text]
	if c == nil {
		c = &chain{model: strings.Clone(model), ways: slices.Clone(ways), again: slices.Clone(again), kind: -1}
		for len(c.again) < len(ways) {
			c.again = append(c.again, 0)
		}
		b.chains[text] = c
	}
	return c
}

// kinds numbers the kinds and cohorts by name, so that the order of the hosts does not matter.
func (b *Builder) kinds(f *Fleet) {
	for _, c := range b.chains {
		b.ways = append(b.ways, c.ways...)
	}
	slices.Sort(b.ways)
	b.ways = slices.Compact(b.ways)
	f.ways = b.ways
	known := map[cohort]int32{}
	for _, c := range b.chains {
		for _, way := range c.ways {
			known[b.cohort(c.model, way)] = 0
		}
	}
	f.cohorts = slices.SortedFunc(maps.Keys(known), func(x, y cohort) int {
		return cmp.Or(cmp.Compare(x.way, y.way), cmp.Compare(x.model, y.model))
	})
	for i, c := range f.cohorts {
		known[c] = int32(i)
	}
	interned := map[kind]int32{}
	for _, text := range slices.Sorted(maps.Keys(b.chains)) {
		c := b.chains[text]
		next := int32(-1)
		for i := len(c.ways) - 1; i >= 0; i-- {
			k := kind{cohort: known[b.cohort(c.model, c.ways[i])], next: next, again: c.again[i]}
			id, ok := interned[k]
			if !ok {
				id = int32(len(f.kinds))
				interned[k] = id
				f.kinds = append(f.kinds, k)
			}
			next = id
		}
		c.kind = next
	}
}

func (b *Builder) cohort(model, way string) cohort {
	i, _ := slices.BinarySearch(b.ways, way)
	p := poolOf(way)
	if p == Cloud && b.opts.Limits.Cloud == 0 {
		p = Slots
	}
	return cohort{way: int32(i), model: model, pool: p}
}
