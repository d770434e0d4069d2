package power_test

import (
	"context"
	"errors"
	"testing"

	"unbrick/remediate/power"
)

func TestLimit(t *testing.T) {
	l := power.NewLimit(1)
	leave, err := l.Enter(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	other, err := l.Enter(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	other()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Enter(over, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("a second call at one address: %v", err)
	}
	in := make(chan error, 1)
	go func() {
		leave, err := l.Enter(t.Context(), "a")
		if err == nil {
			leave()
		}
		in <- err
	}()
	leave()
	if err := <-in; err != nil {
		t.Errorf("after the first call left: %v", err)
	}
}
