package engine

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// A Pin puts a site before all others for a while.
type Pin struct {
	Until  time.Time `json:"until"`
	By     string    `json:"by"`
	Anyway bool      `json:"anyway,omitempty"` // even before its own dependency tier has ended
}

// Pin puts a site of a run before all others until then. The zero Pin ends it. The order is
// made anew within moments. The empty run is the latest.
func (s *Store) Pin(ctx context.Context, run, site string, p Pin) error {
	return s.change(ctx, run, func(tx *sql.Tx, run string) error {
		n, err := changed(ctx, tx, `UPDATE sites SET pinned = $1, pinned_by = $2, anyway = $3 WHERE run = $4 AND site = $5`,
			millis(p.Until), p.By, map[bool]int{true: 1}[p.Anyway], run, site)
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("run %s has no site %q", run, site)
		}
		_, err = tx.ExecContext(ctx, `UPDATE runs SET pins = pins + 1 WHERE id = $1`, run)
		return err
	})
}
