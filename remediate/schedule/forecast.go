package schedule

import (
	"cmp"
	"container/heap"
	"slices"
	"time"
)

// Capacity is what a run has to work with.
type Capacity struct {
	Slots int // hosts treated at the same time; at least 1
	// Planned is how long the treatment of a host takes. It must be the same each time it is
	// asked.
	Planned func(Item) time.Duration
}

// A Forecast says what will be late. It is an estimate: every host takes as long as planned,
// none fails, and no site is capped.
type Forecast struct {
	Slots int            `json:"slots"`
	End   time.Time      `json:"end"`  // when the last host is done
	Late  int            `json:"late"` // hosts not done when they are due
	Sites []SiteForecast `json:"sites"`

	// Hopeless are the hosts among the late that no number of slots would save: they are due
	// sooner than their treatment takes.
	Hopeless int `json:"hopeless"`
	// Needed is how many slots bring every host but the hopeless back in time; 0 if no host
	// has a due time.
	Needed int `json:"needed"`
}

// A SiteForecast is what becomes of the hosts of one site that have a due time.
type SiteForecast struct {
	Site  string    `json:"site"`
	Due   time.Time `json:"due"`   // of its first host
	Ready time.Time `json:"ready"` // when its last host is done
	Hosts int       `json:"hosts"`
	Late  int       `json:"late"`
}

// Late returns what becomes of items, taken in their order from now on, each by the slot that
// is free first. Sites are in the order of their openings.
func Late(items []Item, now time.Time, c Capacity) Forecast {
	c.Slots = max(c.Slots, 1)
	f := Forecast{Slots: c.Slots, End: now}
	sites := map[string]*SiteForecast{}
	work(items, now, c, func(it *Item, took time.Duration, done time.Time) bool {
		if done.After(f.End) {
			f.End = done
		}
		if !it.Known {
			return true
		}
		s := sites[it.Site]
		if s == nil {
			s = &SiteForecast{Site: it.Site, Due: it.Due}
			sites[it.Site] = s
		}
		s.Hosts++
		if it.Due.Before(s.Due) {
			s.Due = it.Due
		}
		if done.After(s.Ready) {
			s.Ready = done.In(s.Due.Location())
		}
		if done.After(it.Due) {
			s.Late++
			f.Late++
			if hopeless(it, now, took) {
				f.Hopeless++
			}
		}
		return true
	})
	for _, s := range sites {
		f.Sites = append(f.Sites, *s)
	}
	slices.SortFunc(f.Sites, func(a, b SiteForecast) int {
		return cmp.Or(a.Due.Compare(b.Due), cmp.Compare(a.Site, b.Site))
	})
	f.Needed = needed(items, now, c, f)
	return f
}

// hopeless says that a host is due sooner than its treatment takes, were it the first.
func hopeless(it *Item, now time.Time, took time.Duration) bool {
	return now.Add(took).After(it.Due)
}

// needed seeks the smallest number of slots with which nobody is late who could be saved.
// More slots never make a host later, since none waits for another.
func needed(items []Item, now time.Time, c Capacity, f Forecast) int {
	known := 0
	for i := range items {
		if items[i].Known {
			known++
		}
	}
	if known == 0 {
		return 0
	}
	low, high := 0, known // low is too few, high is enough
	if f.Late == f.Hopeless && c.Slots < high {
		high = c.Slots
	} else if f.Late > f.Hopeless {
		low = c.Slots
	}
	for high-low > 1 {
		mid := low + (high-low)/2
		if enough(items, now, Capacity{mid, c.Planned}) {
			high = mid
		} else {
			low = mid
		}
	}
	return high
}

// enough says that with c nobody is late who could be saved.
func enough(items []Item, now time.Time, c Capacity) bool {
	ok := true
	work(items, now, c, func(it *Item, took time.Duration, done time.Time) bool {
		ok = !it.Known || !done.After(it.Due) || hopeless(it, now, took)
		return ok
	})
	return ok
}

// work hands each item to the slot that is free first and says when it is done, until each
// says to stop.
func work(items []Item, now time.Time, c Capacity, each func(it *Item, took time.Duration, done time.Time) bool) {
	free := make(times, min(c.Slots, len(items)))
	for i := range free {
		free[i] = now
	}
	for i := range items {
		took := c.Planned(items[i])
		done := free[0].Add(took)
		if !each(&items[i], took, done) {
			return
		}
		free[0] = done
		heap.Fix(&free, 0)
	}
}

// times is a heap, earliest first.
type times []time.Time

func (t times) Len() int           { return len(t) }
func (t times) Less(i, j int) bool { return t[i].Before(t[j]) }
func (t times) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *times) Push(x any)        { *t = append(*t, x.(time.Time)) }
func (t *times) Pop() any          { panic("schedule: a slot never goes away") }
