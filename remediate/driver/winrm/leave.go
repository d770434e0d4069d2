package winrm

import (
	"context"
	"fmt"
	"strings"
	"time"

	"unbrick/playbooks"
	"unbrick/remediate"
	client "unbrick/remediate/winrm"
)

// Leave implements remediate.Driver. A host on which something was changed in this run is
// restarted, once for each treatment; nothing else was put there that would have to go. A host that does not
// answer is not in anybody's way: it crashes and starts by itself, as before, unless it was in
// Safe Mode.
//
// A host in Safe Mode starts normally after this if unbrick had it start so, or if its boot
// entry does not say so (any more). One that somebody else set up so stays as it is: whoever
// did may be at work there, and confirm will say it.
func (d *Driver) Leave(ctx context.Context, t remediate.Target, before remediate.Posture) error {
	limit := d.opt.Times.Leave
	if before.Detail[detailSafe] != "" {
		limit = d.opt.Times.Catch // the time of a restart, if one was ordered
	}
	s, facts, err := d.catch(ctx, t, limit)
	if err != nil {
		if ctx.Err() == nil && died(err) && before.Detail[detailSafe] == "" {
			return nil
		}
		return err
	}
	defer s.Close()
	l := leaving{s: s, facts: facts, dir: keepBase + `\` + directoryName(t.Run), visit: fmt.Sprintf("%d/%s/", t.Attempt, before.Detail[detailBoot])}
	stays := false
	if facts.SafeMode != "" {
		stays, err = l.normalStart(ctx)
	}
	if err != nil || stays || t.Up {
		return err
	}
	return l.restart(ctx)
}

// A leaving is one call of Leave that got through.
type leaving struct {
	s     *client.Session
	facts client.Facts
	dir   string // of the run, on the host
	visit string // which treatment of that run is left: the same when Leave is called again
}

// sameBoot is how much the start of Windows may seem to move when its clock is set.
const sameBoot = 90 * time.Second

// restart restarts a host on which something was changed in this run, unless it was restarted
// since. When the host was started, and for which treatment this is, is written down there
// before the order is given: the mark of an earlier treatment says nothing of this one.
func (l leaving) restart(ctx context.Context) error {
	mark := l.dir + `\restarted.txt`
	r, err := l.s.Run(ctx, fmt.Sprintf(`echo off& (if exist "%s\*" echo unbrick changed)& (if exist "%s" type "%s")`, l.dir, mark, mark), nil)
	if err != nil {
		return err
	}
	out := string(r.Stdout)
	if !strings.Contains(out, "unbrick changed") {
		return nil
	}
	if _, was, ok := strings.Cut(out, "unbrick boot "); ok && l.restarted(was) {
		return nil
	}
	if _, err := l.s.Run(ctx, fmt.Sprintf(`echo unbrick boot %s visit %s>"%s"`, l.facts.Boot.Format(time.RFC3339), l.visit, mark), nil); err != nil {
		return err
	}
	r, err = l.s.Run(ctx, `shutdown /r /f /t 3 /d p:4:1`, nil)
	if died(err) { // before or after it took the order: when it is up again, that can be seen
		return &remediate.RetryError{After: 5 * time.Second, Err: err}
	}
	// 1115 and 1190: it is on its way already.
	if err == nil && r.Code != 0 && r.Code != 1115 && r.Code != 1190 {
		err = &remediate.RetryError{After: 5 * time.Second, Err: fmt.Errorf("cannot restart it: shutdown ended with code %d: %s", r.Code, client.Complaint(r.Stderr))}
	}
	return err
}

// restarted says whether a mark is of this treatment and of an earlier start of Windows.
func (l leaving) restarted(mark string) bool {
	at, visit, _ := strings.Cut(strings.TrimSpace(mark), " visit ")
	then, err := time.Parse(time.RFC3339, at)
	return visit == l.visit && (err != nil || l.facts.Boot.IsZero() || l.facts.Boot.Sub(then).Abs() > sameBoot)
}

// others carries out the steps that are not removals, when those are done, and returns the
// findings of all in the playbook's order.
func (p *plan) others(ctx context.Context, s *client.Session, removals []playbooks.Finding) ([]playbooks.Finding, error) {
	var all []playbooks.Finding
	for _, f := range removals {
		for _, file := range f.Files {
			if file.Faulty && !file.Removed {
				return removals, fmt.Errorf("%s is faulty and was not moved", file.Path)
			}
		}
	}
	for _, step := range p.pb.Steps {
		f := playbooks.Finding{Step: step.String(), Verdict: playbooks.Clean, Aside: len(p.pb.Steps) > 1}
		switch step.(type) {
		case *playbooks.Remove:
			f, removals = removals[0], removals[1:]
		case *playbooks.Hives:
			f.Root = "Windows" // Windows runs on them
		case *playbooks.Safeboot:
			f.Root = "the boot entry that runs, and the one that starts by default"
			if err := p.safeboot(ctx, s, &f); err != nil {
				return append(all, f), err
			}
		}
		all = append(all, f)
	}
	return all, nil
}
