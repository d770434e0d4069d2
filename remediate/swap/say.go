package swap

import (
	"errors"
	"fmt"
	"time"

	"unbrick/remediate"
)

// Say puts an error of a platform's API into words. One that is Passing, by its own word, may not
// come again: that is a *remediate.RetryError.
func Say(what string, err error) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%s: %w", what, err)
	var said interface{ Passing() bool }
	if errors.As(err, &said) && said.Passing() {
		return &remediate.RetryError{After: 10 * time.Second, Err: err}
	}
	return err
}
