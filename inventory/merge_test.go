package inventory_test

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"unbrick/inventory"
)

// rows is a source of that name; each host is a row of its own.
type rows struct {
	name  string
	hosts []inventory.Host
}

func (r rows) Hosts(context.Context) iter.Seq2[inventory.Host, error] {
	return func(yield func(inventory.Host, error) bool) {
		for i, h := range r.hosts {
			at := inventory.Origin{Source: r.name, Place: r.name, Line: i + 1}
			if len(h.From) > 0 {
				at.Seen = h.From[0].Seen
			}
			h.From = []inventory.Origin{at}
			if !yield(h, nil) {
				return
			}
		}
	}
}

// row writes a host as "name serial=S uuid=1 mac=2,3 addr=A site=X redfish=B seen=5 state=retired".
func row(t testing.TB, text string) inventory.Host {
	t.Helper()
	words := strings.Fields(text)
	h := inventory.Host{Name: words[0], Tier: inventory.Normal}
	for _, w := range words[1:] {
		k, v, _ := strings.Cut(w, "=")
		switch k {
		case "serial":
			h.Serial = strings.ReplaceAll(v, "_", " ")
		case "uuid":
			h.UUID = uuidOf(v)
		case "mac":
			for m := range strings.SplitSeq(v, ",") {
				h.MAC = append(h.MAC, "52:54:00:00:00:0"+m)
			}
		case "addr":
			h.Address = v
		case "site":
			h.Site = v
		case "tier":
			h.Tier, _ = inventory.ParseTier(v)
		case "state":
			h.State = inventory.State(v)
		case "seen":
			var n int
			fmt.Sscan(v, &n)
			h.From = []inventory.Origin{{Seen: time.Date(2024, 7, n, 0, 0, 0, 0, time.UTC)}}
		case "redfish", "ipmi", "libvirt", "vsphere", "ec2", "netboot", "restart", "manual":
			h.Routes = append(h.Routes, inventory.Route{Driver: k, Address: v})
		default:
			t.Fatalf("no field %q", k)
		}
	}
	return h
}

func uuidOf(v string) string { return "4c4c4544-0044-3510-8052-" + fmt.Sprintf("%012s", v) }

// table makes sources of lines "source: row", in the order of their first lines.
func table(t testing.TB, text string) (sources []inventory.Source) {
	t.Helper()
	var all []*rows
	for line := range strings.Lines(text) {
		name, rest, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if !ok {
			continue
		}
		i := slices.IndexFunc(all, func(r *rows) bool { return r.name == name })
		if i < 0 {
			i, all = len(all), append(all, &rows{name: name})
		}
		all[i].hosts = append(all[i].hosts, row(t, rest))
	}
	for _, r := range all {
		sources = append(sources, *r)
	}
	return sources
}

