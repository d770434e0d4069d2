package snipeit

import (
	"context"
	"errors"

	"unbrick/inventory"
	"unbrick/inventory/rest"
)

var errRefused = errors.New("it refuses the list")

// lacks names the permission that a refusal is about. Snipe-IT refuses with status 200 too.
func lacks(err error) error {
	if !errors.Is(err, errRefused) && !rest.Forbids(err) {
		return err
	}
	return &inventory.RightError{Right: "the permission Assets: View", Where: "People > the token's user > Permissions", Err: err}
}

// Check implements [inventory.Checker].
func (s *Source) Check(ctx context.Context) error {
	one := *s
	one.cfg.Page = 1
	p, err := one.page(ctx, 0)
	if err != nil {
		return err
	}
	if len(*p.Rows) == 0 {
		return errors.New("it shows no asset: the query fits none, or with full company support the user belongs to another company")
	}
	return nil
}
