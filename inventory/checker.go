package inventory

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
)

// A Checker is a Source that can say, without reading everything, whether it would give hosts.
type Checker interface {
	Source
	// Check logs in and reads one row of each list that Hosts reads. It changes nothing. The
	// error is a *RightError if the account was let in and lacks a right, and an *ExcessError if
	// Hosts would work, by an account that may do much more, where that can be told.
	Check(ctx context.Context) error
}

// A RightError is an account that was let in and may not read what is needed.
type RightError struct {
	Right string // by the vendor's own name: "the API scope Hosts: Read"
	Where string // where it is granted, or what else it may be
	Err   error  // what the service answered; nil if it just shows nothing

	Without string // what is done without it: "hosts have no addresses"; empty: nothing
}

// Error says what was answered and which right is missing.
func (e *RightError) Error() string {
	text := "the account lacks " + e.Right
	if e.Err != nil {
		text = fmt.Sprintf("%v; what is missing is %s", e.Err, e.Right)
	}
	if e.Without != "" {
		text += "; without it " + e.Without
	}
	return text
}

// Unwrap returns what the service answered.
func (e *RightError) Unwrap() error { return e.Err }

// An ExcessError is an account that may do more than read hosts. Nothing is missing.
type ExcessError struct {
	Has  string // "membership in Domain Admins"
	Want string // what would do
}

// Error says what the account has, and what would do.
func (e *ExcessError) Error() string {
	return "it works, and the account has " + e.Has + ": " + e.Want + " would do"
}

// Check says whether a source would give hosts. One that is no [Checker] is read up to its
// first host.
func Check(ctx context.Context, s Source) error {
	if c, ok := s.(Checker); ok {
		return c.Check(ctx)
	}
	for _, err := range s.Hosts(ctx) {
		var row *RowError
		if errors.As(err, &row) {
			continue
		}
		var file *fs.PathError
		if errors.As(err, &file) && errors.Is(err, fs.ErrPermission) {
			return &RightError{Right: "permission to read " + file.Path, Where: "for the account that unbrick runs under", Err: err}
		}
		return err
	}
	return errors.New("it has no hosts")
}
