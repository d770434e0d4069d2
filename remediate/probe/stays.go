package probe

import (
	"context"
	"errors"
	"fmt"
	"time"

	"unbrick/inventory"
	"unbrick/remediate"
)

// Stays waits until the host is seen up, looking as often as every says, and then until it has
// stayed up for soak: a host that loops answers for a moment in every round. It returns what was
// seen first. A look that finds nothing starts the soak anew; one that could not be taken
// neither does that nor ends it.
//
// When ctx ends, the error says how far the host had come.
func Stays(ctx context.Context, p remediate.Prober, h inventory.Host, soak, every time.Duration) (evidence string, err error) {
	var since time.Time // zero: it was not up at the last look
	went := errors.New("no sign of life")
	for {
		seen, err := p.Probe(ctx, h)
		switch {
		case err != nil && ctx.Err() == nil && since.IsZero():
			went = fmt.Errorf("no sign of life: %w", err)
		case err != nil:
		case seen == "" && !since.IsZero():
			went = fmt.Errorf("came up, and was down again after %s", time.Since(since).Round(time.Second))
			since = time.Time{}
		case seen != "" && since.IsZero():
			since, evidence = time.Now(), seen
			went = fmt.Errorf("came up, but was not seen to stay up for %s", soak)
			fallthrough
		case seen != "":
			if time.Since(since) >= soak {
				return evidence, nil
			}
		}
		select {
		case <-ctx.Done():
			return "", went
		case <-time.After(every):
		}
	}
}
