package inventory

import (
	"fmt"
	"strings"
	"time"
)

// An Incident is the time in which hosts could fetch what broke them. For CrowdStrike's of
// 2024 that is 19 July, 04:09 to 05:27 UTC: hosts that were online then are affected, and those
// that came online later are not (the vendor's statement of that day).
type Incident struct {
	From, Until time.Time
}

// A Likelihood says whether an incident has hit a host, as far as last-seen times tell.
type Likelihood string

// The likelihoods, the most pressing first. Out is for hosts that must not be touched.
const (
	Likely   Likelihood = "likely"   // last seen in the window, and not since
	Possible Likelihood = "possible" // nobody says, or nobody looked often enough
	Unlikely Likelihood = "unlikely" // seen since, or gone long before
	Out      Likelihood = "out"      // retired, in stock or never online
)

// Chance is the share of such hosts that one should expect to be hit. It is a rank to plan by
// and no measurement.
func (l Likelihood) Chance() float64 {
	return map[Likelihood]float64{Likely: 0.95, Possible: 0.5, Unlikely: 0.05}[l]
}

// The labels that [Incident.Mark] sets.
const (
	AffectedLabel    = "affected"     // a Likelihood
	AffectedWhyLabel = "affected_why" // one sentence
)

// grace is how long after the window a host may still have been seen: it takes a moment to
// crash, and clocks differ.
const grace = 5 * time.Minute

// Judge says whether the incident has hit a host, and why. Being seen since speaks against it
// and does not rule it out: a host that crashes again and again is seen again and again. That
// is why only what is not in use is Out.
func (i Incident) Judge(h *Host) (Likelihood, string) {
	if h.State != "" {
		why := map[State]string{InStock: "it is in stock", Retired: "it is retired", NeverOnline: "no system has ever seen it"}[h.State]
		if why == "" {
			why = "its state is " + string(h.State)
		}
		if last := h.Seen(); !last.IsZero() && !last.Before(i.From.AddDate(0, 0, -30)) {
			why += ", and yet it was seen " + stamp(last) + ": somebody has to look which is true"
		}
		return Out, why
	}
	var last Origin
	for _, o := range h.From {
		if o.Seen.Add(o.Lag).After(last.Seen.Add(last.Lag)) && !o.Seen.IsZero() {
			last = o
		}
	}
	seen := h.Seen()
	switch {
	case seen.IsZero():
		return Possible, "no source says when it was last seen"
	case seen.After(i.Until.Add(grace)):
		return Unlikely, "it was seen since: " + stamp(seen)
	case i.precise(h):
		return Likely, "it was last seen in the window, " + stamp(seen) + ", and not since"
	case last.Seen.Add(last.Lag).Before(i.From):
		return Unlikely, "it was last seen before the window, " + stamp(seen)
	}
	return Possible, fmt.Sprintf("%s looks only now and then; it last saw it %s", last.Source, stamp(last.Seen))
}

// precise says that a source saw the host in the window.
func (i Incident) precise(h *Host) bool {
	for _, o := range h.From {
		if !o.Seen.Before(i.From) && !o.Seen.After(i.Until.Add(grace)) && o.Lag <= time.Hour {
			return true
		}
	}
	return false
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// Mark judges a host and labels it with what comes of it.
func (i Incident) Mark(h *Host) Likelihood {
	l, why := i.Judge(h)
	if h.Labels == nil {
		h.Labels = make(map[string]string, 2)
	}
	h.Labels[AffectedLabel], h.Labels[AffectedWhyLabel] = string(l), why
	return l
}

// Mark judges every host of the fleet and counts them. None is dropped: whoever plans leaves
// out those that are Out, and says how many.
func (f *Fleet) Mark(i Incident) map[Likelihood]int {
	counts := map[Likelihood]int{}
	for k := range f.Hosts {
		counts[i.Mark(&f.Hosts[k])]++
	}
	return counts
}

// ParseState returns the state that a word of another system stands for. In use, and words
// that nobody knows, are the empty state.
func ParseState(word string) State {
	w := strings.ToLower(strings.NewReplacer("_", " ", "-", " ").Replace(strings.TrimSpace(word)))
	switch w {
	case "retired", "disposed", "decommissioned", "decommissioning", "absent", "archived", "lost", "stolen", "lost/stolen", "end of life", "sold", "scrapped", "deleted":
		return Retired
	case "in stock", "stock", "in inventory", "inventory", "spare", "staged", "planned", "on order", "pending install", "pending", "ready to deploy", "undeployable", "in storage":
		return InStock
	case "never online":
		return NeverOnline
	}
	return ""
}
