package inventory

// A Tally counts what a fleet consists of, for a person who looks at it before a run.
type Tally struct {
	Hosts      int            `json:"hosts"`
	Sites      map[string]int `json:"sites"`   // hosts of each; "" are those without a site
	Drivers    map[string]int `json:"drivers"` // hosts that have this way in
	Tiers      map[Tier]int   `json:"tiers"`
	NoRoute    int            `json:"no_route"`    // no way in at all: nothing can be done for them
	NoZone     int            `json:"no_zone"`     // neither time zone nor country: they come last
	NoIdentity int            `json:"no_identity"` // neither serial nor UUID: an agent cannot be matched

	States    map[State]int `json:"states,omitempty"`    // hosts that are not in use, by why
	Conflicts int           `json:"conflicts,omitempty"` // hosts of which sources do not agree on something
}

// NewTally returns an empty Tally.
func NewTally() *Tally {
	return &Tally{Sites: map[string]int{}, Drivers: map[string]int{}, Tiers: map[Tier]int{}}
}

// Add counts one host.
func (t *Tally) Add(h *Host) {
	t.Hosts++
	t.Sites[h.Site]++
	t.Tiers[h.Tier]++
	for i, r := range h.Routes {
		again := false
		for _, before := range h.Routes[:i] {
			again = again || before.Driver == r.Driver
		}
		if !again {
			t.Drivers[r.Driver]++
		}
	}
	if len(h.Routes) == 0 {
		t.NoRoute++
	}
	if h.TimeZone == "" && h.Country == "" {
		t.NoZone++
	}
	if h.State != "" {
		if t.States == nil {
			t.States = map[State]int{}
		}
		t.States[h.State]++
	}
	if len(h.Conflicts) > 0 {
		t.Conflicts++
	}
	if h.Serial == "" && h.UUID == "" {
		t.NoIdentity++
	}
}
