package swap

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"strings"
	"time"

	"unbrick/remediate"
)

// An Entry is one swap, from before its first change until the instance runs again.
type Entry struct {
	Way      string    `json:"way"`
	Instance string    `json:"instance"` // Instance.ID
	Number   int       `json:"number"`   // of the instance's swaps; 1 is the first
	Run      string    `json:"run"`
	Host     string    `json:"host"`
	Address  string    `json:"address"` // of the route
	Mark     string    `json:"mark"`    // of this swap: what the volume is known by on a helper, unless a Marker says otherwise
	Slot     Slot      `json:"slot"`
	Snapshot bool      `json:"snapshot,omitempty"` // one is made of the volume, called as the mark
	At       time.Time `json:"at"`

	Ended bool `json:"-"` // the instance runs with its volume again
	Gone  bool `json:"-"` // the snapshot was seen to be there no more; only All says so
}

// A Journal holds what was swapped and how to undo it. Its records are never changed:
//
//	swap/INSTANCE N        an Entry
//	swapend/INSTANCE N     it ended
//	swapgone/INSTANCE N    its snapshot is there no more
//	swaplist/SHARD N       which instances there are
type Journal struct{ records Records }

// NewJournal returns the journal in the records.
func NewJournal(r Records) *Journal { return &Journal{r} }

// Current returns the entry of an instance that has not ended; Number is 0 if there is none.
// last is the number of the last one, ended or not.
func (j *Journal) Current(ctx context.Context, instance string) (e Entry, last int, err error) {
	all, err := j.of(ctx, instance)
	if n := len(all); n > 0 && !all[n-1].Ended {
		e = all[n-1]
	}
	return e, len(all), err
}

// of returns the entries of an instance, oldest first. All but the last have ended.
func (j *Journal) of(ctx context.Context, instance string) (all []Entry, err error) {
	for {
		var e Entry
		n := len(all) + 1
		err := j.load(ctx, key("swap", instance, n), &e)
		if errors.Is(err, fs.ErrNotExist) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		_, err = j.records.Load(ctx, key("swapend", instance, n))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("cannot read the journal of swaps: %w", err)
		}
		e.Ended = err == nil
		all = append(all, e)
	}
}

// Begin puts a new entry on record, and returns what is on record then: another process may
// have been faster.
func (j *Journal) Begin(ctx context.Context, e Entry) (Entry, error) {
	_, last, err := j.Current(ctx, e.Instance)
	if err != nil {
		return Entry{}, err
	}
	if err := j.enlist(ctx, e.Instance); err != nil {
		return Entry{}, err
	}
	e.Number, e.Mark = last+1, newMark()
	b, err := json.Marshal(e)
	if err != nil {
		return Entry{}, err
	}
	err = j.records.Create(ctx, key("swap", e.Instance, e.Number), b)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return Entry{}, fmt.Errorf("cannot write to the journal of swaps: %w", err)
	}
	e, _, err = j.Current(ctx, e.Instance)
	if err == nil && e.Number == 0 {
		err = errors.New("another process swapped the volume of this host and put it back just now")
	}
	return e, err
}

// End closes an entry. Twice is the same as once.
func (j *Journal) End(ctx context.Context, e Entry) error {
	err := j.records.Create(ctx, key("swapend", e.Instance, e.Number), []byte("{}"))
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("cannot write to the journal of swaps: %w", err)
	}
	return nil
}

// Forget notes that the snapshot of an entry that has ended is there no more. Twice is the same
// as once. Before its end a snapshot may still be made.
func (j *Journal) Forget(ctx context.Context, e Entry) error {
	if !e.Ended || !e.Snapshot {
		return fmt.Errorf("the swap of %s has not ended, or has no snapshot: it is not noted that it is gone", e.Host)
	}
	err := j.records.Create(ctx, key("swapgone", e.Instance, e.Number), []byte("{}"))
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("cannot write to the journal of swaps: %w", err)
	}
	return nil
}

