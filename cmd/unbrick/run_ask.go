package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"unbrick/inventory"
	"unbrick/remediate"
)

func askFlag() cli.Flag {
	return &cli.BoolFlag{Name: "ask", Usage: "with --dry-run: have the first way into each host look at it, and say what it would refuse; changes nothing there"}
}

// An asked is what the first way into a host says of it.
type asked struct {
	Host    string            `json:"host"`
	Way     string            `json:"way"` // empty: there is none
	Power   string            `json:"power,omitempty"`
	Detail  map[string]string `json:"detail,omitempty"`
	Refused string            `json:"refused,omitempty"` // or could not be reached: why, and what to do
}

// askAll asks for each host what a run would ask for before it enters it, in the fleet's order.
func askAll(c *cli.Context, cfg *config, hosts []inventory.Host) (all []asked, err error) {
	store, err := openStore(c, cfg)
	if err != nil {
		return nil, err
	}
	k := &kit{cfg: cfg, store: store}
	defer func() { err = errors.Join(err, k.Close(), store.Close()) }()
	if k.drivers, err = k.listDrivers(store); err != nil {
		return nil, err
	}
	if k.playbook, err = openPlaybook(cfg.Playbook); err != nil {
		return nil, err
	}
	ladder := k.ladder()
	all = make([]asked, len(hosts))
	turn := make(chan struct{}, cfg.Limits.Hosts)
	var wg sync.WaitGroup
	for i, h := range hosts {
		turn <- struct{}{}
		wg.Go(func() {
			defer func() { <-turn }()
			all[i] = k.askFirst(c.Context, h, ladder.Ways(h))
		})
	}
	wg.Wait()
	return all, nil
}

// askFirst asks the first way into a host.
func (k *kit) askFirst(ctx context.Context, h inventory.Host, ways []inventory.Route) asked {
	a := asked{Host: h.Name}
	if len(ways) == 0 {
		a.Refused = "no way in that this configuration has"
		return a
	}
	a.Way = ways[0].Driver
	ctx, cancel := context.WithTimeout(ctx, time.Duration(k.cfg.Timeouts.Check))
	defer cancel()
	p, err := k.drivers[a.Way].Observe(ctx, remediate.Target{Run: "dry-run", Attempt: 1, Host: h, Route: ways[0]})
	var up *remediate.UpError
	switch {
	case errors.As(err, &up):
		a.Power, a.Detail = "on", map[string]string{"up": up.Evidence}
	case err != nil:
		a.Refused = oneLine(err.Error())
	default:
		a.Power, a.Detail = p.Power, p.Detail
	}
	return a
}

// String is for a person.
func (a asked) String() string {
	if a.Refused != "" {
		return fmt.Sprintf("%s%s: %s", a.Host, by(a.Way), a.Refused)
	}
	parts := []string{"power " + a.Power}
	for _, key := range slices.Sorted(maps.Keys(a.Detail)) {
		parts = append(parts, key+" "+oneLine(a.Detail[key]))
	}
	return fmt.Sprintf("%s%s: %s", a.Host, by(a.Way), strings.Join(parts, "; "))
}
