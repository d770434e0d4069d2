package sourcetest

import (
	"errors"
	"strings"
	"testing"

	"unbrick/inventory"
)

// A Rights is one source as three accounts see it.
type Rights struct {
	Good    inventory.Source // has the least rights; nil where that is checked elsewhere
	Refused inventory.Source // gives credentials that are refused; nil where there are none
	Lacking inventory.Source // was let in, and lacks a right
	Right   string           // what of that right's name has to be in the error
}

// CheckRights runs the checks of a [inventory.Checker].
func CheckRights(t *testing.T, r Rights) {
	t.Helper()
	if r.Good != nil {
		if err := inventory.Check(t.Context(), r.Good); err != nil {
			t.Errorf("Check of an account with the least rights: got %v", err)
		}
	}
	var right *inventory.RightError
	if r.Refused != nil {
		err := inventory.Check(t.Context(), r.Refused)
		if err == nil || errors.As(err, &right) {
			t.Errorf("The error is a *RightError if the account was let in: got %v for credentials that are refused", err)
		}
		if err != nil && (strings.Contains(err.Error(), Wrong) || strings.Contains(err.Error(), Secret)) {
			t.Errorf("an error holds the secret: %v", err)
		}
	}
	err := inventory.Check(t.Context(), r.Lacking)
	if !errors.As(err, &right) || !strings.Contains(right.Right, r.Right) || right.Where == "" {
		t.Errorf("The error is a *RightError if the account was let in and lacks a right: got %v, want one that names %s", err, r.Right)
	}
	for _, e := range r.Lacking.Hosts(t.Context()) {
		var row *inventory.RowError
		if e != nil && !errors.As(e, &row) {
			if !errors.As(e, &right) {
				t.Errorf("Hosts of an account that lacks a right does not say which: %v", e)
			}
		}
	}
}

// Wrong is a secret that no service takes.
const Wrong = "wr0ng-s3cret"
