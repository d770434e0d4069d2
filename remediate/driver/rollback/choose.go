package rollback

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"unbrick/inventory"
	"unbrick/remediate"
)

// ours begins the names of snapshots that unbrick made. They are of machines that did not start.
const ours = "unbrick-"

// allowed says why nothing goes back, whatever snapshots there are.
func (d *Driver) allowed(h inventory.Host) error {
	switch {
	case controller(h):
		return fmt.Errorf("%s is or may be a domain controller (it is of the tier dependency, or a source calls it one) and is not rolled back: that breaks replication without a word (USN rollback)\nrepair it by another way in, or restore it by a backup that knows Active Directory", h.Name)
	case !d.opt.Allowed:
		return fmt.Errorf("%s is not rolled back: that loses what was written since, and was not allowed\nif it may be lost, write allow: {rollback: true} into unbrick.yaml", h.Name)
	case d.opt.Before.IsZero():
		return fmt.Errorf("%s is not rolled back: which of its snapshots are older than the incident is not known\nwrite incident: {from: …} into unbrick.yaml", h.Name)
	}
	return nil
}

// controller says whether a host may be a domain controller: by its tier, by what another source
// has for that, or by where it stands in Active Directory ("OU=Domain Controllers,…").
func controller(h inventory.Host) bool {
	if h.Tier == inventory.Dependency {
		return true
	}
	for _, text := range h.Labels {
		if strings.Contains(strings.ToLower(text), "domain controller") {
			return true
		}
	}
	return slices.ContainsFunc(h.Conflicts, func(c inventory.Conflict) bool {
		return c.Field == "tier" && slices.ContainsFunc(c.Says, func(s inventory.Said) bool { return s.Value == inventory.Dependency.String() })
	})
}

// choose returns the newest snapshot that was made before the incident, if the machine may go
// back to it. One that it may not go back to is not passed over for an older one: a person
// decides to lose more.
func (d *Driver) choose(s State) (Snapshot, error) {
	if s.Refused != "" {
		return Snapshot{}, fmt.Errorf("%s is not rolled back: %s", s.Name, s.Refused)
	}
	var best Snapshot
	later := 0
	for _, one := range s.Snapshots {
		switch {
		case strings.HasPrefix(one.Name, ours) || one.Made.IsZero():
		case !one.Made.Before(d.opt.Before):
			later++
		case !one.Made.Before(best.Made): // of two of one second, that which was made of the other
			best = one
		}
	}
	if best.ID == "" {
		return best, fmt.Errorf("%s has no snapshot from before %s, when the incident began (%d later ones may have the fault in them)\nrestore it from a backup, or repair it by another way in", s.Name, clock(d.opt.Before), later)
	}
	if best.Refused != "" {
		return best, fmt.Errorf("%s is not rolled back to %s of %s: %s", s.Name, best.Name, clock(best.Made), best.Refused)
	}
	return best, nil
}

// find returns the snapshot that want says, or nil.
func (s State) find(want func(Snapshot) bool) *Snapshot {
	if i := slices.IndexFunc(s.Snapshots, want); i >= 0 {
		return &s.Snapshots[i]
	}
	return nil
}

// trustAge is how old a machine's password in Active Directory may be: it is changed every 30
// days, and the one before is known too. A machine that goes back further may not get in.
const trustAge = 30 * 24 * time.Hour

// posture is what a dry run shows.
func (d *Driver) posture(s State, to Snapshot, h inventory.Host) remediate.Posture {
	p := remediate.Posture{Power: string(s.Power), Detail: map[string]string{
		"snapshot": fmt.Sprintf("%s of %s", to.Name, clock(to.Made)),
		"lost":     fmt.Sprintf("%s up to the incident, and all since", span(d.opt.Before.Sub(to.Made))),
		"careful":  "members of clusters and of databases that replicate fall behind the others: ask whose it is first",
	}}
	if s.Power == Paused {
		p.Power = string(On)
	}
	if h.Group != "" {
		p.Detail["careful"] = fmt.Sprintf("it is one of the group %s: clusters and databases that replicate have to take a member back that fell behind the others", h.Group)
	}
	if d.opt.Before.Sub(to.Made) > trustAge {
		p.Detail["trust"] = "the snapshot is older than a machine's password in Active Directory: it may have to be joined again (Test-ComputerSecureChannel -Repair)"
	}
	if to.Memory {
		p.Detail["memory"] = "the snapshot has the memory of then"
	}
	for k, text := range s.Remark {
		p.Detail[k] = text
	}
	return p
}

func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// span is a length of time as people say it.
func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}
