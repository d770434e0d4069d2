package schedule

import (
	"fmt"

	"unbrick/remediate"
)

// HaltOptions say when a run stops by itself. The zero HaltOptions are the defaults; a
// negative number turns a rule off.
type HaltOptions struct {
	Canary      int     // halt if the first so many treatments all end badly; default 3
	MaxStranded int     // halt at so many stranded hosts; default 3
	MaxFailed   float64 // halt if more than this share of the last Window ends badly; default 0.5
	Window      int     // treatments that MaxFailed looks back on; default 50
	MinFinished int     // treatments before MaxFailed counts; default 20
}

// withDefaults fills in what was left at zero.
func (o HaltOptions) withDefaults() HaltOptions {
	or := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	or(&o.Canary, 3)
	or(&o.MaxStranded, 3)
	or(&o.Window, 50)
	or(&o.MinFinished, 20)
	if o.MaxFailed == 0 {
		o.MaxFailed = 0.5
	}
	return o
}

// Halt says whether a run must stop, and why. outcomes are the verdicts of the run so far, in
// the order in which they were reached.
//
// Only treatments count: hosts that were fixed, failed, stranded or unconfirmed. A healthy,
// skipped or waiting host says nothing about what we do to hosts. Of those that count all but
// fixed are bad.
//
// This is the first form: one rule for the whole run, not yet one for each route and model.
func Halt(outcomes []remediate.Verdict, o HaltOptions) (reason string, halt bool) {
	o = o.withDefaults()
	var treated []remediate.Verdict
	stranded := 0
	for _, v := range outcomes {
		switch v {
		case remediate.Stranded:
			stranded++
			treated = append(treated, v)
		case remediate.Fixed, remediate.Failed, remediate.Unconfirmed:
			treated = append(treated, v)
		}
	}
	n := len(treated)
	if o.MaxStranded > 0 && stranded >= o.MaxStranded {
		return fmt.Sprintf("%d hosts are stranded: they could not be put back as they were", stranded), true
	}
	if o.Canary > 0 && n >= o.Canary && bad(treated[:o.Canary]) == o.Canary {
		return fmt.Sprintf("the first %d hosts treated all ended badly", o.Canary), true
	}
	last := treated[max(0, n-max(o.Window, 1)):]
	if o.MaxFailed > 0 && n >= o.MinFinished && float64(bad(last)) > o.MaxFailed*float64(len(last)) {
		return fmt.Sprintf("%d of the last %d hosts treated ended badly", bad(last), len(last)), true
	}
	return "", false
}

// bad counts the treatments that did not end with a host at work.
func bad(vs []remediate.Verdict) (n int) {
	for _, v := range vs {
		if v != remediate.Fixed {
			n++
		}
	}
	return n
}
