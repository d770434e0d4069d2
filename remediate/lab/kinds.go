package lab

import (
	"slices"

	"unbrick/remediate"
	"unbrick/remediate/driver/redfish/redfishtest"
)

// A kind is what is wrong with a host, and how it can be reached.
type kind struct {
	name     string
	deserves remediate.Verdict
	by       string   // the way that ends so; empty: it does not matter
	ways     []string // drivers of the routes that the inventory has

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

	shaky      bool // Windows is up for a while before it crashes
	halts      bool // after a crash it stays at the recovery screen until it is restarted
	fetches    int  // at this start since the beginning its sensor fetches the good file; 0: never
	unlicensed bool // the BMC inserts no images
	oldAMT     bool // AMT of before One-Click Recovery
}

type keyKind uint8

const (
	noKey    keyKind = iota
	rightKey         // the escrow has the volume's key
	wrongKey         // the escrow has other digits for the volume's protector
)

// sick is a host with the faulty file that is reached by these ways.
func sick(name string, deserves remediate.Verdict, by string, ways ...string) kind {
	return kind{name: name, deserves: deserves, by: by, ways: ways, faulty: true, sensor: true, windows: 1}
}

func (k kind) with(change func(*kind)) kind {
	change(&k)
	return k
}

// product is the model of the host, at a site with servers of a make. Clients have no BMC.
func (k kind) product(make redfishtest.Model) string {
	switch {
	case slices.Contains(k.ways, "amt"):
		return "OptiPlex 7090"
	case slices.Contains(k.ways, "redfish") || slices.Contains(k.ways, "ipmi"):
		return make.Product
	}
	return "Latitude 5420"
}

// kinds lists what can be wrong with hosts behind BMCs that speak Redfish, the most common first.
func kinds() []kind {
	const way = "redfish"
	return []kind{
		sick("faulty file", remediate.Fixed, way, way),
		sick("encrypted", remediate.Fixed, way, way).with(func(k *kind) { k.encrypted, k.key = true, rightKey }),
		sick("healed by itself", remediate.Healthy, "", way).with(func(k *kind) { k.faulty, k.good = false, true }),
		sick("faulty and good file", remediate.Fixed, way, way).with(func(k *kind) { k.good = true }),
		sick("two Windows", remediate.Fixed, way, way).with(func(k *kind) { k.windows = 2 }),
		sick("only the good file, switched off", remediate.Fixed, way, way).with(func(k *kind) { k.faulty, k.good, k.off = false, true, true }),
		sick("encrypted, no key on record", remediate.Failed, "", way).with(func(k *kind) { k.encrypted = true }),
		sick("encrypted, wrong key on record", remediate.Failed, "", way).with(func(k *kind) { k.encrypted, k.key = true, wrongKey }),
		sick("down for another reason", remediate.Failed, "", way).with(func(k *kind) { k.faulty, k.sensor, k.broken = false, false, true }),
		sick("BMC does not answer", remediate.Failed, "", way).with(func(k *kind) { k.dead = true }),
		sick("board was swapped", remediate.Failed, "", way).with(func(k *kind) { k.swapped = true }),
	}
}

// rungs lists hosts for which another way in is needed, or more than one. Those that fetch the
// good file do so at the second or third counted restart: the first start was before the run,
// and a BMC without a licence was off and on once when it refused the image.
func rungs() []kind {
	const restart = "restart"
	halting := func(fetches int, more func(*kind)) func(*kind) {
		return func(k *kind) { k.halts, k.fetches = true, fetches; more(k) }
	}
	unlicensed, none := func(k *kind) { k.unlicensed = true }, func(*kind) {}
	return []kind{
		sick("up between two crashes", remediate.Fixed, "winrm", "winrm").with(func(k *kind) { k.shaky = true }),
		sick("WinRM never answers, BMC does", remediate.Fixed, "redfish", "winrm", "redfish"),
		sick("AMT boots the image", remediate.Fixed, "amt", "amt").with(func(k *kind) { k.encrypted, k.key = true, rightKey }),
		sick("BMC without a licence, fetches the good file", remediate.Healthy, restart, "redfish").with(halting(4, unlicensed)),
		sick("IPMI alone, fetches the good file", remediate.Healthy, restart, "ipmi").with(halting(3, none)),
		sick("AMT too old to boot, fetches the good file", remediate.Healthy, restart, "amt").with(halting(4, func(k *kind) { k.oldAMT = true })),
		sick("BMC without a licence, fetches nothing", remediate.Failed, restart, "redfish").with(halting(0, unlicensed)),
		sick("IPMI alone, fetches nothing", remediate.Failed, restart, "ipmi").with(halting(0, none)),
	}
}

// forPerson is a host that nobody reaches from afar.
func forPerson() kind {
	return sick("a person has to go there", remediate.Waiting, remediate.Manual, remediate.Manual)
}

// share and rungShare say how many hosts of a hundred are of each kind; the first takes what is
// left.
var (
	share     = [...]int{0, 25, 8, 5, 4, 3, 2, 2, 2, 2, 2}
	rungShare = [...]int{5, 3, 3, 3, 3, 2, 1, 1}
)
