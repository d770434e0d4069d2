package engine

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"iter"
	"slices"
	"strings"
	"time"

	"unbrick/inventory"
	"unbrick/remediate"
)

// A Refreshed says what became of a fleet that was read again while its run goes on. Names are
// in alphabetical order.
type Refreshed struct {
	Added   []string `json:"added"`   // to the run
	Changed []string `json:"changed"` // what is known of them is in force
	Begun   []string `json:"begun"`   // what is known of them has changed, and they are in treatment: they go on as they were
	Unused  []string `json:"unused"`  // no longer in use by the inventory, and not begun: they are skipped
	// Gone are those that the fleet no longer has. They stay in the run: that a source does not
	// know a host any more does not mean that it is well.
	Gone []string `json:"gone"`
	// Renamed are those that the fleet has under another name alone, by serial number, UUID or a
	// way in: they stay under the one that they had. The names of now, by those.
	Renamed map[string]string `json:"renamed"`
	// Unpicked are those that the fleet has and that the run's selection no longer takes: they stay
	// in the run, as Gone do.
	Unpicked []string `json:"unpicked"`
}

// Refresh takes a fleet that was read again, with its digest, into a run, which may be going on
// in any process. Hosts that are new are added, what has changed of hosts that were not begun
// takes effect, and no host is taken out. Of hosts that are not in use only those are looked at
// which the run has. Others are the names of the hosts that the fleet has beside those. Cut off, it
// may be called again. The empty run is the latest.
func (s *Store) Refresh(ctx context.Context, run, digest string, hosts iter.Seq[Planned], others iter.Seq[string]) (Refreshed, error) {
	r, err := s.Run(ctx, run)
	if err != nil {
		return Refreshed{}, err
	}
	f := &refresh{store: s, run: r, seed: maphash.MakeSeed(), names: map[uint64]int{}, ids: map[uint64]int{},
		done: Refreshed{Added: []string{}, Changed: []string{}, Begun: []string{}, Unused: []string{}, Gone: []string{}, Renamed: map[string]string{}, Unpicked: []string{}}}
	err = f.known(ctx)
	if err == nil {
		f.pass(others)
		err = f.all(ctx, hosts)
	}
	if err == nil {
		err = f.end(ctx, digest)
	}
	if err != nil {
		return Refreshed{}, fmt.Errorf("cannot refresh the hosts of run %s: %w", r.ID, err)
	}
	return f.done, nil
}

// A refresh is a Refresh that goes on. Of each host of the run it holds hashes alone.
type refresh struct {
	store *Store
	run   Run
	seed  maphash.Seed
	hosts []refreshHost
	names map[uint64]int // of hosts
	ids   map[uint64]int // of hosts, -1 if several have one
	rest  []Planned      // under names that the run does not have
	todo  []Planned      // to be stored in one transaction
	done  Refreshed
}

type refreshHost struct {
	name string
	sum  uint64 // of what is known of it
	seen bool   // the fleet has it

	serial, uuid uint64 // 0 if it has none
}

func (f *refresh) hash(kind, text string) uint64 {
	return maphash.String(f.seed, kind+"\x00"+strings.ToLower(text))
}

// numbers are the serial number and UUID of a machine, 0 where it has none.
func (f *refresh) numbers(h *inventory.Host) (serial, uuid uint64) {
	if h.Serial != "" {
		serial = f.hash("serial", h.Serial)
	}
	if h.UUID != "" {
		uuid = f.hash("uuid", h.UUID)
	}
	return serial, uuid
}

// ways are the ways to one machine alone.
func (f *refresh) ways(h *inventory.Host) (keys []uint64) {
	for _, r := range h.Routes {
		word := r.Address == "auto" || r.Address == "yes" // for another of the host's ways
		if r.Driver != remediate.Manual && !word {        // one technician stands for many hosts
			keys = append(keys, f.hash(r.Driver, r.Address))
		}
	}
	return keys
}

// sum is what is known of a host, but for where and when: that changes with every reading.
func (f *refresh) sum(h *inventory.Host) uint64 {
	var all maphash.Hash
	all.SetSeed(f.seed)
	for field, v := range h.Values() {
		if field != inventory.LabelPrefix+inventory.AffectedWhyLabel {
			fmt.Fprintf(&all, "%d %s %d %s ", len(field), field, len(v), v)
		}
	}
	return all.Sum64()
}

// known reads the hosts of the run.
func (f *refresh) known(ctx context.Context) error {
	for after, n := "", planPage; n == planPage; {
		rows, err := f.store.db().QueryContext(ctx, `SELECT host, data FROM hosts WHERE run = $1 AND host > $2`+
			fmt.Sprintf(` ORDER BY host LIMIT %d`, planPage), f.run.ID, after)
		if err != nil {
			return err
		}
		for n = 0; rows.Next(); n++ {
			var h inventory.Host
			var data string
			err := rows.Scan(&after, &data)
			if err == nil {
				err = unmarshal(data, &h)
			}
			if err != nil {
				rows.Close()
				return err
			}
			i := len(f.hosts)
			one := refreshHost{name: after, sum: f.sum(&h)}
			one.serial, one.uuid = f.numbers(&h)
			f.hosts = append(f.hosts, one)
			f.names[f.hash("name", after)] = i
			for _, k := range append(f.ways(&h), one.serial, one.uuid) {
				if was, ok := f.ids[k]; ok && was != i {
					f.ids[k] = -1
				} else {
					f.ids[k] = i
				}
			}
		}
		if err := rows.Close(); err != nil {
			return err
		}
	}
	return nil
}

