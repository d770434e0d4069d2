package rotation_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"unbrick/bitlocker"
	"unbrick/bitlocker/keytest"
	"unbrick/bitlocker/rotation"
)

// The queue is what the ledger says, whatever happens in between.
func TestQueue(t *testing.T) {
	r := rand.NewPCG(1, 1)
	q := bitlocker.Query{ID: keytest.NewKeyID(r), Host: "PC1"}
	other := bitlocker.Query{ID: q.ID, Host: "PC2"}
	release := func(q bitlocker.Query) bitlocker.Event { return bitlocker.Event{Release: &bitlocker.Release{Query: q}} }
	step := func(q bitlocker.Query, s bitlocker.RotationStep) bitlocker.Event {
		return bitlocker.Event{Rotation: &bitlocker.Rotation{Query: q, Step: s}}
	}
	for name, test := range map[string]struct {
		events []bitlocker.Event
		want   string
	}{
		"nothing":                    {nil, ""},
		"a release":                  {[]bitlocker.Event{release(q)}, "PC1 disclosed 1"},
		"two of one key":             {[]bitlocker.Event{release(q), release(bitlocker.Query{ID: q.ID, Host: "pc1.corp.example"})}, "PC1 disclosed 2"},
		"withheld":                   {[]bitlocker.Event{{Release: &bitlocker.Release{Query: q, Withheld: true}}}, ""},
		"a password":                 {[]bitlocker.Event{{Release: &bitlocker.Release{Query: bitlocker.Query{Host: "PC1"}, Account: "Administrator"}}}, ""},
		"a request, an approval":     {[]bitlocker.Event{{Asked: &bitlocker.Request{Keys: []bitlocker.Query{q}}}, {Approved: &bitlocker.Approval{}}, {Cut: "x"}}, ""},
		"asked":                      {[]bitlocker.Event{release(q), step(q, bitlocker.RotationAsked)}, "PC1 asked 1"},
		"used while asked":           {[]bitlocker.Event{release(q), step(q, bitlocker.RotationAsked), release(q)}, "PC1 asked 2"},
		"dead":                       {[]bitlocker.Event{release(q), step(q, bitlocker.RotationDead)}, "PC1 dead 1"},
		"dead and brought back":      {[]bitlocker.Event{release(q), step(q, bitlocker.RotationDead), release(q)}, "PC1 disclosed 1"},
		"clones have one id":         {[]bitlocker.Event{release(q), release(other), step(other, bitlocker.RotationDead)}, "PC1 disclosed 1, PC2 dead 1"},
		"no host":                    {[]bitlocker.Event{release(bitlocker.Query{ID: q.ID})}, " disclosed 1"},
		"no host, and with one":      {[]bitlocker.Event{release(bitlocker.Query{ID: q.ID}), release(q)}, "PC1 disclosed 1"},
		"a rotation without release": {[]bitlocker.Event{step(q, bitlocker.RotationDead)}, ""},
	} {
		var queue rotation.Queue
		for _, e := range test.events {
			queue.Add(e)
		}
		var got []string
		for _, it := range queue.Items() {
			got = append(got, fmt.Sprintf("%s %s %d", it.Host, it.Step, it.Releases))
		}
		if s := strings.Join(got, ", "); s != test.want {
			t.Errorf("%s: %q, want %q", name, s, test.want)
		}
	}
}

// From the release to the end by an escrow that rotates, with a restart at each step.
func TestRotator(t *testing.T) {
	w := newWorld(t)
	w.protector("PC1") // another one, which nobody has seen
	old := w.disclosed("PC1")
	w.sick["PC1"] = true
	k := w.worker(true)
	w.want(k, rotation.Disclosed, "has not been seen well")
	w.sick["PC1"] = false
	w.want(k, rotation.Disclosed, "has to stay well until")
	w.later = 25 * time.Hour
	k.Dry = true
	w.want(k, rotation.Disclosed, "due: to be asked of escrow")
	k.Dry = false
	if n, _ := w.ledger.Head(); n != 1 || len(w.asked) != 0 {
		t.Fatal("a dry pass did something")
	}
	w.index = errors.New("down")
	w.want(k, rotation.Disclosed, "cannot ask escrow whether it has the key: down")
	w.index = nil
	w.want(k, bitlocker.RotationAsked, "asked for now")
	w.reopen()
	w.want(k, bitlocker.RotationAsked, "asked again after")
	w.later = 49 * time.Hour
	w.reopen()
	w.index = errors.New("down")
	w.want(k, bitlocker.RotationAsked, "cannot ask escrow whether the new one is there: down")
	w.index = nil
	w.want(k, bitlocker.RotationAsked, "asked for now")
	if len(w.asked) != 2 {
		t.Errorf("asked %d times, want 2", len(w.asked))
	}
	w.later = 25 * time.Hour
	// What an escrow has of old, but did not show before, is no sign.
	w.filed = append(w.filed, bitlocker.Entry{ID: keytest.NewKeyID(w.ids), Host: "PC1", Created: time.Now().Add(-time.Hour * 9000)})
	w.filed = append(w.filed, bitlocker.Entry{ID: keytest.NewKeyID(w.ids), Host: "PC1", Created: w.now(), Reason: "damaged"})
	w.want(k, bitlocker.RotationAsked, "asked again after")
	fresh := w.protector("pc1.corp.example")
	k.Dry = true
	w.want(k, bitlocker.RotationAsked, "due: escrow has the new protector "+fresh.String())
	k.Dry = false
	if o := w.want(k, bitlocker.RotationDead, ""); o.New != fresh || o.By != "escrow" || o.ID != old {
		t.Errorf("%+v", o)
	}
	w.reopen()
	if o := w.want(k, bitlocker.RotationDead, ""); o.New != fresh {
		t.Errorf("%+v after a restart", o)
	}
	if _, err := bitlocker.AuditLedger(w.path); err != nil {
		t.Error(err)
	}
}

