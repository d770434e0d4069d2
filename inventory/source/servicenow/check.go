package servicenow

import (
	"context"
	"errors"
	"fmt"

	"unbrick/inventory"
	"unbrick/inventory/rest"
)

const granted = "User Administration > Users: roles of the account"

// lacks names the role that a refusal is about.
func (s *Source) lacks(err error) error {
	if !rest.Forbids(err) {
		return err
	}
	return &inventory.RightError{Right: "a role that may read the table " + s.cfg.Table + " by REST, such as cmdb_read (with snc_platform_rest_api_access where the instance asks for it)",
		Where: granted, Err: err}
}

// Check implements [inventory.Checker].
func (s *Source) Check(ctx context.Context) error {
	one := *s
	one.cfg.Page = 1
	rows, left, err := one.page(ctx, "", 0)
	switch {
	case err != nil:
		return err
	case len(rows) == 0 && left > 0:
		return &inventory.RightError{Right: fmt.Sprintf("a role that may read the rows of %s, such as cmdb_read: there are %d, and the first is hidden", s.cfg.Table, left), Where: granted}
	case len(rows) == 0:
		return errors.New("it has no row that fits the query, or hides all of them")
	}
	if _, ok := rows[0]["name"]; !ok {
		return &inventory.RightError{Right: "the read access to the column " + s.cfg.Table + ".name", Where: "System Security > Access Control (ACL), or a role such as cmdb_read"}
	}
	return nil
}
