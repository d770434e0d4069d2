package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"unbrick/bitlocker"
	"unbrick/playbooks"
	"unbrick/remediate/rescue/wire"
)

const (
	offlineBudget = 90 * time.Minute // with a person who types
	maxTyped      = 5                // keys that a person may try on one volume
	maxStays      = 1000             // reports of one host on one stick
)

// RunOffline does the job of Run on a host that no server reaches, with the playbook of the
// stick: a person types the recovery keys, and what would go to the server goes to place. A
// volume is not changed unless place has a copy of what is removed. The report is returned as
// it was written; an error means that it was not.
func RunOffline(ctx context.Context, m Machine, cfg wire.Config, o Options, term Terminal, place Place) (wire.Report, error) {
	if cfg.Stick == nil {
		return wire.Report{}, errors.New("this image is not that of a stick")
	}
	a := &agent{m: m, o: o.complete(), start: time.Now(), person: &typist{term, silence}, place: place}
	a.report.Agent = a.o.Version
	a.report.Volumes = []playbooks.VolumeResult{}
	id, err := m.Identity()
	if err != nil {
		a.note("hello", "cannot read all of the host's identity: %v", err)
	}
	a.job = wire.Job{Host: called(id), Playbook: cfg.Stick.Playbook, Budget: offlineBudget, Allow: cfg.Stick.Allow}
	a.end = a.start.Add(offlineBudget)
	a.note("hello", "without a server, on stick %s of %s: this is %s", cfg.Stick.ID, cfg.Stick.By, a.job.Host)
	a.report.Error = a.guard("the job", func() error { return a.work(ctx) })
	if ctx.Err() != nil {
		return a.report, fmt.Errorf("stopped before the report: %w", context.Cause(ctx))
	}
	a.note("report", "%s", summary(a.report))
	a.report.Elapsed = time.Since(a.start)
	return a.report, a.leave(wire.StickReport{Stick: cfg.Stick.ID, Identity: id, At: a.start.UTC(), Report: a.report}, cfg.Token)
}

// called is what a host is called by what it says of itself; its name stands on its disk.
func called(id wire.Identity) string {
	for _, s := range []string{id.Serial, id.UUID} {
		if s = strings.Join(strings.Fields(s), ""); s != "" {
			return s
		}
	}
	return "a host without a serial number"
}

// leave writes the report beside those of earlier stays.
func (a *agent) leave(r wire.StickReport, token string) error {
	b, err := r.Seal(token)
	if err != nil {
		return err
	}
	base := wire.StickReports + "/" + fileName(r.Identity)
	for n := 1; n <= maxStays; n++ {
		name := base + ".json"
		if n > 1 {
			name = fmt.Sprintf("%s-%d.json", base, n)
		}
		err = a.place.Write(name, b)
		if err == nil {
			a.o.Log.Info("the report is on the stick: "+name, "phase", "report")
			return nil
		}
		if !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	return fmt.Errorf("cannot write the report to the stick: %w", err)
}

// fileName names the reports of a host: by product, serial and the beginning of the UUID.
func fileName(id wire.Identity) string {
	plain := func(s string) string {
		return strings.Map(func(r rune) rune {
			if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
				return r
			}
			return -1
		}, s)
	}
	var parts []string
	for _, s := range []string{plain(id.Product), plain(id.Serial), plain(id.UUID)[:min(8, len(plain(id.UUID)))]} {
		if s != "" {
			parts = append(parts, s[:min(32, len(s))])
		}
	}
	if len(parts) == 0 {
		return "host"
	}
	return strings.Join(parts, "-")
}

// typedKey has a person type keys until one opens the volume.
func (t *treatment) typedKey(ctx context.Context, ids []string) error {
	var last error
	for range maxTyped {
		key, err := t.person.key(ctx, t.v.Name(), ids)
		if errors.Is(err, errNoKey) { // nobody knows whether somebody else has one
			t.report.Unanswered = append(t.report.Unanswered, ids...)
		}
		if err != nil && last != nil {
			return fmt.Errorf("%w; before that, %v", err, last)
		}
		if err != nil {
			return err
		}
		t.person.say("Trying it; this may take a minute.\n")
		var id string
		if id, last = t.tryTyped(ctx, ids, key); last == nil {
			t.report.Released = append(t.report.Released, id)
			t.note("unlock", "%s: opened with protector %s", t.v.Name(), id)
			return nil
		}
		t.note("unlock", "%s: %v", t.v.Name(), last)
	}
	return last
}

// tryTyped tries a key on each protector, and returns the id of the one that it is of.
func (t *treatment) tryTyped(ctx context.Context, ids []string, key bitlocker.Key) (string, error) {
	var why []string
	for _, id := range ids {
		err := t.v.Unlock(ctx, id, key)
		if err == nil {
			return id, nil
		}
		why = append(why, fmt.Sprintf("protector %s: %s", id, without(err.Error(), key)))
	}
	return "", errors.New("the typed key does not open the volume: " + strings.Join(why, "; "))
}