// refreshAtOnce is how many hosts are stored in one transaction.
const refreshAtOnce = 500

// pass notes the hosts of the run that the fleet has, and that are not picked any more.
func (f *refresh) pass(others iter.Seq[string]) {
	for name := range others {
		if i, ok := f.names[f.hash("name", name)]; ok {
			f.hosts[i].seen = true
			f.done.Unpicked = append(f.done.Unpicked, f.hosts[i].name)
		}
	}
}

// all goes through the hosts of now. Only when every name was heard is it known which hosts of
// the run have none any more: those alone may be called something else now. What another host of
// the run has taken over, a BMC's address for instance, makes nobody that host.
func (f *refresh) all(ctx context.Context, hosts iter.Seq[Planned]) error {
	for p := range hosts {
		if err := f.take(ctx, p, f.named(&p)); err != nil {
			return err
		}
	}
	for _, p := range f.rest {
		if err := f.take(ctx, p, f.differs(&p)); err != nil {
			return err
		}
	}
	return f.flush(ctx)
}

// take puts a host by if there is something to store of it.
func (f *refresh) take(ctx context.Context, p Planned, store bool) error {
	if !store {
		return nil
	}
	if f.todo = append(f.todo, p); len(f.todo) < refreshAtOnce {
		return nil
	}
	return f.flush(ctx)
}

// named says whether there is something to store of a host whose name the run has. Others are
// put by for later.
func (f *refresh) named(p *Planned) bool {
	i, ok := f.names[f.hash("name", p.Host.Name)]
	if !ok {
		f.rest = append(f.rest, *p)
		return false
	}
	f.hosts[i].seen = true
	p.Host.Name = f.hosts[i].name // in the case that the run has
	return f.sum(&p.Host) != f.hosts[i].sum
}

// differs says whether there is something to store of a host whose name the run does not have. One
// that the run has under another name stays there, unless it is no longer in use.
func (f *refresh) differs(p *Planned) bool {
	i, sure, ok := f.formerly(&p.Host)
	switch {
	case ok:
		f.done.Renamed[f.hosts[i].name] = p.Host.Name
		f.hosts[i].seen = true
		p.Host.Name = f.hosts[i].name
		return sure && p.Host.State != ""
	case p.Host.State != "":
		return false
	}
	f.names[f.hash("name", p.Host.Name)] = len(f.hosts)
	f.hosts = append(f.hosts, refreshHost{name: p.Host.Name, seen: true})
	return true
}

// formerly returns the host of the run that a host is, which no host of the fleet has the name of.
// It is sure by serial number or UUID, and not by a way alone. Nobody is it whose serial number or
// UUID is another one.
func (f *refresh) formerly(h *inventory.Host) (i int, sure, ok bool) {
	serial, uuid := f.numbers(h)
	differ := func(a, b uint64) bool { return a != 0 && b != 0 && a != b }
	try := func(k uint64) bool {
		i, ok = f.ids[k]
		ok = ok && k != 0 && i >= 0 && !f.hosts[i].seen && !differ(serial, f.hosts[i].serial) && !differ(uuid, f.hosts[i].uuid)
		return ok
	}
	if try(serial) || try(uuid) {
		return i, true, true
	}
	return i, false, slices.ContainsFunc(f.ways(h), try)
}

// flush stores what was put by.
func (f *refresh) flush(ctx context.Context) error {
	if len(f.todo) == 0 {
		return nil
	}
	var one Refreshed
	err := f.store.tx(ctx, func(tx *sql.Tx) error {
		one = Refreshed{}
		if err := f.store.exclusive(ctx, tx); err != nil {
			return err
		}
		for _, p := range f.todo {
			if err := f.put(ctx, tx, p, &one); err != nil {
				return fmt.Errorf("host %s: %w", p.Host.Name, err)
			}
		}
		now, err := f.store.now(ctx, tx)
		if err != nil {
			return err
		}
		return f.gate(ctx, tx, now)
	})
	f.todo = f.todo[:0]
	f.done.Added = append(f.done.Added, one.Added...)
	f.done.Changed = append(f.done.Changed, one.Changed...)
	f.done.Begun = append(f.done.Begun, one.Begun...)
	f.done.Unused = append(f.done.Unused, one.Unused...)
	return err
}

// untouched is the condition that nothing was done to a host, and nobody has said anything of it.
// It may have been begun and given back before it was entered.
const untouched = `state = 'todo' AND touched = 0 AND entered = '' AND repaired = '' AND parked = '' AND notes = '' AND cancel = ''`

