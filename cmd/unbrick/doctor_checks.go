package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"unbrick/bitlocker"
	"unbrick/inventory"
	"unbrick/remediate"
	"unbrick/remediate/netboot"
	"unbrick/remediate/rescue"
)

func (p *patient) playbook() {
	pb, err := openPlaybook(p.cfg.Playbook)
	if err != nil {
		p.missing("playbook", "unbrick playbook list names those that are built in", err)
		return
	}
	p.ok("playbook", "%s: %s", pb.Name, pb.Title)
	for _, r := range p.cfg.ladder() {
		if err := p.cfg.unable(r.Way); err != nil {
			p.warn("playbook", "hosts need another way in beside it", "a run leaves the way in %s out: %v", r.Way, err)
		}
	}
}

func (p *patient) inventory() {
	fleet, err := loadFleet(p.c, p.cfg)
	if err != nil {
		hint := "unbrick inventory check FILE says more"
		if len(p.cfg.Sources) > 0 {
			hint = "the lines about sources say more"
		}
		p.missing("inventory", hint, err)
		return
	}
	p.fleet = fleet
	tally := inventory.NewTally()
	for i := range fleet.Hosts {
		tally.Add(&fleet.Hosts[i])
	}
	where := p.cfg.Inventory
	if n := len(p.cfg.Sources); n > 0 {
		where = fmt.Sprintf("%d sources", n)
		if n == 1 {
			where = "1 source"
		}
	}
	p.ok("inventory", "%d hosts in %s", len(fleet.Hosts), where)
	if tally.NoRoute > 0 {
		p.warn("inventory", "add a column redfish with the address of the BMC", "%d hosts have no way in", tally.NoRoute)
	}
}

func (p *patient) image() {
	k := &kit{cfg: p.cfg}
	base, err := k.openImage()
	defer k.Close()
	if err != nil {
		p.missing("image", "build it on a Debian machine: unbrick image build --out unbrick-image", err)
		return
	}
	p.ok("image", "%s, %.1f MB", p.cfg.Image, float64(base.Size)/1e6)
}

func (p *patient) keys() {
	if !p.cfg.hasKeys() {
		p.warn("keys", "keys: or escrows: in unbrick.yaml, or --keys FILE", "no escrow of keys: encrypted disks cannot be opened")
		return
	}
	sources, err := openKeys(p.c, p.cfg)
	if err != nil {
		p.missing("keys", "keys: and escrows: of the configuration say where they are", err)
		return
	}
	for _, s := range sources {
		if err := p.probe(s); err != nil {
			p.missing("keys", "the account must be allowed to read recovery keys; the README says how, escrow by escrow", fmt.Errorf("%v: %w", s, err))
			continue
		}
		p.ok("keys", "%v", s)
	}
}

// probe asks an escrow that can be asked whether it would give keys to this account.
func (p *patient) probe(s bitlocker.Source) error {
	prober, ok := s.(bitlocker.Prober)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(p.c.Context, 30*time.Second)
	defer cancel()
	return prober.Probe(ctx)
}

func (p *patient) ledger() {
	if !p.cfg.hasKeys() {
		return
	}
	audit, err := bitlocker.AuditLedger(p.cfg.Ledger)
	if err == nil {
		p.ok("ledger", "%s is whole, %d records", p.cfg.Ledger, audit.Records)
		return
	}
	if _, statErr := os.Stat(p.cfg.Ledger); statErr == nil {
		p.missing("ledger", "keep it as evidence and name a new one with ledger:", err)
		return
	}
	dir := filepath.Dir(p.cfg.Ledger)
	if f, err := os.CreateTemp(dir, ".unbrick-*"); err != nil {
		p.missing("ledger", "ledger: names a place that can be written", fmt.Errorf("cannot write into %s: %w", dir, err))
	} else {
		f.Close()
		os.Remove(f.Name())
		p.ok("ledger", "%s will be made", p.cfg.Ledger)
	}
}

func (p *patient) state() {
	store, err := openStore(p.c, p.cfg)
	if err != nil {
		p.missing("state", "--state names another place", err)
		return
	}
	p.store = store
	st, err := store.Status(p.c.Context, "")
	if err != nil {
		p.ok("state", "%s, no run yet", redactedState(p.cfg.State))
		return
	}
	p.ok("state", "%s holds run %s: %s", redactedState(p.cfg.State), st.Run.ID, summary(st.Count))
}

func (p *patient) ports() {
	for _, addr := range []string{p.cfg.Rescue.Listen, p.cfg.Rescue.ImageListen} {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			p.missing("ports", "another run on this machine may hold it; rescue.listen and rescue.image_listen name others", err)
			continue
		}
		l.Close()
		p.ok("ports", "%s is free", addr)
	}
}

// urls starts the rescue server for a moment, to see what hosts would be told to call.
func (p *patient) urls() {
	dir, err := os.MkdirTemp("", "unbrick-doctor-")
	if err != nil {
		return
	}
	defer os.RemoveAll(dir)
	r := p.cfg.Rescue
	s, err := rescue.Start(p.c.Context, rescue.Config{Dir: dir, AgentListen: r.Listen, ImageListen: r.ImageListen,
		AgentURL: r.URL, ImageURL: r.ImageURL, Base: rescue.StubImage(), Records: new(rescue.MemRecords)})
	if err != nil {
		return // ports has said so
	}
	defer s.Close()
	p.ok("addresses", "hosts call %s, BMCs fetch from %s; both must be able to reach these", s.AgentURL(), s.ImageURL())
}