// One at a time per host: a new protector is of one old one.
func TestOneAtATime(t *testing.T) {
	w := newWorld(t)
	first, second := w.disclosed("PC1"), w.disclosed("PC1")
	w.later = 25 * time.Hour
	k := w.worker(true)
	out := w.pass(k)
	if out[0].Step != bitlocker.RotationAsked || out[1].Step != rotation.Disclosed || !strings.Contains(out[1].Why, first.String()) {
		t.Fatalf("%+v", out)
	}
	w.protector("PC1")
	out = w.pass(k)
	if !out[0].Done() || out[1].Step != bitlocker.RotationAsked || out[1].ID != second || len(w.asked) != 2 {
		t.Fatalf("%+v", out)
	}
	if out = w.pass(k); out[1].Done() {
		t.Error("one new protector counted for two old ones")
	}
}

// An escrow that refuses is not asked 40,000 times, and all of it is tried again the next time.
func TestRefused(t *testing.T) {
	w := newWorld(t)
	for i := range 12 {
		w.disclosed(fmt.Sprintf("PC%d", i))
	}
	w.later = 25 * time.Hour
	w.rotate = func(bitlocker.Query) error { return errors.New("no permission") }
	k := w.worker(true)
	out := w.pass(k)
	if len(w.asked) != 5 || out[0].Step != bitlocker.RotationFailed || !strings.Contains(out[0].Why, "no permission") || !strings.Contains(out[11].Why, "was left alone") {
		t.Errorf("asked %d times: %+v", len(w.asked), out)
	}
	w.asked = nil
	w.pass(k)
	if slices.Contains(w.asked, out[0].Query) {
		t.Error("those that failed the first time keep the others from their turn")
	}
	w.rotate = nil
	k.Every = 2 * time.Millisecond
	start := time.Now()
	for _, o := range w.pass(k) {
		if o.Step != bitlocker.RotationAsked {
			t.Errorf("%+v", o)
		}
	}
	if took := time.Since(start); took < 11*k.Every {
		t.Errorf("12 requests in %s are too many", took)
	}
}

// By hand: the command that removes is not shown before an escrow has the new protector.
func TestByHand(t *testing.T) {
	w := newWorld(t)
	old := w.disclosed("PC1")
	w.later = 25 * time.Hour
	k := w.worker(false)
	for range 2 {
		o := w.want(k, bitlocker.RotationAsked, "by hand")
		if !strings.Contains(o.Commands, "Add-BitLockerKeyProtector") || strings.Contains(o.Commands, "Remove-") {
			t.Error(o.Commands)
		}
		w.reopen()
		w.later += 100 * time.Hour
	}
	fresh := w.protector("PC1")
	o := w.want(k, bitlocker.RotationEscrowed, "remove the old one by hand")
	if !strings.Contains(o.Commands, "Remove-BitLockerKeyProtector") || !strings.Contains(o.Commands, fresh.String()) {
		t.Error(o.Commands)
	}
	if err := k.Dead(t.Context(), fresh, "alice"); err == nil {
		t.Error("a protector that nobody has seen is said to be dead")
	}
	if err := k.Dead(t.Context(), old, "alice"); err != nil {
		t.Fatal(err)
	}
	if o := w.want(k, bitlocker.RotationDead, ""); o.By != "alice" {
		t.Errorf("%+v", o)
	}
}

// A host that the escrow does not manage is done by hand, with the same escrow to show for it.
func TestNotManaged(t *testing.T) {
	w := newWorld(t)
	w.disclosed("PC1")
	w.later = 25 * time.Hour
	w.rotate = func(bitlocker.Query) error { return fmt.Errorf("%w: not managed", bitlocker.ErrNoRotation) }
	k := w.worker(true)
	for range 2 {
		if o := w.want(k, bitlocker.RotationAsked, "by hand"); o.By != rotation.ByHand || o.Commands == "" {
			t.Errorf("%+v", o)
		}
	}
	w.protector("PC1")
	w.want(k, bitlocker.RotationEscrowed, "remove the old one by hand")
	if len(w.asked) != 1 {
		t.Errorf("asked %d times", len(w.asked))
	}
}

