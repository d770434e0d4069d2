package simulate

import (
	"math"

	"unbrick/remediate/schedule"
)

// A Named rule is one to be compared. A nil Rule is the one that runs follow.
type Named struct {
	Name string
	Rule schedule.Rule
	fine bool // it asks for the counts after every host
}

// Ours is the name of the rule that runs follow.
const Ours = "unbrick (ATC + late factor)"

// Rules returns the rules that are compared, ours last. All of them keep the caps, and begin no
// ordinary host of a site before its dependency tier is done.
func Rules() []Named {
	return []Named{
		{"inventory order", inventoryOrder, true},
		{"region list, AMER first", regions("AMER", "EMEA", "APAC"), false},
		{"region list, follow the sun", regions("APAC", "EMEA", "AMER"), false},
		{"EDF by opening", func(a schedule.Aspect) float64 { return -a.Due }, false},
		{"tier, then EDF", func(a schedule.Aspect) float64 { return -1e6*float64(a.Tier) - a.Due }, false},
		{"WSPT", func(a schedule.Aspect) float64 { return math.Log(a.Weight / a.Work) }, false},
		{"least laxity", func(a schedule.Aspect) float64 { return -a.Slack }, false},
		{Ours, nil, false},
	}
}

// inventoryOrder takes hosts as they stand in a list that is sorted by nothing that matters: those
// of a bucket are spread over all of it.
func inventoryOrder(a schedule.Aspect) float64 {
	h := uint64(a.Site)*0x9e3779b97f4a7c15 + uint64(a.Tier)*0xbf58476d1ce4e5b9 + math.Float64bits(a.Work)
	h ^= h >> 31
	h *= 0x94d049bb133111eb
	first := float64(h>>11) / (1 << 53)
	return -a.Taken - first/float64(max(a.Hosts, 1))
}

// regions takes one region after the other, and in it one site after the other.
func regions(order ...string) schedule.Rule {
	return func(a schedule.Aspect) float64 {
		for i, r := range order {
			if r == a.Region {
				return -1e8*float64(i) - float64(a.Site)
			}
		}
		return math.Inf(-1)
	}
}
