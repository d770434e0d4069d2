package schedule

import (
	"cmp"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Rates are how long treatments take and how often they fail, by way and model: assumptions
// first, and the better the more outcomes were seen. The zero Rates are not ready; use
// [NewRates].
type Rates struct {
	ways   map[string]tally
	models map[wayModel]tally
	assume map[string]Assumption
}

type wayModel struct{ way, model string }

// A tally is outcomes that were seen.
type tally struct {
	n, failed int
	hours     float64
}

// An Assumption is what is thought of a way before any outcome was seen.
type Assumption struct {
	Minutes float64
	Failed  float64 // share, 0 to 1
}

// assumptions come from scheduling.md, section 5, which assumed them too: netboot and restart
// are guesses of our own beside them.
func assumptions() map[string]Assumption {
	cloud := Assumption{10, 0.04}
	return map[string]Assumption{
		"manual": {12, 0.04}, "amt": {16, 0.18}, "redfish": {14, 0.08}, "winrm": {4, 0.25},
		"netboot": {16, 0.12}, "restart": {25, 0.6},
		"libvirt": cloud, "ec2": cloud, "azure": cloud, "gce": cloud, "vsphere": cloud, "vsphere-iso": cloud,
		"hyperv": cloud, "proxmox": cloud, "openstack": cloud,
		"libvirt-rollback": cloud, "vsphere-rollback": cloud, "proxmox-rollback": cloud,
	}
}

// How much an assumption weighs against outcomes.
const (
	// shape is that of a Gamma distribution as wide as the times are: a lognormal one with
	// σ = 0.5 varies by 53 %, and a Gamma one of shape 3.5 does.
	shape = 3.5
	// assumedShape makes the mean uncertain by 30 %: worth about four hosts.
	assumedShape = 13
	// assumedHosts is how many hosts the assumed share of failures is worth.
	assumedHosts = 20
)

// NewRates returns what is assumed.
func NewRates() *Rates {
	return &Rates{ways: map[string]tally{}, models: map[wayModel]tally{}, assume: assumptions()}
}

// Assume replaces what is assumed of a way.
func (r *Rates) Assume(way string, a Assumption) { r.assume[way] = a }

// Clone returns rates that learn on their own.
func (r *Rates) Clone() *Rates {
	c := NewRates()
	for k, v := range r.ways {
		c.ways[k] = v
	}
	for k, v := range r.models {
		c.models[k] = v
	}
	for k, v := range r.assume {
		c.assume[k] = v
	}
	return c
}

// Learn takes in hosts of a model that were treated by a way: n of them, of which so many
// failed, for so long together. Time in which they waited for a person does not count.
func (r *Rates) Learn(way, model string, n, failed int, took time.Duration) {
	add := func(t tally) tally { return tally{t.n + n, t.failed + failed, t.hours + took.Hours()} }
	r.ways[way] = add(r.ways[way])
	if model != "" {
		k := wayModel{way, model}
		r.models[k] = add(r.models[k])
	}
}

// A belief is what is thought of a way: a Gamma distribution of the inverse of its mean time,
// and a Beta distribution of its share of failures.
type belief struct{ a, b, alpha, beta float64 }

// believe starts at a mean time and a share of failures, and takes in what was seen.
func believe(hours, failed float64, t tally) belief {
	return belief{
		a: assumedShape + shape*float64(t.n), b: (assumedShape-1)/shape*hours + t.hours,
		alpha: failed*assumedHosts + float64(t.failed), beta: (1-failed)*assumedHosts + float64(t.n-t.failed),
	}
}

func (b belief) hours() float64  { return shape * b.b / (b.a - 1) }
func (b belief) failed() float64 { return b.alpha / (b.alpha + b.beta) }

func (r *Rates) wayBelief(way string) belief {
	a, ok := r.assume[way]
	if !ok {
		a = Assumption{15, 0.1}
	}
	return believe(a.Minutes/60, a.Failed, r.ways[way])
}

// Mean returns how long a treatment is thought to take, in hours, and the share of them that is
// thought to fail. A model about which little is known is taken for one as all of its way are.
func (r *Rates) Mean(way, model string) (hours, failed float64) {
	b := r.wayBelief(way)
	if t := r.models[wayModel{way, model}]; t.n > 0 {
		b = believe(b.hours(), b.failed(), t)
	}
	return b.hours(), b.failed()
}

// Spread is σ of the lognormal distribution that times of one way and model are taken to have.
const Spread = 0.5

// Patience returns how long a treatment may be silent before it counts as failed: three times
// what 95 % of them need at most.
func (r *Rates) Patience(way, model string) time.Duration {
	hours, _ := r.Mean(way, model)
	p95 := hours * math.Exp(1.645*Spread-Spread*Spread/2)
	return time.Duration(3 * p95 * float64(time.Hour))
}

// Baselines returns the share of failures that is assumed of each way, and of controllers that
// cannot be reached: a tenth. It is what package halt starts from.
func (r *Rates) Baselines() map[string]float64 {
	all := map[string]float64{"connector": 0.1}
	for way, a := range r.assume {
		all[way] = a.Failed
	}
	return all
}

// Sample draws a mean time and a share of failures that may be the true ones, for each of the
// ways and models. What is not known of a way is not known of all its models alike.
func (r *Rates) Sample(rng *rand.Rand, ways, models []string) (hours, failed []float64) {
	drawn := map[string][2]float64{}
	for i, way := range ways {
		w, ok := drawn[way]
		if !ok {
			w[0], w[1] = r.wayBelief(way).draw(rng)
			drawn[way] = w
		}
		h, f := w[0], w[1]
		if t := r.models[wayModel{way, models[i]}]; t.n > 0 {
			h, f = believe(h, f, t).draw(rng)
		}
		hours, failed = append(hours, h), append(failed, f)
	}
	return hours, failed
}

func (b belief) draw(rng *rand.Rand) (hours, failed float64) {
	x, y := gamma(rng, b.alpha), gamma(rng, b.beta)
	return shape * b.b / gamma(rng, b.a), x / (x + y)
}

// gamma draws from the Gamma distribution of a shape and scale 1, after Marsaglia and Tsang.
func gamma(rng *rand.Rand, a float64) float64 {
	if a < 1 {
		return gamma(rng, a+1) * math.Pow(1-rng.Float64(), 1/max(a, 1e-9))
	}
	d := a - 1.0/3
	c := 1 / math.Sqrt(9*d)
	for {
		x := rng.NormFloat64()
		v := 1 + c*x
		if v <= 0 {
			continue
		}
		v = v * v * v
		if math.Log(1-rng.Float64()) < x*x/2+d-d*v+d*math.Log(v) {
			return d * v
		}
	}
}

// An Experience is what was learnt of a way and a model.
type Experience struct {
	Way, Model    string
	Hosts, Failed int
	Took          time.Duration
}

// Experiences returns what was learnt, by way and model.
func (r *Rates) Experiences() []Experience {
	var all []Experience
	rest := maps.Clone(r.ways)
	add := func(way, model string, t tally) {
		all = append(all, Experience{way, model, t.n, t.failed, time.Duration(math.Round(t.hours * float64(time.Hour)))})
	}
	for k, t := range r.models {
		add(k.way, k.model, t)
		w := rest[k.way]
		rest[k.way] = tally{w.n - t.n, w.failed - t.failed, w.hours - t.hours}
	}
	for way, t := range rest {
		if t.n > 0 {
			add(way, "", t)
		}
	}
	slices.SortFunc(all, func(a, b Experience) int {
		return cmp.Or(cmp.Compare(a.Way, b.Way), cmp.Compare(a.Model, b.Model))
	})
	return all
}
