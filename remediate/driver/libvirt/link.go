package libvirt

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	lib "github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket"
	"github.com/digitalocean/go-libvirt/socket/dialers"

	"unbrick/remediate"
)

// A link is one connection to a daemon, for one call. It is cut when the call's context ends,
// because no call of libvirt's protocol can be taken back.
type link struct {
	*lib.Libvirt
	conn net.Conn
	ctx  context.Context
	stop func() bool
}

const (
	systemSocket = "/run/libvirt/libvirt-sock"
	dialLimit    = 15 * time.Second
	plainPort    = "16509"
)

func connect(ctx context.Context, a address) (*link, error) {
	conn, err := dial(ctx, a)
	if err != nil {
		return nil, &remediate.RetryError{After: 10 * time.Second, Err: fmt.Errorf("cannot reach libvirt: %w", err)}
	}
	l := &link{Libvirt: lib.NewWithDialer(dialed{conn}), conn: conn, ctx: ctx}
	l.stop = context.AfterFunc(ctx, func() { conn.Close() })
	if err := l.ConnectToURI(lib.ConnectURI(a.uri())); err != nil {
		l.Close()
		return nil, l.say("cannot open "+a.uri(), err)
	}
	return l, nil
}

// Close cuts the connection: the daemon needs no farewell, and might not answer it.
func (l *link) Close() error {
	l.stop()
	l.conn.Close()
	return nil
}

// dialed is a connection that is there already.
type dialed struct{ conn net.Conn }

var _ socket.Dialer = dialed{}

func (d dialed) Dial() (net.Conn, error) { return d.conn, nil }

func dial(ctx context.Context, a address) (net.Conn, error) {
	d := net.Dialer{Timeout: dialLimit}
	switch a.transport {
	case "unix":
		path := a.socket
		if path == "" {
			path = systemSocket
		}
		return d.DialContext(ctx, "unix", path)
	case "tcp":
		port := a.port
		if port == "" {
			port = plainPort
		}
		return d.DialContext(ctx, "tcp", net.JoinHostPort(a.host, port))
	}
	return dialTLS(ctx, a)
}

// dialTLS does what libvirt's own tools do: certificates from where they look for them. It
// returns when ctx ends, and drops a connection that comes later.
func dialTLS(ctx context.Context, a address) (net.Conn, error) {
	var options []dialers.TLSOption
	if a.port != "" {
		options = append(options, dialers.UseTLSPort(a.port))
	}
	if a.pki != "" {
		options = append(options, dialers.UsePKIPath(a.pki))
	}
	type result struct {
		conn net.Conn
		err  error
	}
	got := make(chan result)
	go func() {
		conn, err := dialers.NewTLS(a.host, options...).Dial()
		select {
		case got <- result{conn, err}:
		case <-ctx.Done():
			if err == nil {
				conn.Close()
			}
		}
	}()
	select {
	case r := <-got:
		return r.conn, r.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// say puts an error of libvirt into words: one that may pass is a *remediate.RetryError.
func (l *link) say(what string, err error) error {
	if err == nil {
		return nil
	}
	if l.ctx.Err() != nil {
		return fmt.Errorf("%s: %w", what, context.Cause(l.ctx))
	}
	var said lib.Error
	if !errors.As(err, &said) {
		return &remediate.RetryError{After: 5 * time.Second, Err: fmt.Errorf("%s: the connection to libvirt broke: %w", what, err)}
	}
	err = fmt.Errorf("%s: %w", what, err)
	switch lib.ErrorNumber(said.Code) {
	case lib.ErrOperationTimeout, lib.ErrInternalError, lib.ErrOperationFailed, lib.ErrAgentUnresponsive:
		return &remediate.RetryError{After: 5 * time.Second, Err: err}
	}
	return err
}

// is says whether an error is one of libvirt's with one of these codes.
func is(err error, codes ...lib.ErrorNumber) bool {
	var said lib.Error
	if !errors.As(err, &said) {
		return false
	}
	for _, c := range codes {
		if lib.ErrorNumber(said.Code) == c {
			return true
		}
	}
	return false
}
