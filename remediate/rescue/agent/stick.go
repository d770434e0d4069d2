package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"unbrick/remediate/rescue/wire"
)

// ErrNoServer means that no rescue server answered a stick: what is left is RunOffline.
var ErrNoServer = errors.New("no rescue server is in reach")

// reknock is how long the agent on a stick says hello before it asks to be let in again: the
// engine, which has to turn to the host first, may have missed that it came.
const reknock = time.Minute

// greet says hello. On a stick it first asks whose host this is; it does both again until the
// server is ready for the host.
func (a *agent) greet(ctx context.Context, hello wire.Hello) error {
	if a.stick == nil {
		return a.c.post(ctx, "/v1/hello", hello, &a.job)
	}
	own := a.c.token
	for host := ""; ; {
		var in wire.Admission
		a.c.token = own
		if err := a.knock(ctx, hello, &in); err != nil {
			return err
		}
		if in.Host != host {
			host = in.Host
			a.note("hello", "let in as %s; waiting for its turn", host)
		}
		a.c.token = in.Token
		try, cancel := context.WithTimeout(ctx, reknock)
		err := a.c.post(try, "/v1/hello", hello, &a.job)
		cancel()
		if err == nil || ctx.Err() != nil || final(err) {
			return err
		}
	}
}

// knock asks to be let in. An error wraps ErrNoServer unless a server said no.
func (a *agent) knock(ctx context.Context, hello wire.Hello, in *wire.Admission) error {
	try, cancel := context.WithTimeout(ctx, a.stick.Patience)
	defer cancel()
	err := a.c.post(try, wire.StickPath(a.stick.ID), hello, in)
	if err != nil && !final(err) && ctx.Err() == nil {
		return fmt.Errorf("%w: %v", ErrNoServer, err)
	}
	return err
}