// shape says of which rows each host is made: "PC1=cmdb:1+falcon:2".
func shape(hosts []inventory.Host) string {
	var all []string
	for _, h := range hosts {
		var from []string
		for _, o := range h.From {
			from = append(from, fmt.Sprintf("%s%d", o.Source, o.Line))
		}
		slices.Sort(from)
		all = append(all, h.Name+"="+strings.Join(from, "+"))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// addsUp demands that every row is accounted for.
func addsUp(t *testing.T, f *inventory.Fleet) {
	t.Helper()
	if f.Rows != f.Usable+f.Merged+f.Aside+f.Problems.Rows || len(f.Hosts) != f.Usable {
		t.Errorf("%d rows are %d usable + %d merged + %d aside + %d with problems; %d hosts", f.Rows, f.Usable, f.Merged, f.Aside, f.Problems.Rows, len(f.Hosts))
	}
	n := 0
	for _, h := range f.Hosts {
		n += len(h.From)
	}
	if n != f.Usable+f.Merged {
		t.Errorf("hosts come from %d rows, want %d", n, f.Usable+f.Merged)
	}
	if f.Aside > 0 && f.Warnings.Total == 0 {
		t.Errorf("%d rows are put aside with %d warnings", f.Aside, f.Warnings.Total)
	}
}

func TestMerge(t *testing.T) {
	for _, tc := range []struct{ name, in, want, says string }{
		{"by serial, however it is typed", "a: PC1 serial=VMware-56_4d_AB\n b: OTHER serial=vmware-564dab", "PC1=a1+b1", "under several names"},
		{"by UUID in both orders of bytes", "a: PC1 uuid=1\n b: X uuid=1\n c: Y uuid=1", "PC1=a1+b1+c1", "under several names"},
		{"by MAC, and a new name", "a: PC1 serial=S123 mac=1\n b: PC2 mac=1", "PC1=a1+b1", "under several names"},
		{"by name with its domain and without", "a: PC1 serial=S123\n b: pc1.corp.example uuid=1\n c: PC1", "PC1=a1+b1+c1", ""},
		{"names of two domains", "a: web.a.example\n b: web.b.example\n c: web", "web.a.example=a1 web.b.example=b1 web=c1", ""},
		{"one source has both forms", "a: web\n a: web.corp.example\n b: web", "web.corp.example=a2 web=a1+b1", ""},
		{"signs one after the other", "a: PC1 serial=S123\n b: X serial=S123 uuid=7\n c: Y uuid=7 mac=3\n d: Z mac=3", "PC1=a1+b1+c1+d1", "under several names"},

		{"cloned UUIDs", "a: PC1 serial=S111 uuid=1\n b: PC2 serial=S222 uuid=1\n c: PC1 uuid=1", "PC1=a1+c1 PC2=b1", "shared by machines"},
		{"a new board in the same machine", "a: PC1 serial=S111 uuid=1\n b: PC1 serial=S222 uuid=1", "PC1=a1+b1", ""},
		{"the chassis' serial number", "a: B1 serial=CH99 uuid=1\n b: B2 serial=CH99 uuid=2", "B1=a1 B2=b1", "shared by machines"},
		{"cloned UUIDs in one source", "a: PC1 serial=S111 uuid=1\n a: PC2 serial=S222 uuid=1\n b: PC2 uuid=1", "PC1=a1 PC2=a2+b1", "another host has it too: a:1"},
		{"serial numbers that are none", "a: PC1 serial=Default_string\n b: PC2 serial=To_be_filled_by_O.E.M.\n c: PC3 serial=00000000\n d: PC4 serial=00000000", "PC1=a1 PC2=b1 PC3=c1 PC4=d1", ""},
		{"no UUID", "a: PC1 uuid=x\n b: PC2 uuid=x", "PC1=a1+b1", "under several names"},

		// Two machines with one serial number or UUID, as copied virtual machines and blades have it.
		{"copies on two hypervisors", "a: web1 uuid=1 mac=1 libvirt=hv1/web1 addr=10.1.0.1\n b: db7 uuid=1 mac=2 libvirt=hv2/db7 addr=10.1.0.2", "db7=b1 web1=a1", "shared by machines that are not one: web1 (a:1), db7 (b:1)"},
		{"copies, by their MACs", "a: web1 uuid=1 mac=1\n b: db7 uuid=1 mac=2", "db7=b1 web1=a1", "shared by machines"},
		{"copies, by where they are", "a: web1 uuid=1 libvirt=hv1/web1\n b: db7 uuid=1 libvirt=hv2/db7", "db7=b1 web1=a1", "shared by machines"},
		{"a replica with the same MAC", "a: SQL01 serial=VMware-12 mac=1 vsphere=vc1/u-1\n b: SQL01_replica serial=VMware-12 mac=1 vsphere=dr/u-2", "SQL01=a1 SQL01_replica=b1", "shared by machines"},
		{"a replica, and the sensor in it", "a: SQL01 serial=VMware-12 vsphere=vc1/u-1\n b: SQL01_replica serial=VMware-12 vsphere=dr/u-2\n edr: SQL01 serial=VMware-12 mac=1", "SQL01=a1+edr1 SQL01_replica=b1", "shared by machines"},
		{"blades, by their BMCs", "a: bl01 serial=CH99 redfish=10.0.0.1\n b: bl02 serial=CH99 redfish=10.0.0.2 uuid=2", "bl01=a1 bl02=b1", "shared by machines"},
		{"copies, told apart by what others say of their names", "a: A uuid=1\n b: B uuid=1\n c: A mac=1\n c: B mac=2", "A=a1+c1 B=b1+c2", "shared by machines"},
		{"copies that a third sign would join", "a: A serial=S111 mac=1\n b: B serial=S111 uuid=7\n c: C uuid=7 mac=2", "A=a1+b1 C=c1", "shared by machines"},
		{"another MAC's ways", "a: A mac=1 libvirt=hv1/a\n b: B mac=1 libvirt=hv2/b", "A=a1 B=b1", "several hosts have it"},

		// One machine under two names.
		{"renamed, and one card in common", "a: OLD serial=S111 mac=1,2 redfish=10.0.0.1\n b: NEW serial=S111 mac=2,3 redfish=10.0.0.9", "OLD=a1+b1", "for one host by serial number S111"},
		{"an asset tag, and the address agrees", "cmdb: LT-0012 serial=S111 mac=1 addr=10.0.0.5\n edr: DESKTOP-7 serial=S111 mac=2 addr=10.0.0.5", "LT-0012=cmdb1+edr1", "for one host"},
		{"an asset tag without MACs", "cmdb: LT-0012 serial=S111 redfish=10.0.0.1\n edr: DESKTOP-7 serial=S111 uuid=1 mac=2 addr=10.0.0.5", "LT-0012=cmdb1+edr1", "for one host"},
		{"one name: other cards and another BMC", "a: PC1 serial=S111 mac=1 redfish=10.0.0.1\n b: pc1.corp serial=S111 mac=2 redfish=10.0.0.2", "PC1=a1+b1", ""},
		{"one virtual machine, its id with its place and without", "a: web serial=S111 ec2=eu-west-1/i-12\n b: WEB-PROD serial=S111 ec2=i-12", "web=a1+b1", "for one host"},
		{"one BMC by name and by IP address", "a: web serial=S111 redfish=bmc1.corp\n b: WEB-PROD serial=S111 redfish=https://10.0.0.1/", "web=a1+b1", "for one host"},

		{"a docking station", "a: PC1 serial=S111 mac=1\n b: PC2 serial=S222 mac=1\n c: PC3 mac=1", "PC1=a1 PC2=b1 PC3=c1", "docking station"},
		{"a docking station in one source", "a: PC1 mac=1\n a: PC2 mac=1\n b: PC2 mac=1", "PC1=a1 PC2=a2+b1", "docking station"},
		{"at another's docking station", "a: PC1 serial=S111 mac=1\n b: PC2 mac=1\n c: PC2 serial=S222", "PC1=a1 PC2=b1+c1", "docking station"},

		{"a name used again, seen", "cmdb: PC1 serial=S111\n edr: PC1 serial=S222 seen=9\n ad: PC1", "PC1=ad1+edr1", "the name is now that of serial number S222"},
		{"a name used again, retired", "cmdb: PC1 serial=S111 state=retired\n new: PC1 serial=S222", "PC1=new1", "the name is now that of"},
		{"a name used again, nobody knows", "a: PC1 serial=S111\n b: PC1 serial=S222\n c: PC1\n c: PC2", "PC2=c2", "!it is serial number S111 here, and serial number S222 in b:1"},
		{"renamed, and the old name used again", "a: OLD serial=S111\n b: NEW serial=S111\n b: OLD serial=S222", "NEW=a1+b1 OLD=b2", "under several names"},
		{"renamed, both names in the directory", "a: OLD serial=S111\n b: NEW serial=S111\n ad: OLD seen=1\n ad: NEW seen=9", "OLD=a1+ad2+b1", "the name is now that of"},

		{"a BMC among the leases", "a: PC1 serial=S111 redfish=https://10.0.0.9/\n dhcp: idrac-1 addr=10.0.0.9", "PC1=a1", "no host"},
		{"a BMC for the host's address", "a: PC1 addr=10.0.0.9\n b: PC1 addr=10.0.0.7 ipmi=10.0.0.9:623", "PC1=a1+b1", "address of the BMC"},
		{"one BMC for two hosts", "a: PC1 redfish=bmc1\n b: PC2 redfish=https://BMC1/", "PC1=a1 PC2=b1", "sources give it to PC1 and to PC2"},

		{"one BMC by its port and without", "a: PC1 redfish=https://10.0.0.7:443\n b: PC2 redfish=10.0.0.7", "PC1=a1 PC2=b1", "sources give it to PC1 and to PC2"},
		{"one BMC by two protocols", "a: PC1 redfish=10.0.0.7\n b: PC2 ipmi=10.0.0.7", "PC1=a1 PC2=b1", "sources give it to PC1 and to PC2"},
		{"one BMC, for the power of another host", "a: PC1 redfish=10.0.0.7\n b: PC2 netboot=ipmi:10.0.0.7", "PC1=a1 PC2=b1", "sources give it to PC1 and to PC2"},
		{"one chassis for two hosts", "a: PC1 redfish=10.0.0.7/redfish/v1/Systems/1 ipmi=10.0.1.7\n b: PC2 redfish=10.0.0.7/redfish/v1/Systems/2 ipmi=10.0.1.8", "PC1=a1 PC2=b1", ""},
		{"a host of a chassis, for two", "a: PC1 redfish=10.0.0.7/redfish/v1/Systems/1\n b: PC2 redfish=https://10.0.0.7:443/redfish/v1/Systems/1/", "PC1=a1 PC2=b1", "sources give it to PC1 and to PC2"},
		{"a serial number that one source has twice", "a: B1 serial=CH99\n a: B2 serial=CH99\n b: B3 serial=CH99", "B1=a1 B2=a2 B3=b1", "another host has it too: a:1"},

		{"two records in one source, one older", "a: PC1 serial=S111 seen=3\n a: PC1 serial=S111 seen=5\n a: PC1 serial=S111 seen=4\n b: PC1", "PC1=a2+b1", "last seen is used"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sources := table(t, tc.in)
			f, err := inventory.Load(t.Context(), inventory.Options{SkipBad: true}, sources...)
			if err != nil {
				t.Fatal(err)
			}
			addsUp(t, f)
			if got, want := shape(f.Hosts), tc.want; got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			said := strings.Join(f.Warnings.Lines(), "\n")
			want, problem := strings.CutPrefix(tc.says, "!")
			if problem {
				said = strings.Join(f.Problems.Lines(), "\n")
			}
			if !strings.Contains(said, want) || f.Problems.Total > 0 != problem || tc.says == "" && said != "" {
				t.Errorf("says %q, want %q", said, want)
			}
			slices.Reverse(sources)
			back, err := inventory.Load(t.Context(), inventory.Options{SkipBad: true}, sources...)
			if err != nil || members(back.Hosts) != members(f.Hosts) {
				t.Errorf("with the sources turned round: %s, %v", shape(back.Hosts), err)
			}
		})
	}
}

// members is shape without the names, for which the order of the sources decides.
func members(hosts []inventory.Host) string {
	var all []string
	for _, word := range strings.Fields(shape(hosts)) {
		_, from, _ := strings.Cut(word, "=")
		all = append(all, from)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func TestUUIDByteOrder(t *testing.T) {
	a, b := named("a"), named("b")
	a.UUID, b.UUID = "00112233-4455-6677-8899-aabbccddeeff", "33221100-5544-7766-8899-aabbccddeeff"
	f, err := inventory.Load(t.Context(), inventory.Options{}, memory{a}, memory{b})
	if err != nil || len(f.Hosts) != 1 {
		t.Errorf("%+v, %v", f, err)
	}
}

func TestFieldsAndConflicts(t *testing.T) {
	in := "cmdb: PC1 serial=S111 site=Sydney addr=pc1 redfish=bmc1\n edr: PC1 serial=s-111 site=SYD addr=10.0.0.1 seen=9 tier=critical\n netbox: pc1.corp site=syd mac=1 redfish=bmc2 ipmi=bmc2 tier=low"
	f, err := inventory.Load(t.Context(), inventory.Options{}, table(t, in)...)
	if err != nil || len(f.Hosts) != 1 {
		t.Fatal(f, err)
	}
	h := f.Hosts[0]
	if h.Site != "Sydney" || h.Serial != "S111" || h.Tier != inventory.Critical || h.Seen().Day() != 9 || len(h.MAC) != 1 ||
		fmt.Sprint(h.Routes) != "[{redfish bmc1} {ipmi bmc2}]" {
		t.Errorf("%+v", h)
	}
	want := []string{`site: "Sydney" (cmdb), "SYD" (edr)`, `tier: "critical" (edr), "low" (netbox)`, `redfish: "bmc1" (cmdb), "bmc2" (netbox)`}
	var got []string
	for _, c := range h.Conflicts {
		got = append(got, c.String())
	}
	if !slices.Equal(got, want) {
		t.Errorf("conflicts\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	wins := map[string][]string{"site": {"edr"}, "routes": {"netbox", "cmdb"}, "name": {"netbox"}}
	f, err = inventory.Load(t.Context(), inventory.Options{Wins: wins}, table(t, in)...)
	if err != nil || f.Hosts[0].Site != "SYD" || f.Hosts[0].Routes[0].Address != "bmc2" || f.Hosts[0].Name != "pc1.corp" {
		t.Errorf("%+v, %v", f, err)
	}
	if _, err := inventory.Load(t.Context(), inventory.Options{Wins: map[string][]string{"sites": {"edr"}}}, table(t, in)...); err == nil || !strings.Contains(err.Error(), `no field "sites"`) {
		t.Errorf("a field that is none: %v", err)
	}
}

// TestMergeLaws: whatever the sources say, their order does not change which rows are one host,
// every row is accounted for, no host has two rows of one source, and names stay unique.
func TestMergeLaws(t *testing.T) {
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 7))
		sources := muddle(r)
		f, err := inventory.Load(t.Context(), inventory.Options{SkipBad: true}, sources...)
		if f == nil {
			t.Fatal(err)
		}
		addsUp(t, f)
		names := map[string]bool{}
		for _, h := range f.Hosts {
			if n := strings.ToLower(h.Name); names[n] {
				t.Errorf("seed %d: two hosts are %s: %s", seed, n, shape(f.Hosts))
			} else {
				names[n] = true
			}
			for i, o := range h.From {
				if slices.ContainsFunc(h.From[:i], func(p inventory.Origin) bool { return p.Source == o.Source }) {
					t.Errorf("seed %d: %s has two rows of one source", seed, h.Name)
				}
			}
		}
		for range 4 {
			r.Shuffle(len(sources), func(i, j int) { sources[i], sources[j] = sources[j], sources[i] })
			other, _ := inventory.Load(t.Context(), inventory.Options{SkipBad: true}, sources...)
			if members(other.Hosts) != members(f.Hosts) {
				t.Fatalf("seed %d: the order of sources changes the hosts:\n%s\n%s", seed, shape(f.Hosts), shape(other.Hosts))
			}
		}
		if t.Failed() {
			return
		}
	}
}

// muddle makes sources that know a few hosts by few values, so that everything collides.
func muddle(r *rand.Rand) (sources []inventory.Source) {
	for s := range 2 + r.IntN(3) {
		src := rows{name: string(rune('a' + s))}
		for range 1 + r.IntN(6) {
			h := inventory.Host{Name: fmt.Sprint("PC", r.IntN(6)), Tier: inventory.Normal}
			if r.IntN(4) == 0 {
				h.Name += ".corp"
			}
			if r.IntN(2) == 0 {
				h.Serial = fmt.Sprint("S00", r.IntN(5))
			}
			if r.IntN(3) == 0 {
				h.UUID = uuidOf(fmt.Sprint(r.IntN(5)))
			}
			for range r.IntN(3) {
				h.MAC = append(h.MAC, fmt.Sprint("52:54:00:00:00:0", r.IntN(6)))
			}
			if r.IntN(3) == 0 {
				h.Address = fmt.Sprint("10.0.0.", r.IntN(5))
			}
			if r.IntN(4) == 0 {
				h.Routes = []inventory.Route{{Driver: "redfish", Address: fmt.Sprint("10.0.0.", r.IntN(5))}}
			}
			if r.IntN(3) == 0 {
				h.From = []inventory.Origin{{Seen: time.Unix(int64(1+r.IntN(4)), 0)}}
			}
			src.hosts = append(src.hosts, h)
		}
		sources = append(sources, src)
	}
	return sources
}

// TestMergeKeepsAll: sources that agree and overlap give each machine once.
func TestMergeKeepsAll(t *testing.T) {
	f, err := inventory.Load(t.Context(), inventory.Options{}, bigSources(5000)...)
	if err != nil || len(f.Hosts) != 5000 || f.Merged != f.Rows-5000 || f.Warnings.Total != 0 {
		t.Errorf("%d hosts of %d rows, %d merged, %v", len(f.Hosts), f.Rows, f.Merged, err)
	}
}

// generated is a source that makes its hosts up as it goes.
type generated struct {
	n    int
	make func(i int) (inventory.Host, bool)
}

func (g generated) Hosts(context.Context) iter.Seq2[inventory.Host, error] {
	return func(yield func(inventory.Host, error) bool) {
		for i := range g.n {
			if h, ok := g.make(i); ok && !yield(h, nil) {
				return
			}
		}
	}
}

// bigSources are a CMDB with the BMCs, a sensor's console that has 19 of 20 hosts, and a
// directory that knows names alone.
func bigSources(n int) []inventory.Source {
	seen := time.Date(2024, 7, 19, 4, 30, 0, 0, time.UTC)
	name := func(i int) string { return fmt.Sprintf("S%04d-PC-%06d", i/500, i) }
	serial := func(i int) string { return fmt.Sprintf("5CG%07X", i) }
	uuid := func(i int) string { return fmt.Sprintf("4c4c4544-%04x-3510-8052-%012x", i&0xffff, i) }
	from := func(s string) []inventory.Origin {
		return []inventory.Origin{{Source: s, Place: s + ".example", Seen: seen}}
	}
	return []inventory.Source{
		generated{n, func(i int) (inventory.Host, bool) {
			return inventory.Host{Name: name(i), Serial: serial(i), Site: fmt.Sprintf("Site %04d", i/500), TimeZone: "Europe/Berlin", Country: "DE",
				Tier: inventory.Normal, Routes: []inventory.Route{{Driver: "redfish", Address: fmt.Sprintf("https://10.%d.%d.%d", i>>16, i>>8&255, i&255)}},
				Labels: map[string]string{"model": "EliteBook 840"}, From: from("cmdb")}, true
		}},
		generated{n, func(i int) (inventory.Host, bool) {
			return inventory.Host{Name: name(i), Serial: serial(i), UUID: uuid(i), Site: fmt.Sprintf("S%04d", i/500), Tier: inventory.Normal,
				MAC: []string{fmt.Sprintf("52:54:%02x:%02x:%02x:00", i>>16, i>>8&255, i&255)}, Address: fmt.Sprintf("172.%d.%d.%d", 16+i>>16, i>>8&255, i&255), From: from("falcon")}, i%20 != 0
		}},
		generated{n, func(i int) (inventory.Host, bool) {
			return inventory.Host{Name: strings.ToLower(name(i)), Address: strings.ToLower(name(i)) + ".corp.example", Tier: inventory.Normal, From: from("ad")}, true
		}},
	}
}

// BenchmarkMerge loads 500,000 hosts from three sources.
func BenchmarkMerge(b *testing.B) {
	const n = 500_000
	for b.Loop() {
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f, err := inventory.Load(b.Context(), inventory.Options{}, bigSources(n)...)
		if err != nil || len(f.Hosts) != n {
			b.Fatal(len(f.Hosts), err)
		}
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.Sys)/1e6, "MB-of-system")
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "MB-kept")
		runtime.KeepAlive(f)
	}
}

// extra is a source that only supplements.
type extra struct{ rows }

func (extra) Supplements() {}

func TestSupplements(t *testing.T) {
	sources := table(t, "cmdb: PC1 mac=1\n cmdb: PC2\n dhcp: other mac=1 addr=10.0.0.1\n dhcp: printer mac=7\n dhcp: phone")
	dhcp := extra{sources[1].(rows)}
	f, err := inventory.Load(t.Context(), inventory.Options{}, sources[0], dhcp)
	if err != nil || shape(f.Hosts) != "PC1=cmdb1+dhcp1 PC2=cmdb2" || f.Aside != 2 || !strings.Contains(f.Warnings.Lines()[0], "2 hosts are known here alone") {
		t.Errorf("%s, %v, %q", shape(f.Hosts), err, f.Warnings.Lines())
	}
	addsUp(t, f)
	if f, err = inventory.Load(t.Context(), inventory.Options{}, dhcp); err != nil || len(f.Hosts) != 3 {
		t.Errorf("alone it is a source like others: %v", err)
	}
}
