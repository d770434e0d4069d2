// Package lab is a fleet to play with and to test on: simulated hosts behind simulated BMCs,
// all listening on loopback.
//
// A simulated host is more than a mock: its controller speaks Redfish with the quirks of its
// vendor, IPMI or what Intel AMT speaks; it fetches the rescue image as BMCs and firmware do,
// and runs the real fixer against a volume in memory; while it is up, WinRM answers, and moves
// files on that same volume. What it is not is a computer: no firmware, no NTFS, no Windows.
// Package lab/vm has hosts that are.
package lab

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"unbrick/bitlocker/keytest"
	"unbrick/inventory"
	"unbrick/remediate"
	"unbrick/remediate/driver/redfish/redfishtest"
	"unbrick/remediate/lab/vm"
)

// Options say what fleet to build.
type Options struct {
	Hosts int    // how many simulated hosts
	Seed  uint64 // the same seed makes the same fleet
	Dir   string // where fleet.csv, keys.csv, unbrick.yaml and actions.jsonl go

	// Pace is how long the short things take: power-on self-test, a crash. Real hosts take
	// minutes; 300 ms lets a person watch. Zero means no waiting at all.
	Pace time.Duration

	Plain   bool // every host has the faulty file and nothing else is wrong with any
	Persons int  // so many more hosts that nobody reaches from afar: a run waits for a person

	// Clouds adds platforms of virtual hosts, each with a helper, a few hosts and one that must not
	// be stopped: names of Clouds().
	Clouds []string

	// VM adds two hosts that are real, the second with a BitLocker volume. It needs Linux, QEMU
	// and what unbrick image build needs.
	VM  bool
	Say func(line string) // told what takes long; may be nil
}

// A Lab is a fleet that is listening.
type Lab struct {
	Dir     string
	members []member
	log     *actionLog
	served  *places // nil until they are held
	front   *front

	clouds  []*cloud
	helpers sync.WaitGroup
	dismiss context.CancelFunc // of the helpers; nil: there are none
}

// A member is a host of the lab, simulated or real.
type member interface {
	inventory() inventory.Host
	deserves() (v remediate.Verdict, by string)
	powerOn()
	filing() (keytest.Filing, bool) // what the escrow has for it
	left() []string                 // what was not put back
	close()
}

// Start builds the fleet, switches it on, and writes its files into o.Dir: fleet.csv,
// keys.csv, unbrick.yaml with the secrets it refers to, and stub, an image that only simulated
// hosts can boot.
func Start(ctx context.Context, o Options) (_ *Lab, err error) {
	if o.Hosts < 0 || o.Persons < 0 || o.Hosts+o.Persons+len(o.Clouds) == 0 && !o.VM {
		return nil, fmt.Errorf("a lab needs at least one host, not %d", o.Hosts)
	}
	if o.Say == nil {
		o.Say = func(string) {}
	}
	if o.Dir, err = filepath.Abs(o.Dir); err == nil {
		err = os.MkdirAll(o.Dir, 0o755)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot make the lab's folder: %w", err)
	}
	l := &Lab{Dir: o.Dir}
	if l.log, err = openActions(filepath.Join(o.Dir, "actions.jsonl")); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			l.Close()
		}
	}()
	served, err := newPlaces()
	if err != nil {
		return nil, err
	}
	l.served = &served
	certificate, err := redfishtest.NewCertificate() // one for all: the pin of each is its own
	if err != nil {
		return nil, err
	}
	if l.front, err = newFront(certificate, served.images.Address()); err != nil {
		return nil, err
	}
	if err := l.build(ctx, o, certificate); err != nil {
		return nil, err
	}
	if len(l.clouds) > 0 {
		if err := l.startHelpers(ctx, o.Dir, "https://"+served.agents.Address()); err != nil {
			return nil, fmt.Errorf("cannot start helpers: %w", err)
		}
	}
	if err := l.writeFiles(o, served, certificate); err != nil {
		return nil, err
	}
	for _, m := range l.members {
		m.powerOn()
	}
	return l, nil
}

func (l *Lab) build(ctx context.Context, o Options, certificate *tls.Certificate) error {
	for _, spec := range newFleet(o) {
		h, err := newHost(spec, o, certificate, l.front, l.log)
		if err != nil {
			return fmt.Errorf("cannot start host %s: %w", spec.Name, err)
		}
		l.members = append(l.members, h)
	}
	for _, name := range o.Clouds {
		if err := l.startCloud(o, name); err != nil {
			return err
		}
	}
	if !o.VM {
		return nil
	}
	hosts, err := newRealHosts(ctx, o, l.log)
	for _, h := range hosts {
		l.members = append(l.members, h)
	}
	return err
}

// Close switches everything off.
func (l *Lab) Close() error {
	if l.dismiss != nil {
		l.dismiss()
		l.helpers.Wait()
	}
	var wg sync.WaitGroup
	for _, m := range l.members {
		wg.Go(m.close)
	}
	wg.Wait()
	for _, c := range l.clouds {
		c.server.Close()
	}
	if l.front != nil {
		l.front.close()
	}
	if l.served != nil {
		l.served.close()
	}
	return l.log.Close()
}

// Hosts returns the fleet as an inventory would.
func (l *Lab) Hosts() []inventory.Host {
	hosts := make([]inventory.Host, len(l.members))
	for i, m := range l.members {
		hosts[i] = m.inventory()
	}
	return hosts
}

// Truth returns the verdict that each host, by name, deserves: the lab knows what it built. One
// that waits for a person does so in a run that does not (--no-wait).
func (l *Lab) Truth() map[string]remediate.Verdict {
	truth := make(map[string]remediate.Verdict, len(l.members))
	for _, m := range l.members {
		truth[m.inventory().Name], _ = m.deserves()
	}
	return truth
}

// Ways returns the way by which each host, by name, comes to its verdict. Hosts are not in it
// for which that does not matter.
func (l *Lab) Ways() map[string]string {
	ways := map[string]string{}
	for _, m := range l.members {
		if _, by := m.deserves(); by != "" {
			ways[m.inventory().Name] = by
		}
	}
	return ways
}

// Leftovers says, a line each, what was not put back: media in a BMC, a start from elsewhere, a
// session, a host without power.
func (l *Lab) Leftovers() []string {
	var left []string
	for _, m := range l.members {
		for _, line := range m.left() {
			left = append(left, m.inventory().Name+": "+line)
		}
	}
	return left
}

// Real returns the hosts that are real, by name.
func (l *Lab) Real() map[string]*vm.Machine {
	machines := map[string]*vm.Machine{}
	for _, m := range l.members {
		if h, ok := m.(*realHost); ok {
			machines[h.Name] = h.machine
		}
	}
	return machines
}
