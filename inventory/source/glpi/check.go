package glpi

import (
	"context"
	"errors"
	"fmt"

	"unbrick/inventory"
	"unbrick/inventory/rest"
)

// rights are the lists as the form of a profile names them.
var rights = map[string]string{"Computer": "Computers", "NetworkPort": "Network devices, for ports"}

// lacks names the right that a refusal is about.
func lacks(kind string, err error) error {
	if !rest.Forbids(err) {
		return err
	}
	return &inventory.RightError{Right: "the profile's right Read on Assets > " + rights[kind], Where: "Administration > Profiles > Assets, for the profile that the user has by default", Err: err}
}

// Check implements [inventory.Checker].
func (s *Source) Check(ctx context.Context) error {
	in := &session{src: s}
	defer in.close(ctx)
	if err := in.open(ctx); err != nil {
		return fmt.Errorf("cannot open a session: %w", err)
	}
	for _, kind := range []string{"NetworkPort", "Computer"} {
		var rows []row
		if _, err := in.get(ctx, "/"+kind+"/?range=0-0&get_hateoas=false", &rows); err != nil {
			return lacks(kind, fmt.Errorf("cannot list %s: %w", kind, err))
		}
		if kind == "Computer" && len(rows) == 0 {
			return errors.New("it shows no computer: those of entities that the user's profile does not cover are not shown")
		}
	}
	return nil
}
