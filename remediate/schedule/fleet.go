package schedule

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"

	"unbrick/inventory"
	"unbrick/inventory/calendar"
	"unbrick/remediate"
)

// A Pool is what treatments take the places of.
type Pool uint8

// The pools. Cloud ways take slots unless [Limits].Cloud gives them places of their own.
const (
	Slots Pool = iota // of the run, for hosts that are reached from afar
	Hands             // people who go there
	Cloud             // calls to a provider
	pools             // how many there are
)

var poolNames = [...]string{"slots", "technicians", "cloud"}

// String returns the name of the pool, as a what-if has it.
func (p Pool) String() string { return poolNames[p] }

// poolOf returns the pool of a way.
func poolOf(way string) Pool {
	switch way {
	case remediate.Manual:
		return Hands
	case "ec2", "azure", "gce", "openstack":
		return Cloud
	}
	return Slots
}

// Limits are the caps of a plan. What is 0 has none, Slots and Technicians apart.
type Limits struct {
	Slots       int            // hosts in treatment at once in all; 64 if 0
	PerSite     int            // of them at a site whose table does not say
	Images      int            // of them at a site, by ways that fetch the rescue image over its uplink
	Cloud       int            // places for cloud ways, beside Slots
	Technicians int            // people at a site whose table does not say; 1 if 0
	Roaming     map[string]int // people of a country who go from site to site: a pool of their own
	PerSubnet   int            // hosts whose controllers are in one network; a Planner alone keeps it
	Shift       Shift          // when technicians work
	Travel      time.Duration  // of those of Roaming, from one site to the next
	PerHour     map[string]int // by way: starts in an hour, for APIs that count calls
}

// Options are what a plan is made from beside the hosts. Start must be there.
type Options struct {
	Start    time.Time          // of the run: openings are sought from here on
	Calendar *calendar.Calendar // with the days that the operator added; nil: what travels with the program
	Sites    calendar.Sites
	Ladder   remediate.Ladder
	Attempts int // at a way whose rung does not say; 1 if 0
	Limits   Limits
	Rates    *Rates // what was learnt; nil: the assumptions

	// Weights are what an hour of a host of each tier is worth against the others; 30, 10, 3
	// and 1 if all are 0. Round the clock they count twice.
	Weights [4]float64
	// Model names what hosts have in common that treatments may fail on; nil: the column
	// "model" of the inventory.
	Model func(*inventory.Host) string
	// Service says that every site depends on a host, and which come first: 1 to 5. 0: none
	// does. nil: the column "service" of the inventory, see [Services].
	Service func(*inventory.Host) int
	// Held says why a host cannot be treated ("no recovery key"), or nothing.
	Held func(*inventory.Host) string
	// Names keeps the names of the hosts, which a [Planner] needs.
	Names bool
}

// Services are the values of the column "service", in the order in which the sites need them.
// The others of a line are other words for it.
func Services() [][]string {
	return [][]string{
		{"identity", "ad", "dc"}, {"dns", "dhcp"}, {"keys", "key-server"}, {"hypervisor"}, {"cmdb"},
	}
}

// ServiceOf returns the class of the service that all sites need of a host, by the column
// "service": 1 is the first of [Services], 0 is none.
func ServiceOf(h *inventory.Host) int {
	name := h.Labels["service"]
	if name == "" {
		return 0
	}
	return 1 + slices.IndexFunc(Services(), func(s []string) bool { return slices.Contains(s, strings.ToLower(name)) })
}

// noService is the class of a host that does no service to other sites.
const noService = 6

func (o *Options) fill() {
	if o.Calendar == nil {
		o.Calendar = calendar.New()
	}
	if o.Rates == nil {
		o.Rates = NewRates()
	}
	if o.Weights == [4]float64{} {
		o.Weights = [4]float64{30, 10, 3, 1}
	}
	o.Attempts = max(o.Attempts, 1)
	o.Limits.Slots = cmp.Or(max(o.Limits.Slots, 0), 64)
	o.Limits.Technicians = cmp.Or(max(o.Limits.Technicians, 0), 1)
	if o.Model == nil {
		o.Model = func(h *inventory.Host) string { return h.Labels["model"] }
	}
	if o.Service == nil {
		o.Service = ServiceOf
	}
}

// A Fleet is the hosts of a plan, counted: what stands still while the plan is worked off. It
// needs no more room for eight million hosts than their sites do.
type Fleet struct {
	Start time.Time
	Rates *Rates

	limits  Limits
	ladder  remediate.Ladder
	sites   []site   // by name
	buckets []bucket // by site, then cohort
	lanes   []lane   // by site
	kinds   []kind
	cohorts []cohort // by way, then model
	ways    []string
	people  []people

	names []string // sorted; nil if they were not kept
	hosts []member // of these
	total int
}

// A site is where hosts stand, in the plan.
type site struct {
	Place
	slots, hands int // caps; math.MaxInt32 if none
	people       int32
	alone        bool  // its people work nowhere else: their pool keeps the cap
	lanes, ends  int32 // its lanes
	hand, handTo int32 // those of them that people treat
	dues         int   // different ones
	trip         float64
	shift        *time.Location // by which its people work; nil: nobody knows, or round the clock
	gate         bool           // its dependency tier comes first: those of it that can be treated
}

// A Place is what is known of a site for all its hosts.
type Place struct {
	Site    string         `json:"site"`
	Country string         `json:"country,omitempty"`
	Region  string         `json:"region,omitempty"`
	Zone    string         `json:"zone,omitempty"`
	Clock   *time.Location `json:"-"`
	Held    map[string]int `json:"held,omitempty"` // hosts that cannot be treated, by why
	Hosts   int            `json:"hosts"`          // those that can
}

// A bucket is hosts of a site that are the same to the plan.
type bucket struct {
	due        float64 // hours since the start; infinite if not known
	weight     float32
	site, lane int32
	kind       int32
	next       int32 // where its hosts go on when this way fails; -1: nowhere
	hosts      int32 // at the beginning
	tier       inventory.Tier
	class      uint8 // of service
	dueIndex   uint8 // among those of its site
}

// A lane is the buckets of a site that are treated in one way, of one model.
type lane struct {
	site, cohort int32
	first, end   int32 // of its buckets
}

// A kind is a way of treating a model, and what comes after it.
type kind struct {
	cohort, next int32
	again        float32 // the share of failures that the same way is tried on again
}

// A cohort is one way with one model: what fails together.
type cohort struct {
	way   int32
	model string
	pool  Pool
}

// roamingName begins the names of those who go from site to site.
const roamingName = "technicians of "

// people are technicians who share work.
type people struct {
	name  string
	count int
}

// A member is one host of a fleet that keeps them.
type member struct {
	bucket, index int32
	group, subnet int32 // tokens; 0: none
}

// Hosts returns how many hosts there are to treat.
func (f *Fleet) Hosts() int { return f.total }

// Places returns what is known of each site, by name.
func (f *Fleet) Places() []Place {
	places := make([]Place, len(f.sites))
	for i := range f.sites {
		places[i] = f.sites[i].Place
	}
	return places
}

// hoursOf returns a moment as hours since the start.
func (f *Fleet) hoursOf(t time.Time) float64 { return t.Sub(f.Start).Hours() }

// At returns the moment so many hours after the start; the zero time for none.
func (f *Fleet) At(hours float64) time.Time {
	if math.IsInf(hours, 0) || math.Abs(hours) > 1e6 {
		return time.Time{}
	}
	return f.Start.Add(time.Duration(hours * float64(time.Hour)).Round(time.Second))
}
