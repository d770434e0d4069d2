package inventory

import (
	"net/netip"
	"path"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/expr-lang/expr/vm"
)

// facts are a host as a selector sees it: all texts in lower case.
type facts struct {
	Name       string   `expr:"name"`
	Serial     string   `expr:"serial"`
	UUID       string   `expr:"uuid"`
	MAC        []string `expr:"mac"`
	Address    string   `expr:"address"`
	Site       string   `expr:"site"`
	Country    string   `expr:"country"`
	Region     string   `expr:"region"`
	TimeZone   string   `expr:"timezone"`
	Opens      string   `expr:"opens"`
	Technician string   `expr:"technician"`
	Tier       string   `expr:"tier"`
	Group      string   `expr:"group"`
	State      string   `expr:"state"`
	Ways       []string `expr:"ways"` // drivers of the routes

	// What most sources keep as labels.
	Model    string `expr:"model"`
	Vendor   string `expr:"vendor"`
	OS       string `expr:"os"`
	Affected string `expr:"affected"`

	Seen      time.Time `expr:"seen"`
	Sources   []string  `expr:"sources"`
	Conflicts []string  `expr:"conflicts"` // fields

	Like   func(string, string) bool `expr:"like"`
	Subnet func(string, string) bool `expr:"subnet"`
	Label  func(string) string       `expr:"label"` // what labels.x becomes

	labels map[string]string // of the host
}

// SelectorFields returns the names of the fields that a selector may ask for, labels apart.
func SelectorFields() []string {
	var names []string
	for f := range reflect.TypeFor[facts]().Fields() {
		if name := f.Tag.Get("expr"); name != "" && f.Type.Kind() != reflect.Func {
			names = append(names, name)
		}
	}
	return names
}

// inUse is the state of a host that has none.
const inUse = "in-use"

// closedFields are the fields whose values are known, with these values.
func closedFields() map[string][]string {
	return map[string][]string{
		"tier":     tiers[:],
		"state":    {inUse, string(InStock), string(Retired), string(NeverOnline)},
		"affected": {string(Likely), string(Possible), string(Unlikely), string(Out), ""},
		"ways":     slices.Clone(ways),
	}
}

// A matcher is what one evaluation needs.
type matcher struct {
	vm    vm.VM
	facts facts
}

func newMatcher() *matcher {
	m := new(matcher)
	m.facts.Like, m.facts.Subnet, m.facts.Label = like, subnet, m.facts.label
	return m
}

// fill takes of a host what needs names; there a field is not zero. Most of the time of a
// match would go to fields that nobody asks for.
func (f *facts) fill(needs *facts, h *Host) {
	f.labels = h.Labels
	text := func(to *string, need, v string) {
		if need != "" {
			*to = strings.ToLower(v)
		}
	}
	text(&f.Name, needs.Name, h.Name)
	text(&f.Serial, needs.Serial, h.Serial)
	text(&f.UUID, needs.UUID, h.UUID)
	text(&f.Address, needs.Address, h.Address)
	text(&f.Site, needs.Site, h.Site)
	text(&f.Country, needs.Country, h.Country)
	text(&f.Region, needs.Region, h.Region)
	text(&f.TimeZone, needs.TimeZone, h.TimeZone)
	text(&f.Opens, needs.Opens, h.Opens)
	text(&f.Technician, needs.Technician, h.Technician)
	text(&f.Group, needs.Group, h.Group)
	text(&f.State, needs.State, string(h.State))
	if f.State == "" {
		f.State = inUse
	}
	if needs.Tier != "" {
		f.Tier = h.Tier.String()
	}
	if needs.Address != "" && f.Address == "" {
		f.Address = strings.ToLower(h.Name) // what an empty address means
	}
	f.fillLabels(needs)
	f.fillLists(needs, h)
	if !needs.Seen.IsZero() {
		f.Seen = h.Seen()
	}
}

func (f *facts) fillLabels(needs *facts) {
	for _, l := range []struct {
		to   *string
		need string
		keys []string
	}{
		{&f.Model, needs.Model, []string{"model"}}, {&f.Vendor, needs.Vendor, []string{"vendor", "manufacturer", "maker"}},
		{&f.OS, needs.OS, []string{"os"}}, {&f.Affected, needs.Affected, []string{AffectedLabel}},
	} {
		if l.need == "" {
			continue
		}
		*l.to = ""
		for _, key := range l.keys {
			if *l.to == "" {
				*l.to = f.label(key)
			}
		}
	}
}

func (f *facts) fillLists(needs *facts, h *Host) {
	if needs.MAC != nil {
		f.MAC = h.MAC // in lower case by contract
	}
	if needs.Ways != nil {
		f.Ways = f.Ways[:0]
		for _, r := range h.Routes {
			f.Ways = append(f.Ways, strings.ToLower(r.Driver))
		}
	}
	if needs.Sources != nil {
		f.Sources = f.Sources[:0]
		for _, o := range h.From {
			f.Sources = append(f.Sources, strings.ToLower(o.Source))
		}
	}
	if needs.Conflicts != nil {
		f.Conflicts = f.Conflicts[:0]
		for _, c := range h.Conflicts {
			f.Conflicts = append(f.Conflicts, strings.ToLower(c.Field))
		}
	}
}

// label returns a label of the host in lower case; key is in lower case too.
func (f *facts) label(key string) string {
	v, ok := f.labels[key]
	if !ok {
		first := ""
		for k, other := range f.labels { // two that differ in case alone: the same one each time
			if strings.EqualFold(k, key) && (first == "" || k < first) {
				first, v = k, other
			}
		}
	}
	return strings.ToLower(v)
}

// like says whether a text fits a pattern as path.Match has them: * any number of characters,
// ? one, [a-f] one of these. The pattern was checked.
func like(text, pattern string) bool {
	if strings.IndexByte(text, '/') >= 0 || strings.IndexByte(pattern, '/') >= 0 {
		// A * of path.Match stops at a slash, which means nothing in the name of a site.
		text, pattern = strings.ReplaceAll(text, "/", "\x00"), strings.ReplaceAll(pattern, "/", "\x00")
	}
	ok, _ := path.Match(pattern, text)
	return ok
}

// subnet says whether an address, of which a port is ignored, is an IP address inside a network.
func subnet(address, network string) bool {
	p, err := netip.ParsePrefix(network)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(address)
	if err != nil {
		with, err := netip.ParseAddrPort(address)
		if err != nil {
			return false
		}
		ip = with.Addr()
	}
	return p.Contains(ip.Unmap())
}
