package rotation_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"unbrick/bitlocker"
	"unbrick/bitlocker/keytest"
	"unbrick/bitlocker/rotation"
	"unbrick/remediate/lab/testenv/powershell"
)

// A world is a ledger, hosts with one volume each, and an escrow.
type world struct {
	t      *testing.T
	path   string
	ledger *bitlocker.Ledger
	ids    *rand.PCG
	later  time.Duration // how far the clock is ahead of the ledger's
	hosts  map[string][]bitlocker.KeyID
	filed  []bitlocker.Entry
	asked  []bitlocker.Query // of Rotate
	ran    []string          // of Run
	rotate func(bitlocker.Query) error
	run    func() error
	index  error
	sick   map[string]bool
	since  time.Time
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, path: filepath.Join(t.TempDir(), "ledger"), ids: rand.NewPCG(8, 1), hosts: map[string][]bitlocker.KeyID{}, sick: map[string]bool{}, since: time.Now().Add(-time.Hour)}
	w.reopen()
	t.Cleanup(func() { w.ledger.Close() })
	return w
}

// reopen is what a restart does.
func (w *world) reopen() {
	w.t.Helper()
	if w.ledger != nil {
		w.ledger.Close()
	}
	var err error
	if w.ledger, err = bitlocker.OpenLedger(w.path); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) now() time.Time { return time.Now().Add(w.later) }

// protector gives the host one more, in escrow.
func (w *world) protector(host string) bitlocker.KeyID {
	id := keytest.NewKeyID(w.ids)
	w.hosts[host] = append(w.hosts[host], id)
	w.file(host, id)
	return id
}

func (w *world) file(host string, id bitlocker.KeyID) {
	if !slices.ContainsFunc(w.filed, func(e bitlocker.Entry) bool { return e.ID == id }) {
		w.filed = append(w.filed, bitlocker.Entry{ID: id, Host: host, Source: "escrow", Created: w.now()})
	}
}

// release records that the key went out.
func (w *world) release(host string, id bitlocker.KeyID) {
	w.t.Helper()
	r := bitlocker.Release{Query: bitlocker.Query{ID: id, Host: host}, Recipient: bitlocker.Recipient{Actor: "agent of " + host, Purpose: "repair"}, Source: "escrow"}
	if err := w.ledger.Record(w.t.Context(), r); err != nil {
		w.t.Fatal(err)
	}
}

// disclosed is a host with one protector, whose key went out.
func (w *world) disclosed(host string) bitlocker.KeyID {
	w.t.Helper()
	id := w.protector(host)
	w.release(host, id)
	return id
}

func (w *world) worker(rotates bool) *rotation.Worker {
	var s bitlocker.Source = lister{w}
	if rotates {
		s = rotator{lister{w}}
	}
	return &rotation.Worker{Ledger: w.ledger, Escrows: []bitlocker.Source{s}, Soak: 24 * time.Hour, Again: 48 * time.Hour, Now: w.now,
		Healthy: func(host string) (bool, time.Time) { return !w.sick[host], w.since }}
}

// pass returns what became of each protector, and why.
func (w *world) pass(k *rotation.Worker) []rotation.Outcome {
	w.t.Helper()
	k.Ledger = w.ledger
	out, err := k.Pass(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// want is of a world with one protector.
func (w *world) want(k *rotation.Worker, step bitlocker.RotationStep, why string) rotation.Outcome {
	w.t.Helper()
	out := w.pass(k)
	if len(out) != 1 || out[0].Step != step || !strings.Contains(out[0].Why, why) || out[0].Done() != (out[0].Why == "") {
		w.t.Fatalf("%+v\n want %s: %s", out, step, why)
	}
	return out[0]
}

// A lister is the escrow of a world.
type lister struct{ *world }

func (lister) String() string { return "escrow" }

func (lister) Lookup(context.Context, bitlocker.Query) (bitlocker.Key, error) {
	return bitlocker.Key{}, errors.New("a rotation needs no key")
}

func (l lister) Index(_ context.Context, host string) (all []bitlocker.Entry, err error) {
	for _, e := range l.filed {
		if host == "" || bitlocker.SameHost(e.Host, host) {
			all = append(all, e)
		}
	}
	return all, l.index
}

// A rotator is one that can have protectors replaced. What it asks is on the ledger first.
type rotator struct{ lister }

func (r rotator) Rotate(ctx context.Context, q bitlocker.Query) error {
	var last bitlocker.Event
	if err := r.ledger.Each(ctx, func(e bitlocker.Event) error { last = e; return nil }); err != nil {
		return err
	}
	if last.Rotation == nil || last.Rotation.Step != bitlocker.RotationAsked || last.Rotation.Query != q {
		r.t.Errorf("%s is asked for and not on the ledger", q.ID)
	}
	r.asked = append(r.asked, q)
	if r.rotate != nil {
		return r.rotate(q)
	}
	return nil
}

// A winrm does to the hosts of a world what the commands say.
type winrm struct {
	*world
	escrows bool // a new protector gets there at once
}

func (winrm) String() string { return "winrm" }

var guid = regexp.MustCompile(`'\{([0-9A-F-]{36})\}'`)

func (r winrm) Run(_ context.Context, host, script string) (string, error) {
	r.ran = append(r.ran, script)
	if err := powershell.Check(script); err != nil {
		return "", err
	}
	if r.run != nil {
		if err := r.run(); err != nil {
			return "", err
		}
	}
	var ids []bitlocker.KeyID
	for _, m := range guid.FindAllStringSubmatch(script, -1) {
		id, err := bitlocker.ParseKeyID(m[1])
		if err != nil {
			return "", err
		}
		ids = append(ids, id)
	}
	on := r.hosts[host]
	if strings.Contains(script, "Remove-BitLockerKeyProtector") {
		if !slices.Contains(on, ids[1]) {
			return "", errors.New("the new protector is not on this volume")
		}
		r.hosts[host] = slices.DeleteFunc(on, func(id bitlocker.KeyID) bool { return id == ids[0] })
		return "DEAD {" + ids[0].String() + "}\r\n", nil
	}
	if !slices.Contains(on, ids[0]) {
		return "GONE\r\n", nil
	}
	i := slices.IndexFunc(on, func(id bitlocker.KeyID) bool { return !slices.Contains(ids, id) })
	if i < 0 {
		i, r.hosts[host] = len(on), append(on, keytest.NewKeyID(r.ids))
	}
	id := r.hosts[host][i]
	if r.escrows {
		r.file(host, id)
	}
	return "NEW {" + id.String() + "}\r\n", nil
}
