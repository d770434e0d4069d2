package lab

import (
	"fmt"
	"math/rand/v2"

	"unbrick/bitlocker"
	"unbrick/bitlocker/keytest"
	"unbrick/inventory"
	"unbrick/remediate/driver/redfish/redfishtest"
)

// A site is a place with its zone, its opening and the maker of its servers.
type site struct {
	name, country, region, zone, opens string
	model                              redfishtest.Model
}

func sites() []site {
	return []site{
		{"AKL", "NZ", "APAC", "Pacific/Auckland", "08:00", redfishtest.IDRAC9()},
		{"SYD", "AU", "APAC", "Australia/Sydney", "08:30", redfishtest.ILO5()},
		{"TYO", "JP", "APAC", "Asia/Tokyo", "09:00", redfishtest.XCC()},
		{"DXB", "AE", "EMEA", "Asia/Dubai", "08:00", redfishtest.Supermicro()},
		{"FRA", "DE", "EMEA", "Europe/Berlin", "07:00", redfishtest.IDRAC10()},
		{"LON", "GB", "EMEA", "Europe/London", "24x7", redfishtest.OpenBMC()},
		{"NYC", "US", "AMER", "America/New_York", "Mon-Sat 08:00", redfishtest.IDRAC9()},
		{"LAX", "US", "AMER", "America/Los_Angeles", "08:00", redfishtest.ILO5()},
	}
}

// A spec is a host before it is switched on.
type spec struct {
	inventory.Host
	number    int
	kind      kind
	model     redfishtest.Model
	board     board // what it says of itself when it runs
	protector bitlocker.KeyID
	key       bitlocker.Key // opens the volume
	escrowed  bitlocker.Key // what the escrow has: the same, another, or none
}

type board struct{ uuid, serial, mac string }

// newFleet decides everything about every host, from the seed alone.
func newFleet(o Options) []spec {
	rng := rand.New(rand.NewPCG(o.Seed, 291))
	places := sites()
	fleet := make([]spec, o.Hosts+o.Persons)
	for i := range fleet {
		k := kinds()[0]
		switch {
		case i >= o.Hosts:
			k = forPerson()
		case !o.Plain:
			k = pick(rng, i)
		}
		fleet[i] = newSpec(rng, i, k, places[rng.IntN(len(places))])
	}
	return fleet
}

// canaries are the first hosts of every fleet. They are of the common kinds.
const canaries = 8

// pick chooses a kind. The first hosts after the canaries go through all kinds once, so that
// a small fleet has some of each; the rest is by share.
func pick(rng *rand.Rand, i int) kind {
	common, others := kinds(), rungs()
	switch n := (i-canaries)/2 + 1; {
	case i >= canaries && i%2 == 0 && n < len(common):
		return common[n]
	case i >= canaries && i%2 == 1 && n <= len(others):
		return others[n-1]
	}
	p := rng.IntN(100)
	for k := 1; k < len(share); k++ {
		if p -= share[k]; p < 0 {
			return common[k]
		}
	}
	for k := 0; i >= canaries && k < len(rungShare); k++ {
		if p -= rungShare[k]; p < 0 {
			return others[k]
		}
	}
	return common[0]
}

func newSpec(rng *rand.Rand, i int, k kind, at site) spec {
	b := newBoard(rng)
	s := spec{number: i, kind: k, model: at.model, board: b}
	s.Host = inventory.Host{
		Name: fmt.Sprintf("%s-%05d", at.name, i+1), Serial: b.serial, UUID: b.uuid, MAC: []string{b.mac},
		Site: at.name, Country: at.country, Region: at.region, TimeZone: at.zone, Opens: at.opens,
		Tier: tier(rng), Labels: map[string]string{"model": k.product(at.model)},
	}
	if k.swapped {
		s.board = newBoard(rng)
	}
	if k.encrypted {
		s.protector, s.key = keytest.NewKeyID(rng), keytest.NewKey(rng)
		switch k.key {
		case rightKey:
			s.escrowed = s.key
		case wrongKey:
			s.escrowed = keytest.NewKey(rng)
		}
	}
	return s
}

func newBoard(rng *rand.Rand) board {
	a, b, c := rng.Uint32(), rng.Uint64(), rng.Uint32()
	return board{
		uuid:   fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", a, c&0xffff, c>>16&0xfff, b>>48&0xfff, b&0xffffffffffff),
		serial: fmt.Sprintf("SN%08X", a),
		mac:    fmt.Sprintf("02:%02x:%02x:%02x:%02x:%02x", a>>24, a>>16&0xff, a>>8&0xff, a&0xff, c&0xff),
	}
}

func tier(rng *rand.Rand) inventory.Tier {
	switch p := rng.IntN(100); {
	case p < 4:
		return inventory.Dependency
	case p < 15:
		return inventory.Critical
	case p < 75:
		return inventory.Normal
	}
	return inventory.Low
}
