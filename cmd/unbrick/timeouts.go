package main

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"unbrick/remediate"
	"unbrick/remediate/engine"
)

// stageTimes returns how long the stages may take. What the user says of the repair holds for every
// way; otherwise counted restarts have the time that they take.
func (c *config) stageTimes() engine.Timeouts {
	t := c.Timeouts
	out := engine.Timeouts{Check: time.Duration(t.Check), Enter: time.Duration(t.Enter), Leave: time.Duration(t.Leave), Confirm: time.Duration(t.Confirm),
		Repair: cmp.Or(time.Duration(t.Repair), 20*time.Minute)}
	if t.Repair == 0 {
		out.RepairBy = map[string]time.Duration{"restart": max(out.Repair, c.restartTime())}
	}
	return out
}

// restartTime is how long the counted restarts of a host may take: the time between them, that of
// switching it, and that of waiting for its turn at a site where as many as go are restarted.
func (c *config) restartTime() time.Duration {
	each := cmp.Or(time.Duration(c.Restart.Between), 3*time.Minute) + 30*time.Second
	if n := c.Limits.PowerPerMinute; n > 0 {
		each += time.Duration(c.Limits.PerSite) * time.Minute / time.Duration(n)
	}
	return time.Duration(cmp.Or(c.Restart.Most, 15)) * each
}

// timeouts warns where the time that was given is less than a way takes.
func (p *patient) timeouts() {
	given, between := time.Duration(p.cfg.Timeouts.Repair), cmp.Or(time.Duration(p.cfg.Restart.Between), 3*time.Minute)
	if given == 0 || !slices.ContainsFunc(p.cfg.ladder(), func(r remediate.Rung) bool { return r.Way == "restart" }) {
		return
	}
	if most := cmp.Or(p.cfg.Restart.Most, 15); given < time.Duration(most)*between {
		p.warn("timeouts", fmt.Sprintf("leave timeouts.repair out of unbrick.yaml, or set it to %s or more", p.cfg.restartTime().Round(time.Minute)),
			"timeouts.repair is %s: it ends the counted restarts of a host after about %d of the %d that restart.most allows", given, int(given/between)+1, most)
	}
}
