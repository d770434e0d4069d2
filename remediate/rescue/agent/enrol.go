package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"time"

	"unbrick/remediate/rescue/wire"
)

// patience is how long a machine that is to be a helper tries to reach the server.
const patience = 2 * time.Minute

// Enrol exchanges the token of an enrolment, which cfg has in place of a credential, for what the
// helper has to hold. It asks until it is answered, refused, or two minutes have passed; the
// server knows by a secret of this call that it is the same that asks again. After it, the token
// is of no use.
func Enrol(ctx context.Context, cfg wire.Config, id string, o Options) (wire.Config, error) {
	o = o.complete()
	c, err := newClient(cfg, o)
	if err != nil {
		return wire.Config{}, err
	}
	defer c.http.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	msg := wire.Enrol{Version: wire.Version, Agent: o.Version, Secret: make([]byte, 32)}
	rand.Read(msg.Secret)
	var got wire.Config
	if err := c.post(ctx, wire.EnrolPath(id), msg, &got); err != nil {
		return wire.Config{}, fmt.Errorf("cannot enrol: %w", err)
	}
	if got.Helper == nil || got.Token == "" || got.Pin != cfg.Pin {
		return wire.Config{}, errors.New("cannot enrol: the server's answer is not what this agent expects")
	}
	return got, nil
}

// Check asks whether the credential of a helper is good. The error says why it is not, or that
// nobody could be asked.
func Check(ctx context.Context, cfg wire.Config, o Options) error {
	if cfg.Helper == nil {
		return errors.New("this configuration is not that of a helper")
	}
	c, err := newClient(cfg, o.complete())
	if err != nil {
		return err
	}
	defer c.http.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return c.send(ctx, http.MethodGet, wire.HelperPath(cfg.Helper.ID), nil, nil, nil)
}
