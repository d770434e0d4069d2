package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"unbrick/bitlocker"
	"unbrick/bitlocker/card"
	"unbrick/bitlocker/policy"
	"unbrick/inventory"
	"unbrick/remediate"
)

// cards returns what prints the page of a host that comes to a person in a run, or nil where
// the configuration asks for none. The pages are keys that a person sees: they go by the same
// limits, and on the ledger, as if whoever runs the program had asked for each.
func (k *kit) cards() func(context.Context, remediate.Target) (string, error) {
	m := k.cfg.Manual
	if m.Cards == "" || k.broker == nil {
		return nil
	}
	return func(ctx context.Context, t remediate.Target) (string, error) {
		if err := policy.CheckReason(m.Reason); err != nil {
			return "", hinted(fmt.Errorf("manual.reason in unbrick.yaml: %w", err), "manual: {cards: cards, reason: 'INC0012345, outage'}")
		}
		who, err := currentPerson()
		if err != nil {
			return "", err
		}
		d := &desk{cfg: k.cfg, person: who, reason: m.Reason, ledger: k.ledger}
		d.guard = newGuard(k.cfg, k.ledger, func(string) string {
			if t.Host.Tier == inventory.Dependency {
				return t.Host.Name + " is of the dependency tier"
			}
			return ""
		})
		d.broker = &bitlocker.Broker{Sources: k.broker.Sources, Ledger: d.guard, FirstWins: k.broker.FirstWins}
		return d.printFor(ctx, t, m.Cards)
	}
}

// printFor prints the page of one host, or finds that it was printed. Where a person has to do
// something first, it says what instead: that is no reason to hold up the host.
func (d *desk) printFor(ctx context.Context, t remediate.Target, dir string) (string, error) {
	by := fmt.Sprintf("none was printed; unbrick keys card %s --out %s --reason '%s'", t.Host.Name, dir, d.reason)
	wanted, err := d.find(ctx, []string{t.Host.Name})
	if err != nil {
		return by + " says why", nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Sprintf("%s prints it when this is mended: %v", by, err), nil
	}
	name := filepath.Join(dir, fileName(t.Host.Name)+"-"+wanted[0].ID.String()[:8])
	if _, err := os.Stat(name + ".html"); !errors.Is(err, fs.ErrNotExist) {
		return name + ".html", err
	}
	steps, err := playbookSteps(d.cfg.Playbook)
	if err != nil {
		return "", err
	}
	to, err := d.admit(ctx, "card for a person", wanted)
	var wait *policy.WaitError
	if errors.As(err, &wait) {
		return by + " after somebody else's approval", nil
	}
	if err != nil {
		return "", err
	}
	file, err := openCard(name)
	if err != nil { // the host gets to a person all the same
		return fmt.Sprintf("%s prints it when this is mended: %v", by, err), nil
	}
	key, err := d.broker.Release(ctx, wanted[0], to)
	if err != nil {
		file.drop()
		return by + " says why", nil
	}
	err = file.write(card.Card{Host: wanted[0].Host, Site: t.Host.Site, ID: wanted[0].ID, Key: key,
		Steps: steps, Actor: to.Actor, Reason: to.Reason, Made: time.Now()})
	if err != nil {
		return fmt.Sprintf("%s prints it when this is mended: %v", by, err), nil
	}
	return name + ".html", nil
}
