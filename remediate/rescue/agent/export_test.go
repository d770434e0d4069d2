package agent

import (
	"context"
	"time"

	"unbrick/bitlocker"
)

// AskKey has a person type a key.
func AskKey(ctx context.Context, term Terminal, silence time.Duration, ids ...string) (bitlocker.Key, error) {
	return (&typist{term, silence}).key(ctx, "C", ids)
}

// ErrNoKey is errNoKey.
var ErrNoKey = errNoKey
