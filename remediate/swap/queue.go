package swap

import (
	"context"
	"fmt"
	"sync"
	"time"

	"unbrick/remediate"
)

// A queue knows what this process is about to hang on helpers: the platform does not show it
// yet. What other processes are about to hang there it cannot know, so that a helper may get a
// few more than the limit.
type queue struct {
	limit int

	mu      sync.Mutex
	pending map[string]map[string]bool // by helper and instance
}

// reserve takes a place on the helper with the fewest volumes, and returns its name: empty if
// none has room.
func (q *queue) reserve(helpers []Helper, instance string) string {
	q.mu.Lock()
	defer q.mu.Unlock()
	best, fewest := "", q.limit
	for _, h := range helpers {
		if n := h.Lent + len(q.pending[h.Name]); n < fewest {
			best, fewest = h.Name, n
		}
	}
	if best == "" {
		return ""
	}
	if q.pending == nil {
		q.pending = map[string]map[string]bool{}
	}
	if q.pending[best] == nil {
		q.pending[best] = map[string]bool{}
	}
	q.pending[best][instance] = true
	return best
}

// give ends a reservation: the platform shows the volume now, or it did not get there.
func (q *queue) give(helper, instance string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.pending[helper], instance)
}

// room reserves a place on a helper. Give it back.
func (d *Driver) room(ctx context.Context, v *visit) (string, error) {
	helpers, err := v.Helpers(ctx)
	if err != nil {
		return "", err
	}
	if len(helpers) == 0 {
		return "", noHelper(v)
	}
	if best := d.queue.reserve(helpers, v.ID()); best != "" {
		return best, nil
	}
	// Others will be put back soon.
	return "", &remediate.RetryError{After: 20 * time.Second, Err: fmt.Errorf("every helper has as many volumes as it may have at once (%d, on %s and others): more helpers, or a higher limit, would go faster", d.opt.PerHelper, helpers[0].Name)}
}

func noHelper(v *visit) error {
	return fmt.Errorf("no helper for %s runs: start one beside it (volume swap in the README)", v.ID())
}
