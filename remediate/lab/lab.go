// Package lab is a fleet to play with and to test on: simulated hosts behind simulated BMCs,
// all listening on loopback.
//
// A simulated host is more than a mock: its BMC speaks Redfish with the quirks of its vendor,
// it fetches the rescue image over HTTP as a BMC does, and it runs the real fixer against a
// volume in memory. What it is not is a computer: no firmware, no NTFS, no Windows. Package
// lab/vm has hosts that are.
package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"unbrick/inventory"
	"unbrick/remediate"
	"unbrick/remediate/driver/redfish/redfishtest"
)

// Options say what fleet to build.
type Options struct {
	Hosts int    // how many simulated hosts
	Seed  uint64 // the same seed makes the same fleet
	Dir   string // where fleet.csv, keys.csv, unbrick.yaml and actions.jsonl go

	// Pace is how long the short things take: power-on self-test, a crash. Real hosts take
	// minutes; 300 ms lets a person watch. Zero means no waiting at all.
	Pace time.Duration

	Plain bool // every host has the faulty file and nothing else is wrong with any
}

// A Lab is a fleet that is listening.
type Lab struct {
	Dir   string
	hosts []*host
	log   *actionLog
}

// Start builds the fleet, switches it on, and writes its files into o.Dir: fleet.csv,
// keys.csv, unbrick.yaml with the secret it refers to, and stub.iso, an image that only
// simulated hosts can boot.
func Start(o Options) (*Lab, error) {
	if o.Hosts < 1 {
		return nil, fmt.Errorf("a lab needs at least one host, not %d", o.Hosts)
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot make the lab's folder: %w", err)
	}
	log, err := openActions(filepath.Join(o.Dir, "actions.jsonl"))
	if err != nil {
		return nil, err
	}
	l := &Lab{Dir: o.Dir, log: log}
	fleet, err := newFleet(o)
	if err != nil {
		return nil, err
	}
	for _, spec := range fleet {
		h, err := newHost(spec, o, log)
		if err != nil {
			l.Close()
			return nil, fmt.Errorf("cannot start host %s: %w", spec.Name, err)
		}
		l.hosts = append(l.hosts, h)
	}
	if err := l.writeFiles(o); err != nil {
		l.Close()
		return nil, err
	}
	for _, h := range l.hosts {
		if !h.kind.off {
			h.Start(redfishtest.Boot{Device: redfishtest.Hdd})
		}
	}
	return l, nil
}

// Close switches everything off.
func (l *Lab) Close() error {
	var wg sync.WaitGroup
	for _, h := range l.hosts {
		wg.Go(h.close)
	}
	wg.Wait()
	return l.log.Close()
}

// Hosts returns the fleet as an inventory would.
func (l *Lab) Hosts() []inventory.Host {
	hosts := make([]inventory.Host, len(l.hosts))
	for i, h := range l.hosts {
		hosts[i] = h.inventory()
	}
	return hosts
}

// Truth returns the verdict that each host, by name, deserves: the lab knows what it built.
func (l *Lab) Truth() map[string]remediate.Verdict {
	truth := make(map[string]remediate.Verdict, len(l.hosts))
	for _, h := range l.hosts {
		truth[h.Name] = h.kind.deserves
	}
	return truth
}
