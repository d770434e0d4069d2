package engine

import (
	"context"
	"fmt"
	"io/fs"
)

// Forget removes a record. It is for a person who knows that what was recorded no longer
// holds, as the certificate of a BMC that was replaced. The error wraps fs.ErrNotExist if
// there is no such record.
func (s *Store) Forget(ctx context.Context, key string) error {
	res, err := s.db().ExecContext(ctx, `DELETE FROM records WHERE key = $1`, key)
	if err != nil {
		return fmt.Errorf("cannot forget record %s: %w", key, err)
	}
	if n, err := res.RowsAffected(); err == nil && n == 0 {
		return fmt.Errorf("cannot forget record %s: %w", key, fs.ErrNotExist)
	}
	return nil
}
