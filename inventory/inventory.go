// Package inventory knows the fleet: which hosts there are, where they stand, and by which
// ways they can be reached. It knows nothing of keys, playbooks or repairs.
//
// A [Source] reads hosts from one place; [Load] reads every source, makes one host of what
// several say of one machine, and says of every row that cannot be used what is wrong with it
// and what would be right. [Incident] says which hosts an incident has probably hit.
package inventory

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"time"
)

// A Host is one machine, whatever number of systems know it.
//
// Only Name is always there. Serial and UUID are the SMBIOS values with surrounding space
// removed; they select a host and never authenticate it, because anyone can forge them.
type Host struct {
	Name   string   `json:"name"`
	Serial string   `json:"serial,omitempty"`
	UUID   string   `json:"uuid,omitempty"` // lower case, with hyphens
	MAC    []string `json:"mac,omitempty"`  // lower case, colons: "52:54:00:12:34:56"

	// Address is where Windows answers when it is up: a name or IP address, with ":port" if
	// it is not a standard one. Empty means Name.
	Address string `json:"address,omitempty"`

	Site       string `json:"site,omitempty"`
	Country    string `json:"country,omitempty"` // ISO 3166-1 alpha-2, upper case
	Region     string `json:"region,omitempty"`
	TimeZone   string `json:"timezone,omitempty"` // IANA name: "Australia/Sydney"
	Opens      string `json:"opens,omitempty"`    // "08:00", "Mon-Sat 07:30" or "24x7", local time
	Technician string `json:"technician,omitempty"`

	Tier  Tier   `json:"tier"`
	Group string `json:"group,omitempty"` // hosts of one group are never down together

	Routes []Route           `json:"routes,omitempty"` // ways in, in the order of the source
	Labels map[string]string `json:"labels,omitempty"` // columns nobody else claimed
	From   []Origin          `json:"from,omitempty"`   // which sources know it

	State     State      `json:"state,omitempty"`     // of its life; empty is in use
	Conflicts []Conflict `json:"conflicts,omitempty"` // what the sources do not agree on
}

// A State says that a host is not in use, and why.
type State string

// The states. A host in any of them is not touched.
const (
	InStock     State = "in-stock"
	Retired     State = "retired"
	NeverOnline State = "never-online" // on the books, but no system has ever seen it
)

// A Conflict is a field for which sources have different values; the first is the one in use. Or it
// is a value that several hosts have, which is used for none of them: it says whose it may be.
type Conflict struct {
	Field string `json:"field"`
	Says  []Said `json:"says"`
}

// A Said is what one source has for a field.
type Said struct {
	Value  string `json:"value"`
	Source string `json:"source"`
	Place  string `json:"place"`
}

// String names the field, then each value with its source.
func (c Conflict) String() string {
	var b strings.Builder
	b.WriteString(c.Field)
	for i, s := range c.Says {
		sep := ", "
		if i == 0 {
			sep = ": "
		}
		fmt.Fprintf(&b, "%s%q (%s)", sep, s.Value, s.Source)
	}
	return b.String()
}

// A Route is one way into a host: the driver that speaks its protocol, and the address that
// driver understands (a URL, an instance id, a MAC).
type Route struct {
	Driver  string `json:"driver"`
	Address string `json:"address"`
}

// An Origin says where a host was read.
type Origin struct {
	Source string `json:"source"`         // "csv", "servicenow", …
	Place  string `json:"place"`          // file or address
	Line   int    `json:"line,omitempty"` // 1-based; 0 where lines mean nothing

	// Seen is when the source last heard of the host; zero if it does not say. The host may
	// have been up for as much as Lag after it without the source's knowing.
	Seen time.Time     `json:"seen,omitzero"`
	Lag  time.Duration `json:"lag,omitempty"`
}

// Seen returns when any source last heard of the host, and zero if none says.
func (h *Host) Seen() (last time.Time) {
	for _, o := range h.From {
		if o.Seen.After(last) {
			last = o.Seen
		}
	}
	return last
}

// A Tier says how much depends on a host. Lower tiers start first.
type Tier uint8

// The tiers, most needed first. A host whose tier nobody named is Normal.
const (
	Dependency Tier = iota // others cannot work without it: DC, DNS, DHCP, key server
	Critical
	Normal
	Low
)

var tiers = [...]string{"dependency", "critical", "normal", "low"}

// String returns the tier's name as written in fleet.csv.
func (t Tier) String() string {
	if int(t) < len(tiers) {
		return tiers[t]
	}
	return fmt.Sprintf("tier(%d)", uint8(t))
}

// ParseTier returns the tier of that name, in any case. The empty name is Normal.
func ParseTier(name string) (Tier, error) {
	if name == "" {
		return Normal, nil
	}
	for i, s := range tiers {
		if strings.EqualFold(s, name) {
			return Tier(i), nil
		}
	}
	return Normal, fmt.Errorf("no tier %q; it is one of %s", name, strings.Join(tiers[:], ", "))
}

// MarshalText writes the tier's name.
func (t Tier) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (t *Tier) UnmarshalText(b []byte) (err error) {
	*t, err = ParseTier(string(b))
	return err
}

// A Source knows some of the hosts.
type Source interface {
	// Hosts yields every host that the source knows. A *RowError beside a zero Host is one
	// bad row, or with Warning a value that was put aside: the source goes on after it. Any
	// other error is the last thing it yields, and means that what came before is not all
	// there is.
	Hosts(ctx context.Context) iter.Seq2[Host, error]
}

// A Supplement is a Source that says more of hosts, and not which hosts there are: a DHCP server
// knows printers and telephones too. Beside other sources, what only supplements know is left
// out and counted.
type Supplement interface {
	Source
	Supplements()
}

// A RowError is one value that cannot be used, and what would be right in its place.
type RowError struct {
	Place  string `json:"place"`            // file
	Line   int    `json:"line"`             // 1-based; 0 where lines mean nothing
	Column string `json:"column,omitempty"` // as the header of the file has it
	Value  string `json:"value,omitempty"`
	Reason string `json:"reason"` // what is wrong: "not a time zone"
	Want   string `json:"want"`   // what would be right: "an IANA name such as Europe/Berlin"

	// Warning says that the row is used all the same, without the value.
	Warning bool `json:"warning,omitempty"`
}

// Error says place, column, value, what is wrong and what would be right, in one line.
func (e *RowError) Error() string {
	var b strings.Builder
	b.WriteString(e.Place)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	b.WriteString(": ")
	if e.Column != "" {
		fmt.Fprintf(&b, "column %q: ", e.Column)
	}
	if e.Value != "" {
		fmt.Fprintf(&b, "%q: ", e.Value)
	}
	b.WriteString(e.Reason)
	if e.Want != "" {
		fmt.Fprintf(&b, " (want %s)", e.Want)
	}
	return b.String()
}
