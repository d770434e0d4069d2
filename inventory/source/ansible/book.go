package ansible

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"unbrick/inventory"
)

// A book is what an inventory file says, before variables reach the hosts.
type book struct {
	place  string
	order  []string // names in the order of the file
	lines  map[string]int
	vars   map[string]map[string]string // of hosts
	groups map[string]*group
	bad    []*inventory.Draft
}

// A group has hosts and groups.
type group struct {
	hosts    []string
	children []string
	vars     map[string]string
}

func newBook(place string) *book {
	return &book{place: place, lines: map[string]int{}, vars: map[string]map[string]string{}, groups: map[string]*group{}}
}

// group returns the group of that name, which is made where it is first spoken of.
func (b *book) group(name string) *group {
	g := b.groups[name]
	if g == nil {
		g = &group{vars: map[string]string{}}
		b.groups[name] = g
	}
	return g
}

// host adds the hosts of a pattern to a group, with their variables.
func (b *book) host(groupName, pattern string, vars map[string]string, line int) {
	names, err := expand(pattern)
	if err != nil {
		b.refuse(line, pattern, err.Error())
		return
	}
	g := b.group(groupName)
	for _, n := range names {
		if b.vars[n] == nil {
			b.vars[n], b.lines[n] = map[string]string{}, line
			b.order = append(b.order, n)
		}
		maps.Copy(b.vars[n], vars)
		if groupName != "all" && groupName != "ungrouped" && !slices.Contains(g.hosts, n) {
			g.hosts = append(g.hosts, n)
		}
	}
}

// refuse notes a line that cannot be used.
func (b *book) refuse(line int, value, reason string) {
	place := b.place
	if line > 0 {
		place = fmt.Sprintf("%s:%d", b.place, line)
	}
	b.bad = append(b.bad, inventory.Note(place, fmt.Sprintf("%.60q: %s", value, reason), "a line as Ansible reads it").Problem())
}

// most is how many hosts one pattern may stand for: [0:9999999] is a slip.
const most = 100_000

// expand returns the names that a pattern stands for: pc[01:03] is pc01, pc02, pc03.
func expand(pattern string) ([]string, error) {
	before, rest, ok := strings.Cut(pattern, "[")
	if !ok {
		return []string{pattern}, nil
	}
	inside, after, ok := strings.Cut(rest, "]")
	if !ok {
		return nil, fmt.Errorf("a [ is not closed")
	}
	parts := strings.Split(inside, ":")
	if len(parts) < 2 || len(parts) > 3 {
		return nil, fmt.Errorf("not a range; write [01:50] or [a:f]")
	}
	step := 1
	if len(parts) == 3 {
		n, err := strconv.Atoi(parts[2])
		if err != nil || n < 1 {
			return nil, fmt.Errorf("the step of a range is not a number above 0")
		}
		step = n
	}
	tails, err := expand(after)
	if err != nil {
		return nil, err
	}
	middle, err := between(parts[0], parts[1], step)
	if err != nil {
		return nil, err
	}
	if len(middle)*len(tails) > most {
		return nil, fmt.Errorf("it stands for more than %d hosts", most)
	}
	var names []string
	for _, m := range middle {
		for _, t := range tails {
			names = append(names, before+m+t)
		}
	}
	return names, nil
}

// between counts from one end of a range to the other, both included.
func between(first, last string, step int) (all []string, err error) {
	if len(first) == 1 && len(last) == 1 && isLetter(first[0]) && isLetter(last[0]) && first <= last {
		for c := int(first[0]); c <= int(last[0]); c += step {
			all = append(all, string(rune(c)))
		}
		return all, nil
	}
	if first == "" {
		first = "0"
	}
	from, err1 := strconv.ParseUint(first, 10, 31)
	to, err2 := strconv.ParseUint(last, 10, 31)
	switch {
	case err1 != nil || err2 != nil || from > to || len(first) > 10:
		return nil, fmt.Errorf("not a range; write [01:50] or [a:f]")
	case len(first) > 1 && first[0] == '0' && len(first) != len(last):
		return nil, fmt.Errorf("the ends of a range with leading zeros must be of one length")
	case (to-from)/uint64(step) > most:
		return nil, fmt.Errorf("it stands for more than %d hosts", most)
	}
	width := 0
	if first[0] == '0' {
		width = len(first)
	}
	for n := from; n <= to; n += uint64(step) {
		all = append(all, fmt.Sprintf("%0*d", width, n))
	}
	return all, nil
}

func isLetter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }

// resolve returns what variables each host has in the end, and its groups in alphabetical order.
// Groups further down win over those further up, and among equals the last by name.
func (b *book) resolve() (vars map[string]map[string]string, groups map[string][]string) {
	depth := map[string]int{}
	var sink func(name string, d int, path []string)
	sink = func(name string, d int, path []string) {
		if slices.Contains(path, name) || d < depth[name] { // a group that contains itself ends here
			return
		}
		depth[name] = d
		if g := b.groups[name]; g != nil {
			for _, c := range g.children {
				sink(c, d+1, append(path, name))
			}
		}
	}
	names := slices.Sorted(maps.Keys(b.groups))
	for _, n := range names {
		sink(n, 1, nil)
	}
	depth["all"] = 0
	slices.SortStableFunc(names, func(x, y string) int { return depth[x] - depth[y] })
	vars, groups = map[string]map[string]string{}, map[string][]string{}
	for _, h := range b.order {
		vars[h] = map[string]string{}
		if all := b.groups["all"]; all != nil {
			maps.Copy(vars[h], all.vars)
		}
	}
	for _, n := range names {
		if n == "all" || n == "ungrouped" {
			continue
		}
		for h := range b.members(n, map[string]bool{}) {
			maps.Copy(vars[h], b.groups[n].vars)
			groups[h] = append(groups[h], n)
		}
	}
	for _, h := range b.order {
		maps.Copy(vars[h], b.vars[h])
		slices.Sort(groups[h])
	}
	return vars, groups
}

// members returns the hosts of a group and of the groups in it.
func (b *book) members(name string, seen map[string]bool) map[string]bool {
	all := map[string]bool{}
	g := b.groups[name]
	if g == nil || seen[name] {
		return all
	}
	seen[name] = true
	for _, h := range g.hosts {
		all[h] = true
	}
	for _, c := range g.children {
		maps.Copy(all, b.members(c, seen))
	}
	return all
}