// netboot answers hosts that start from the network for a moment, none of which is allowed, to
// see whether a run could: card, ports and the addresses to lend.
func (p *patient) netboot() {
	n := p.cfg.Netboot
	if !n.Enabled {
		return
	}
	if _, err := os.Stat(p.cfg.Image); err == nil && netbootFiles(p.cfg.Image) == nil {
		p.missing("netboot", "unbrick image build makes them", fmt.Errorf("the rescue image %s has no files for network boot", p.cfg.Image))
	}
	dir, err := os.MkdirTemp("", "unbrick-doctor-")
	if err != nil {
		p.missing("netboot", "", err)
		return
	}
	defer os.RemoveAll(dir)
	if p.boot, err = n.start(p.c.Context, dir, nil); err != nil {
		hint := netbootHint
		if errors.Is(err, netboot.ErrTaken) {
			hint = "another run on this machine may hold it, or a TFTP or DHCP server; fix goes without network boot meanwhile"
		}
		p.missing("netboot", hint, err)
		return
	}
	p.ok("netboot", "its ports are free, and hosts are told to load from %s", p.boot.Address())
}

func (p *patient) credentials() {
	if p.fleet == nil {
		return
	}
	for i, cr := range p.cfg.Credentials {
		if _, err := cr.Password.Resolve(p.c.Context); err != nil {
			p.missing("credentials", "", fmt.Errorf("credentials[%d]: %w", i, err))
		}
	}
	var none []string
	routes := 0
	for _, h := range p.fleet.Hosts {
		for _, r := range h.Routes {
			if !logsIn(r.Driver) {
				continue
			}
			routes++
			if _, err := p.cfg.login(h, r); err != nil {
				none = append(none, h.Name)
			}
		}
	}
	if len(none) > 0 {
		p.missing("credentials", "credentials: in unbrick.yaml, by driver, site, host or address",
			fmt.Errorf("no credential fits %d of %d ways in, %s among them", len(none), routes, none[0]))
		return
	}
	p.ok("credentials", "one fits each of %d ways in", routes)
}

// logsIn says whether a way in needs a credential of its own. Others use those of what they
// switch hosts with, or none.
func logsIn(way string) bool {
	return slices.Contains([]string{"winrm", "redfish", "ipmi", "amt"}, way)
}

// hosts asks one host of each site how it stands, over each driver, all at once.
func (p *patient) hosts() {
	if p.fleet == nil || p.store == nil {
		return
	}
	k := &kit{cfg: p.cfg, store: p.store, boot: p.boot}
	defer k.Close()
	known, err := k.listDrivers(p.store)
	if err != nil {
		p.missing("drivers", "", err)
		return
	}
	samples := sampleTargets(p.fleet.Hosts, p.cfg.backWays())
	found := make([][]diagnosis, len(samples))
	var wg sync.WaitGroup
	for i, t := range samples {
		wg.Go(func() {
			if way, ok := known[t.Route.Driver].(checker); ok {
				found[i] = checkWay(p.c.Context, way, t, p.fleet.Hosts)
			} else {
				found[i] = []diagnosis{ask(p.c.Context, known, t)}
			}
		})
	}
	wg.Wait()
	p.out = slices.Concat(append([][]diagnosis{p.out}, found...)...)
	p.unused(samples)
}

// sampleTargets returns a host of each site and way. Ways that are derived from others' routes are
// those given.
func sampleTargets(hosts []inventory.Host, derived []string) []remediate.Target {
	seen := map[[2]string]bool{}
	var targets []remediate.Target
	add := func(h inventory.Host, r inventory.Route) {
		if key := [2]string{h.Site, r.Driver}; !seen[key] && len(targets) < 50 {
			seen[key] = true
			targets = append(targets, remediate.Target{Run: "doctor", Attempt: 1, Host: h, Route: r})
		}
	}
	for _, h := range hosts {
		for _, r := range h.Routes {
			add(h, r)
			if back := r.Driver + "-rollback"; slices.Contains(derived, back) {
				add(h, inventory.Route{Driver: back, Address: r.Address})
			}
		}
	}
	return targets
}

func ask(ctx context.Context, known map[string]remediate.Driver, t remediate.Target) diagnosis {
	d := diagnosis{Check: named(t.Host.Site), State: "warning"}
	driver := known[t.Route.Driver]
	what := t.Route.Driver
	if driver == nil && what == "ipmi" { // it is asked for the power, as restart asks it
		driver, what = known["restart"], "ipmi, a controller for netboot and restart and no way in by itself"
		t.Route = inventory.Route{Driver: "restart", Address: "ipmi:" + t.Route.Address}
	}
	if driver == nil {
		d.Found, d.Hint = fmt.Sprintf("%s has a way in by %s, which this version cannot use", t.Host.Name, what), "it is passed over"
		if what == "netboot" {
			d.Found, d.Hint = fmt.Sprintf("%s has a way in by netboot, which is not turned on, or not to be had here", t.Host.Name), "netboot: {enabled: true} in unbrick.yaml turns it on; if it does, see what doctor says of netboot"
		}
		return d
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	posture, err := driver.Observe(ctx, t)
	if err != nil {
		d.Found, d.Hint = fmt.Sprintf("%s by %s: %v", t.Host.Name, what, err), "one host of the site was asked; others may answer"
		return d
	}
	d.State, d.Found = "ok", fmt.Sprintf("%s answers by %s: power %s", t.Host.Name, what, posture.Power)
	return d
}

// clock compares with the youngest thing at hand: a clock that is off by years breaks due
// times and certificates.
func (p *patient) clock() {
	now := time.Now()
	self, err := os.Executable()
	if err == nil {
		if info, err := os.Stat(self); err == nil && info.ModTime().After(now.Add(24*time.Hour)) {
			p.missing("clock", "set the clock", fmt.Errorf("it is %s, before this program was built", now.UTC().Format(time.RFC3339)))
			return
		}
	}
	p.ok("clock", "%s", now.Format(time.RFC1123Z))
}
