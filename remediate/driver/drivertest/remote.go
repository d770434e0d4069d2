package drivertest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"unbrick/remediate"
)

// An answer is what a served World says: a state or an error of one of the three sorts.
type answer struct {
	State HostState     `json:"state"`
	Error string        `json:"error,omitempty"`
	Final bool          `json:"final,omitempty"`
	Retry bool          `json:"retry,omitempty"`
	After time.Duration `json:"after,omitempty"`
}

// ServeWorld lets other processes work on w: a process can then be killed, and what it did to
// the hosts stays done.
func ServeWorld(w World) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		var op Op
		if err := json.NewDecoder(r.Body).Decode(&op); err != nil {
			http.Error(rw, err.Error(), http.StatusBadRequest)
			return
		}
		s, err := w.Do(r.Context(), op)
		a := answer{State: s}
		if err != nil {
			a.Error = err.Error()
			var retry *remediate.RetryError
			var final *remediate.FinalError
			if a.Final = errors.As(err, &final); errors.As(err, &retry) {
				a.Retry, a.After = true, retry.After
			}
		}
		json.NewEncoder(rw).Encode(a)
	})
}

// DialWorld returns the World that is served at url.
func DialWorld(url string) World { return remote(url) }

type remote string

func (u remote) Do(ctx context.Context, op Op) (HostState, error) {
	b, err := json.Marshal(op)
	if err != nil {
		return HostState{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, string(u), bytes.NewReader(b))
	if err != nil {
		return HostState{}, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return HostState{}, fmt.Errorf("cannot reach the world: %w", err)
	}
	defer resp.Body.Close()
	var a answer
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		return HostState{}, fmt.Errorf("cannot read the world's answer: %w", err)
	}
	err = errors.New(a.Error)
	switch {
	case a.Error == "":
		return a.State, nil
	case a.Retry:
		err = &remediate.RetryError{After: a.After, Err: err}
	case a.Final:
		err = &remediate.FinalError{Err: err}
	}
	return a.State, err
}