// put stores one host, as far as how it stands allows.
func (f *refresh) put(ctx context.Context, tx *sql.Tx, p Planned, one *Refreshed) error {
	var state, entered, site, climb string
	var order, attempt, lost int
	var started int64
	var free bool
	err := tx.QueryRowContext(ctx, `SELECT state, entered, site, ord, attempt, lost, started, climb, CASE WHEN `+untouched+` THEN 1 ELSE 0 END FROM hosts
		WHERE run = $1 AND host = $2`, f.run.ID, p.Host.Name).Scan(&state, &entered, &site, &order, &attempt, &lost, &started, &climb, &free)
	if free && climb != "" {
		var on remediate.Climb
		free = json.Unmarshal([]byte(climb), &on) == nil && !on.Owed()
	}
	switch {
	case err == sql.ErrNoRows:
		one.Added = append(one.Added, p.Host.Name)
		return f.insert(ctx, tx, p)
	case err != nil:
		return err
	case free && p.Host.State != "":
		one.Unused = append(one.Unused, p.Host.Name)
		_, err := f.store.moveAll(ctx, tx, f.run.ID, string(remediate.Skipped), `host = `+quote(p.Host.Name),
			`state = 'done', verdict = 'skipped', reason = $1, ended = $2`, "the inventory says now that it is "+string(p.Host.State), time.Now().UnixMilli())
		return err
	case free:
		one.Changed = append(one.Changed, p.Host.Name)
		p.Order = order
		if _, err := tx.ExecContext(ctx, `DELETE FROM hosts WHERE run = $1 AND host = $2`, f.run.ID, p.Host.Name); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE sites SET todo = todo - 1 WHERE run = $1 AND site = $2`, f.run.ID, site); err != nil {
			return err
		}
		if err := f.insert(ctx, tx, p); err != nil || attempt == 0 {
			return err
		}
		// Attempts go on from where they were: there are workflows of their numbers.
		_, err := tx.ExecContext(ctx, `UPDATE hosts SET attempt = $1, lost = $2, started = $3 WHERE run = $4 AND host = $5`,
			attempt, lost, started, f.run.ID, p.Host.Name)
		return err
	case state == "done" && entered == "" && site == p.Host.Site: // for whoever has it treated again
		one.Changed = append(one.Changed, p.Host.Name)
		data, err := json.Marshal(p.Host)
		if err == nil {
			_, err = tx.ExecContext(ctx, `UPDATE hosts SET data = $1 WHERE run = $2 AND host = $3`, string(data), f.run.ID, p.Host.Name)
		}
		return err
	}
	one.Begun = append(one.Begun, p.Host.Name)
	return nil
}

// insert stores a host that is to do. Whoever works on the run says by which way it goes.
func (f *refresh) insert(ctx context.Context, tx *sql.Tx, p Planned) error {
	g := newGating()
	if err := insertHosts(ctx, tx, f.run, []Planned{p}, g); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `UPDATE hosts SET way = '`+unlabelled+`' WHERE run = $1 AND host = $2`, f.run.ID, p.Host.Name); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO sites (run, site, todo) VALUES ($1, $2, 1)
		ON CONFLICT (run, site) DO UPDATE SET todo = sites.todo + 1`, f.run.ID, p.Host.Site)
	if err != nil {
		return err
	}
	return g.places.store(ctx, tx, f.run.ID) // the last word counts
}

// gate holds the hosts for the dependency tier of their sites, which may be new.
func (f *refresh) gate(ctx context.Context, tx *sql.Tx, now int64) error {
	if err := shutGates(ctx, tx, f.run.ID, now); err != nil {
		return err
	}
	gated, err := texts(ctx, tx, `SELECT site FROM sites WHERE run = $1 AND gated = 1`, f.run.ID)
	if err != nil {
		return err
	}
	of := map[string]bool{}
	for _, p := range f.todo {
		of[p.Host.Site] = true
	}
	return hold(ctx, tx, f.run.ID, slices.DeleteFunc(gated, func(site string) bool { return !of[site] }))
}

// end says that the run is of the fleet of now, and takes it up again if there is more to do.
func (f *refresh) end(ctx context.Context, digest string) error {
	for _, h := range f.hosts {
		if !h.seen {
			f.done.Gone = append(f.done.Gone, h.name)
		}
	}
	for _, names := range []*[]string{&f.done.Added, &f.done.Changed, &f.done.Begun, &f.done.Unused, &f.done.Gone, &f.done.Unpicked} {
		slices.Sort(*names)
	}
	return f.store.tx(ctx, func(tx *sql.Tx) error {
		if err := f.store.exclusive(ctx, tx); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE runs SET fleet_digest = $1 WHERE id = $2`, digest, f.run.ID); err != nil || len(f.done.Added) == 0 {
			return err
		}
		_, err := tx.ExecContext(ctx, `UPDATE runs SET state = 'running', ended = 0 WHERE id = $1 AND state = 'ended'`, f.run.ID)
		return err
	})
}
