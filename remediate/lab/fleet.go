package lab

import (
	"fmt"
	"math/rand/v2"

	"unbrick/bitlocker"
	"unbrick/bitlocker/keytest"
	"unbrick/inventory"
	"unbrick/remediate"
	"unbrick/remediate/driver/redfish/redfishtest"
)

// A kind is what is wrong with a host.
type kind struct {
	name     string
	deserves remediate.Verdict

	faulty    bool // the faulty file is there
	good      bool // a good one is there
	sensor    bool // the software the incident is about is there
	encrypted bool // the volume is locked
	key       keyKind
	windows   int  // how many installations
	off       bool // the host was switched off by somebody
	broken    bool // does not start for a reason of its own
	dead      bool // nobody answers at the address of its BMC
	swapped   bool // another board than the inventory knows: other serial and UUID
}

type keyKind uint8

const (
	noKey    keyKind = iota
	rightKey         // the escrow has the volume's key
	wrongKey         // the escrow has other digits for the volume's protector
)

// kinds lists what can be wrong, the most common first.
func kinds() []kind {
	return []kind{
		{name: "faulty file", deserves: remediate.Fixed, faulty: true, sensor: true, windows: 1},
		{name: "encrypted", deserves: remediate.Fixed, faulty: true, sensor: true, windows: 1, encrypted: true, key: rightKey},
		{name: "healed by itself", deserves: remediate.Healthy, good: true, sensor: true, windows: 1},
		{name: "faulty and good file", deserves: remediate.Fixed, faulty: true, good: true, sensor: true, windows: 1},
		{name: "two Windows", deserves: remediate.Fixed, faulty: true, sensor: true, windows: 2},
		{name: "only the good file, switched off", deserves: remediate.Fixed, good: true, sensor: true, windows: 1, off: true},
		{name: "encrypted, no key on record", deserves: remediate.Failed, faulty: true, sensor: true, windows: 1, encrypted: true, key: noKey},
		{name: "encrypted, wrong key on record", deserves: remediate.Failed, faulty: true, sensor: true, windows: 1, encrypted: true, key: wrongKey},
		{name: "down for another reason", deserves: remediate.Failed, windows: 1, broken: true},
		{name: "BMC does not answer", deserves: remediate.Failed, faulty: true, sensor: true, windows: 1, dead: true},
		{name: "board was swapped", deserves: remediate.Failed, faulty: true, sensor: true, windows: 1, swapped: true},
	}
}

// share says how many hosts of a hundred are of each kind; the first takes what is left.
var share = [...]int{0, 25, 8, 5, 4, 3, 2, 2, 2, 2, 2}

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
	all, places := kinds(), sites()
	fleet := make([]spec, o.Hosts)
	for i := range fleet {
		k := all[0]
		if !o.Plain {
			k = all[pick(rng, i)]
		}
		fleet[i] = newSpec(rng, i, k, places[rng.IntN(len(places))])
	}
	return fleet
}

// pick chooses a kind. The first hosts after the canaries go through all kinds once, so that
// a small fleet has some of each; the rest is by share.
func pick(rng *rand.Rand, i int) int {
	if n := i/2 - 3; i%2 == 0 && n > 0 && n < len(share) {
		return n
	}
	p := rng.IntN(100)
	for k := 1; k < len(share); k++ {
		if p -= share[k]; p < 0 {
			return k
		}
	}
	return 0
}

func newSpec(rng *rand.Rand, i int, k kind, at site) spec {
	b := newBoard(rng)
	s := spec{kind: k, model: at.model, board: b}
	s.Host = inventory.Host{
		Name: fmt.Sprintf("%s-%05d", at.name, i+1), Serial: b.serial, UUID: b.uuid, MAC: []string{b.mac},
		Site: at.name, Country: at.country, Region: at.region, TimeZone: at.zone, Opens: at.opens,
		Tier: tier(rng),
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
