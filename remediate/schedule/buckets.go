package schedule

import (
	"cmp"
	"math"
	"slices"

	"unbrick/inventory"
)

// A bucketKey is what makes two buckets of a site different.
type bucketKey struct {
	cohort, kind int32
	tier         inventory.Tier
	class        uint8
	due          float64
	weight       float32
}

func (k bucketKey) compare(o bucketKey) int {
	return cmp.Or(cmp.Compare(k.cohort, o.cohort), cmp.Compare(k.tier, o.tier), cmp.Compare(k.class, o.class),
		cmp.Compare(k.due, o.due), cmp.Compare(k.weight, o.weight), cmp.Compare(k.kind, o.kind))
}

// buckets makes the buckets and lanes of a site, also those that hosts come to only when a way
// fails, and returns the bucket of each pile.
func (b *Builder) buckets(s *siteDraft, f *Fleet) []int32 {
	out := &f.sites[s.id]
	keys := make([]bucketKey, len(s.piles))
	var all []bucketKey
	for i, p := range s.piles {
		keys[i] = b.key(s, p, f)
		k := keys[i]
		for k.kind = p.chain.kind; k.kind >= 0; k.kind = f.kinds[k.kind].next {
			k.cohort = f.kinds[k.kind].cohort
			all = append(all, k)
		}
	}
	slices.SortFunc(all, bucketKey.compare)
	all = slices.Compact(all)
	var dues []float64
	for _, k := range all {
		dues = append(dues, k.due)
		out.gate = out.gate || k.tier == inventory.Dependency && s.Site != ""
	}
	slices.Sort(dues)
	dues = slices.Compact(dues)
	out.dues = len(dues)
	base := int32(len(f.buckets))
	find := func(k bucketKey) int32 {
		i, _ := slices.BinarySearchFunc(all, k, bucketKey.compare)
		return base + int32(i)
	}
	out.lanes = int32(len(f.lanes))
	for i, k := range all {
		if i == 0 || k.cohort != all[i-1].cohort {
			f.lanes = append(f.lanes, lane{site: s.id, cohort: k.cohort, first: base + int32(i)})
		}
		f.lanes[len(f.lanes)-1].end = base + int32(i) + 1
		next := int32(-1)
		if n := f.kinds[k.kind].next; n >= 0 {
			then := k
			then.kind, then.cohort = n, f.kinds[n].cohort
			next = find(then)
		}
		due, _ := slices.BinarySearch(dues, k.due)
		f.buckets = append(f.buckets, bucket{due: k.due, weight: k.weight, site: s.id, lane: int32(len(f.lanes) - 1), kind: k.kind,
			next: next, tier: k.tier, class: k.class, dueIndex: uint8(min(due, math.MaxUint8))})
	}
	out.dues = min(out.dues, math.MaxUint8+1)
	out.ends = int32(len(f.lanes))
	for l := out.lanes; l < out.ends; l++ { // cohorts are by way: these are side by side
		if f.cohorts[f.lanes[l].cohort].pool != Hands {
			continue
		}
		if out.hand == out.handTo {
			out.hand = l
		}
		out.handTo = l + 1
	}
	places := make([]int32, len(keys))
	for i, k := range keys {
		places[i] = find(k)
		f.buckets[places[i]].hosts += s.piles[i].hosts
	}
	return places
}

// key returns what the plan knows a pile by. Hosts that others of their site depend on are due
// when the first of those is.
func (b *Builder) key(s *siteDraft, p pile, f *Fleet) bucketKey {
	k := bucketKey{kind: p.chain.kind, cohort: f.kinds[p.chain.kind].cohort, tier: p.tier, class: p.class, due: math.Inf(1)}
	if !p.due.IsZero() {
		k.due = f.hoursOf(p.due)
	}
	if first := s.first.At; p.tier == inventory.Dependency && s.Site != "" && !first.IsZero() {
		k.due = min(k.due, f.hoursOf(first))
	}
	w := b.opts.Weights[min(int(p.tier), len(b.opts.Weights)-1)]
	if p.always {
		w *= 2
	}
	k.weight = float32(w)
	return k
}

// members sorts the hosts by name and gives each its bucket.
func (b *Builder) members(f *Fleet, where [][]int32) {
	if !b.opts.Names {
		return
	}
	order := make([]int32, len(b.names))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(x, y int32) int { return cmp.Compare(b.names[x], b.names[y]) })
	f.names, f.hosts = make([]string, len(order)), make([]member, len(order))
	for i, at := range order {
		m := b.hosts[at]
		f.names[i] = b.names[at]
		f.hosts[i] = member{bucket: where[m.site.id][m.pile], index: m.index, group: m.group, subnet: m.subnet}
	}
	b.names = nil
}