// An escrow that could not be asked at the beginning counts later, for what it got since.
func TestLateEscrow(t *testing.T) {
	w := newWorld(t)
	w.disclosed("PC1")
	stale := keytest.NewKeyID(w.ids)
	w.later = 25 * time.Hour
	k := w.worker(false)
	late := &late{err: errors.New("down")}
	k.Escrows = append(k.Escrows, late)
	w.want(k, bitlocker.RotationAsked, "by hand")
	late.err, late.has = nil, []bitlocker.Entry{
		{ID: stale, Host: "PC1"}, // nobody knows since when
		{ID: keytest.NewKeyID(w.ids), Host: "PC1", Created: time.Now().Add(-9000 * time.Hour)},
	}
	w.want(k, bitlocker.RotationAsked, "no escrow has a new protector")
	fresh := keytest.NewKeyID(w.ids)
	late.has = append(late.has, bitlocker.Entry{ID: fresh, Host: "PC1", Created: w.now()})
	if o := w.want(k, bitlocker.RotationEscrowed, "remove the old one"); o.New != fresh {
		t.Errorf("%+v", o)
	}
}

type late struct {
	err error
	has []bitlocker.Entry
}

func (*late) Lookup(context.Context, bitlocker.Query) (bitlocker.Key, error) {
	return bitlocker.Key{}, errors.New("a rotation needs no key")
}

func (l *late) Index(context.Context, string) ([]bitlocker.Entry, error) { return l.has, l.err }

func TestRunner(t *testing.T) {
	t.Run("from start to end", func(t *testing.T) {
		w := newWorld(t)
		old := w.disclosed("PC1")
		w.later = 25 * time.Hour
		k := w.worker(false)
		k.Runner = winrm{world: w}
		w.want(k, bitlocker.RotationAdded, "not seen in escrow yet")
		w.protector("PC1") // of another volume: the host has named another one
		w.want(k, bitlocker.RotationAdded, "not in escrow yet")
		w.later = 49 * time.Hour
		k.Runner = winrm{world: w, escrows: true}
		added := w.hosts["PC1"]
		w.want(k, bitlocker.RotationAdded, "not seen in escrow yet")
		if !slices.Equal(w.hosts["PC1"], added) {
			t.Error("the second attempt added a further protector")
		}
		w.want(k, bitlocker.RotationDead, "")
		if slices.Contains(w.hosts["PC1"], old) {
			t.Error("the old protector is still there")
		}
	})
	t.Run("hosts that are off do not hold up the others", func(t *testing.T) {
		w := newWorld(t)
		for i := range 8 {
			w.disclosed(fmt.Sprintf("PC%d", i))
		}
		w.later = 25 * time.Hour
		k := w.worker(false)
		k.Runner = winrm{world: w, escrows: true}
		w.run = func() error {
			if len(w.ran) <= 7 {
				return errors.New("off")
			}
			return nil
		}
		out := w.pass(k)
		if out[0].Step != bitlocker.RotationFailed || out[7].Step != bitlocker.RotationAdded {
			t.Errorf("%+v", out)
		}
	})
	t.Run("a host that has it no more", func(t *testing.T) {
		w := newWorld(t)
		w.disclosed("PC1")
		w.hosts["PC1"] = nil
		w.later = 25 * time.Hour
		k := w.worker(false)
		k.Runner = winrm{world: w}
		w.want(k, bitlocker.RotationDead, "")
	})
	t.Run("after it was begun by hand", func(t *testing.T) {
		w := newWorld(t)
		w.disclosed("PC1")
		w.later = 25 * time.Hour
		k := w.worker(false)
		w.want(k, bitlocker.RotationAsked, "by hand")
		k.Runner = winrm{world: w, escrows: true}
		w.want(k, bitlocker.RotationAdded, "")
		w.want(k, bitlocker.RotationDead, "")
	})
}

// Whatever fails, however often, and wherever the program ends: at every moment an escrow has a
// key that opens the host, and in the end the old one is gone.
func TestNeverWithoutKey(t *testing.T) {
	for seed := range uint64(20) {
		w := newWorld(t)
		dice := rand.New(rand.NewPCG(seed, 5))
		fails := func() error {
			if dice.IntN(3) == 0 {
				return errors.New("no")
			}
			return nil
		}
		w.run = fails
		old := w.disclosed("PC1")
		w.later = 25 * time.Hour
		k := w.worker(false)
		for round := 0; ; round++ {
			if round == 200 {
				t.Fatalf("seed %d: not done in %d passes: %v", seed, round, w.ran)
			}
			k.Runner = winrm{w, dice.IntN(2) == 0}
			w.index = fails()
			out := w.pass(k)
			recoverable := slices.ContainsFunc(w.filed, func(e bitlocker.Entry) bool { return slices.Contains(w.hosts["PC1"], e.ID) })
			if !recoverable {
				t.Fatalf("seed %d: no escrow has a key of the host", seed)
			}
			if out[0].Done() {
				break
			}
			w.later = time.Duration(25+24*dice.IntN(2)) * time.Hour
			w.reopen()
		}
		if slices.Contains(w.hosts["PC1"], old) {
			t.Fatalf("seed %d: said to be dead, and still there", seed)
		}
	}
}
