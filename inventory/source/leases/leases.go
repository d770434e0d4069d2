// Package leases reads the lease files of DHCP servers: ISC's dhcpd.leases and Kea's CSV file
// (memfile). They say which MAC address had which name and IP address last, and when: a CMDB
// often lacks all three.
//
// A lease file knows telephones and printers too, so the source is an [inventory.Supplement].
// The leases of one name are one host. A name under which more machines ask than a host has
// adapters ("iPhone") is left out.
package leases

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strings"
	"time"

	"unbrick/inventory"
)

// A Source is one lease file, of ISC's or of Kea's form. A copy is as good as the file itself.
type Source struct {
	Path string
	Site string // of all hosts in it, where one file is one site's
}

var _ inventory.Supplement = Source{}

// Supplements implements [inventory.Supplement].
func (Source) Supplements() {}

// adapters is how many MAC addresses a host may have before its name is taken for that of many.
const adapters = 4

// A lease is what the file says last of an IP address.
type lease struct {
	address, mac, name string
	at                 time.Time     // when the client last asked
	lasts              time.Duration // for which it got the address
	free               bool          // given back, or never in use
	line               int
}

// Hosts implements [inventory.Source].
func (s Source) Hosts(ctx context.Context) iter.Seq2[inventory.Host, error] {
	return inventory.Read(ctx, "leases "+s.Path, func(emit func(*inventory.Draft) error) error {
		f, err := os.Open(s.Path)
		if err != nil {
			return err
		}
		defer f.Close()
		r := bufio.NewReader(f)
		start, err := r.Peek(len("address,"))
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		read := readISC
		if string(start) == "address," {
			read = readKea
		}
		b := book{place: s.Path, last: map[string]lease{}}
		if err := read(ctx, r, &b); err != nil {
			return err
		}
		for _, d := range b.drafts(s.Site) {
			if err := emit(d); err != nil {
				return err
			}
		}
		return nil
	})
}

// A book collects leases. A later entry for an address takes the place of an earlier one.
type book struct {
	place string
	last  map[string]lease
	notes []*inventory.Draft
}

// put takes an entry. Servers say the name while the client has the lease: not when it is over,
// which is how it stands with hosts that are down for long, nor when the host asked again while it
// started from the network.
func (b *book) put(l lease) {
	if was := b.last[l.address]; l.name == "" && was.mac == l.mac {
		l.name = was.name
	}
	b.last[l.address] = l
}

// bad notes an entry that cannot be read.
func (b *book) bad(line int, why string) {
	d := inventory.Note(fmt.Sprintf("%s:%d", b.place, line), why, "a lease as the server writes it")
	b.notes = append(b.notes, d)
}

// drafts makes hosts of the leases, in the order of their first lines.
func (b *book) drafts(site string) (all []*inventory.Draft) {
	byName := map[string][]lease{}
	for _, l := range b.last {
		l.name = strings.TrimSuffix(strings.TrimSpace(l.name), ".")
		if l.name == "" || l.mac == "" {
			continue
		}
		byName[strings.ToLower(l.name)] = append(byName[strings.ToLower(l.name)], l)
	}
	type host struct {
		line  int
		draft *inventory.Draft
	}
	var hosts []host
	for _, leases := range byName {
		slices.SortFunc(leases, func(x, y lease) int { return cmp.Or(y.at.Compare(x.at), x.line-y.line) }) // the newest first
		line := slices.MinFunc(leases, func(x, y lease) int { return x.line - y.line }).line
		hosts = append(hosts, host{line, b.draft(leases, line, site)})
	}
	slices.SortFunc(hosts, func(x, y host) int { return x.line - y.line })
	all = append(all, b.notes...)
	for _, h := range hosts {
		all = append(all, h.draft)
	}
	return all
}

// draft makes a host of the leases of one name, the newest first.
func (b *book) draft(leases []lease, line int, site string) *inventory.Draft {
	first := leases[0]
	d := inventory.NewDraft(inventory.Origin{Source: "leases", Place: b.place, Line: line}, "")
	d.Name("hostname", first.name)
	for _, l := range leases {
		d.MAC("hwaddr", l.mac)
	}
	if len(d.Host.MAC) > adapters {
		return inventory.Note(fmt.Sprintf("%s:%d", b.place, line), fmt.Sprintf("%d machines go by the name %q; they are left out", len(d.Host.MAC), first.name), "a name of its own for each")
	}
	if !first.free {
		d.Set("address", "address", first.address)
	}
	d.Set("site", "site", site)
	// A client asks again when half of its time is over (RFC 2131, 4.4.5): up to then it may be up
	// without asking.
	d.Seen(first.at, first.lasts/2)
	return d
}
