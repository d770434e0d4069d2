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
	// Renamed are those that the fleet has under another name, by serial number, UUID or a way in:
	// they stay under the one that they had. The names of now, by those.
	Renamed map[string]string `json:"renamed"`
}

// Refresh takes a fleet that was read again, with its digest, into a run, which may be going on
// in any process. Hosts that are new are added, what has changed of hosts that were not begun
// takes effect, and no host is taken out. Of hosts that are not in use only those are looked at
// which the run has. Cut off, it may be called again. The empty run is the latest.
func (s *Store) Refresh(ctx context.Context, run, digest string, hosts iter.Seq[Planned]) (Refreshed, error) {
	r, err := s.Run(ctx, run)
	if err != nil {
		return Refreshed{}, err
	}
	f := &refresh{store: s, run: r, seed: maphash.MakeSeed(), names: map[uint64]int{}, ids: map[uint64]int{},
		done: Refreshed{Added: []string{}, Changed: []string{}, Begun: []string{}, Unused: []string{}, Gone: []string{}, Renamed: map[string]string{}}}
	err = f.known(ctx)
	if err == nil {
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
	ids   map[uint64]int
	todo  []Planned // to be stored in one transaction
	done  Refreshed
}

type refreshHost struct {
	name string
	sum  uint64 // of what is known of it
	seen bool
}

func (f *refresh) hash(kind, text string) uint64 {
	return maphash.String(f.seed, kind+"\x00"+strings.ToLower(text))
}

// keys are what a machine is recognised by, whatever it is called: two treatments of one machine
// would restart it under each other.
func (f *refresh) keys(h *inventory.Host) (keys []uint64) {
	if h.Serial != "" {
		keys = append(keys, f.hash("serial", h.Serial))
	}
	if h.UUID != "" {
		keys = append(keys, f.hash("uuid", h.UUID))
	}
	for _, r := range h.Routes {
		if r.Driver != remediate.Manual { // one technician stands for many hosts
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
			f.hosts = append(f.hosts, refreshHost{name: after, sum: f.sum(&h)})
			f.names[f.hash("name", after)] = i
			for _, k := range f.keys(&h) {
				f.ids[k] = i
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

// all goes through the hosts of now.
func (f *refresh) all(ctx context.Context, hosts iter.Seq[Planned]) error {
	for p := range hosts {
		if !f.differs(&p) {
			continue
		}
		if f.todo = append(f.todo, p); len(f.todo) == refreshAtOnce {
			if err := f.flush(ctx); err != nil {
				return err
			}
		}
	}
	return f.flush(ctx)
}

// differs says whether there is something to store of a host.
func (f *refresh) differs(p *Planned) bool {
	i, ok := f.names[f.hash("name", p.Host.Name)]
	if !ok {
		for _, k := range f.keys(&p.Host) {
			if i, ok := f.ids[k]; ok {
				f.done.Renamed[f.hosts[i].name] = p.Host.Name
				f.hosts[i].seen = true
				return false
			}
		}
		if p.Host.State != "" {
			return false
		}
		f.names[f.hash("name", p.Host.Name)] = len(f.hosts)
		f.hosts = append(f.hosts, refreshHost{name: p.Host.Name, seen: true})
		return true
	}
	f.hosts[i].seen = true
	p.Host.Name = f.hosts[i].name // in the case that the run has
	return f.sum(&p.Host) != f.hosts[i].sum
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
const untouched = `state = 'todo' AND attempt = 0 AND touched = 0 AND entered = '' AND parked = '' AND notes = '' AND climb = '' AND cancel = ''`

// put stores one host, as far as how it stands allows.
func (f *refresh) put(ctx context.Context, tx *sql.Tx, p Planned, one *Refreshed) error {
	var state, entered, site string
	var order int
	var free bool
	err := tx.QueryRowContext(ctx, `SELECT state, entered, site, ord, CASE WHEN `+untouched+` THEN 1 ELSE 0 END FROM hosts
		WHERE run = $1 AND host = $2`, f.run.ID, p.Host.Name).Scan(&state, &entered, &site, &order, &free)
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
		return f.insert(ctx, tx, p)
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
	for _, names := range []*[]string{&f.done.Added, &f.done.Changed, &f.done.Begun, &f.done.Unused, &f.done.Gone} {
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