// All returns every entry. What has not ended is to be put back, by Leave; a snapshot is there
// whether or not its entry has ended, until it is Gone.
func (j *Journal) All(ctx context.Context) (all []Entry, err error) {
	for shard := range shards {
		names, err := j.listed(ctx, shard)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			entries, err := j.of(ctx, name)
			if err == nil {
				err = j.missed(ctx, entries)
			}
			if err != nil {
				return nil, err
			}
			all = append(all, entries...)
		}
	}
	return all, nil
}

// missed marks the entries whose snapshots are gone.
func (j *Journal) missed(ctx context.Context, entries []Entry) error {
	for i, e := range entries {
		if !e.Ended || !e.Snapshot {
			continue
		}
		_, err := j.records.Load(ctx, key("swapgone", e.Instance, e.Number))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot read the journal of swaps: %w", err)
		}
		entries[i].Gone = err == nil
	}
	return nil
}

// shards are so many that a thousand swaps at once are not in each other's way.
const shards = 64

// enlist puts an instance among those of its shard.
func (j *Journal) enlist(ctx context.Context, instance string) error {
	h := fnv.New32a()
	h.Write([]byte(instance))
	shard := int(h.Sum32() % shards)
	b, err := json.Marshal(instance)
	if err != nil {
		return err
	}
	for {
		names, err := j.listed(ctx, shard)
		if err != nil {
			return err
		}
		for _, name := range names {
			if name == instance {
				return nil
			}
		}
		err = j.records.Create(ctx, key("swaplist", shard, len(names)), b)
		if err == nil || !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
}

func (j *Journal) listed(ctx context.Context, shard int) (names []string, err error) {
	for {
		var name string
		err := j.load(ctx, key("swaplist", shard, len(names)), &name)
		if errors.Is(err, fs.ErrNotExist) {
			return names, nil
		}
		if err != nil {
			return nil, err
		}
		names = append(names, name)
	}
}

// load reads a record. The error wraps fs.ErrNotExist if it is not there.
func (j *Journal) load(ctx context.Context, key string, into any) error {
	b, err := j.records.Load(ctx, key)
	if err != nil {
		return fmt.Errorf("cannot read the journal of swaps: %w", err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("the journal of swaps is damaged: %v", err)
	}
	return nil
}

// key names a record by what it is of.
func key(kind string, parts ...any) string { return kind + "/" + digest(parts...) }

func digest(parts ...any) string {
	var text strings.Builder
	for _, p := range parts {
		fmt.Fprintf(&text, "%v\x00", p)
	}
	sum := sha256.Sum256([]byte(text.String()))
	return hex.EncodeToString(sum[:])
}

// newMark returns what a volume is known by on a helper, and its snapshot by, from when the entry is
// on record: at most 20 characters, the room that a virtio disk has for its serial number. It is
// random: another state, which does not know of this swap, must not take the snapshot for its own.
func newMark() string {
	random := make([]byte, 6)
	rand.Read(random)
	return "unbrick-" + hex.EncodeToString(random)
}

// Others returns an error if an entry that has not ended is not the target's. What two hypervisors
// run may have one id, of a machine and its replica for instance; and one may be in the inventory
// twice. It is a *remediate.RetryError if the entry is of the same run, which will end it.
func (e Entry) Others(t remediate.Target) error {
	if strings.EqualFold(e.Host, t.Host.Name) && (e.Address == "" || strings.EqualFold(e.Address, t.Route.Address)) {
		return nil
	}
	err := fmt.Errorf("%s was begun on in run %s as %s at %s, and that has not ended: %s at %s has the same id, and is not touched\n"+
		"bring that to its end first (unbrick cleanup lists it), under that name and address; if it is another instance, it has a copied id: one of the two needs one of its own",
		e.Instance, e.Run, e.Host, e.Address, t.Host.Name, t.Route.Address)
	if e.Run == t.Run {
		return &remediate.RetryError{After: 30 * time.Second, Err: err}
	}
	return err
}
