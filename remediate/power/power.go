// Package power is what those share who switch hosts on and off from outside: BMCs by
// Redfish or IPMI, and Intel AMT. Ways in that need nothing else of a controller, network
// boot and counted restarts, are built on it.
package power

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"unbrick/inventory"
	"unbrick/remediate"
)

// A State is whether a host has power.
type State string

// The states, spelt as remediate.Posture.Power.
const (
	On      State = "on"
	Off     State = "off"
	Unknown State = "unknown"
)

// A Source is what a host starts from.
type Source string

// The sources.
const (
	Disk    Source = "disk"    // as its firmware is set up: no override
	Network Source = "network" // by PXE, at the next start alone
)

// A Switch is the controller of a host, as far as power goes. The address of its route is the
// controller's. Every method may be cut off anywhere and called again by another process; it
// looks before it acts, and returns soon after its context ends.
type Switch interface {
	// Power returns how the host stands, and changes nothing.
	Power(ctx context.Context, t remediate.Target) (State, error)
	// Turn switches the host hard, On or Off, and returns when the controller shows it. A host
	// that stands so already is left alone.
	Turn(ctx context.Context, t remediate.Target, s State) error
	// Next sets what the next start boots. Some controllers forget it a minute later, and some
	// take it only while the power is off: callers turn the host off first and on right after.
	Next(ctx context.Context, t remediate.Target, from Source) error
}

// Switches are the ones that a program knows, by the name of their driver.
type Switches map[string]Switch

// preference is the order in which a host's controllers are tried that an address does not
// name: the ones that can tell most come first.
var preference = [...]string{"redfish", "ipmi", "amt"}

// For returns the switch that the route's address names, as in "ipmi:10.1.2.3", and the
// target as that switch wants it: with the controller's own route, so that its credentials are
// found. An address of "auto" or "yes" means the first of the host's other routes that has one.
func (s Switches) For(t remediate.Target) (Switch, remediate.Target, error) {
	kind, address, ok := strings.Cut(t.Route.Address, ":")
	if sw := s[kind]; ok && sw != nil {
		t.Route = inventory.Route{Driver: kind, Address: address}
		return sw, t, nil
	}
	if t.Route.Address != "auto" && t.Route.Address != "yes" {
		return nil, t, fmt.Errorf("cannot tell what switches host %s on: %q is neither auto nor a controller as in ipmi:10.1.2.3",
			t.Host.Name, t.Route.Address)
	}
	for _, kind := range preference {
		i := slices.IndexFunc(t.Host.Routes, func(r inventory.Route) bool { return r.Driver == kind })
		if sw := s[kind]; i >= 0 && sw != nil {
			t.Route = t.Host.Routes[i]
			return sw, t, nil
		}
	}
	return nil, t, fmt.Errorf("host %s has no redfish, ipmi or amt address: nothing can switch it on", t.Host.Name)
}
