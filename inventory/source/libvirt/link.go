package libvirt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	lib "github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket"
	"github.com/digitalocean/go-libvirt/socket/dialers"
)

// A link is a connection that is cut when its context ends: no call of libvirt's protocol can
// be taken back.
type link struct {
	*lib.Libvirt
	dialer *remembered
	ctx    context.Context
	stop   func() bool
}

// A remembered connection can be cut by somebody who did not dial it.
type remembered struct {
	socket.Dialer
	ctx  context.Context
	conn chan net.Conn
}

// Dial implements socket.Dialer.
func (r *remembered) Dial() (net.Conn, error) {
	c, err := r.Dialer.Dial()
	if err == nil {
		r.conn <- c
	}
	if r.ctx.Err() != nil {
		r.cut() // it ended while there was nothing to cut
	}
	return c, err
}

// cut closes the connection, once there is one.
func (r *remembered) cut() {
	select {
	case c := <-r.conn:
		c.Close()
		r.conn <- c
	default:
	}
}

func connect(ctx context.Context, u *url.URL) (*link, error) {
	d, err := dialer(u)
	if err != nil {
		return nil, err
	}
	l := &link{dialer: &remembered{d, ctx, make(chan net.Conn, 1)}, ctx: ctx}
	l.Libvirt = lib.NewWithDialer(l.dialer)
	l.stop = context.AfterFunc(ctx, l.dialer.cut)
	if err := l.ConnectToURI(lib.RemoteURI(u)); err != nil {
		l.close()
		return nil, l.because("cannot reach it", err)
	}
	return l, nil
}

// close cuts the connection without a farewell, which a daemon might not answer.
func (l *link) close() {
	l.stop()
	l.dialer.cut()
}

// because says why a call failed: if its context ended, that is why.
func (l *link) because(what string, err error) error {
	if l.ctx.Err() != nil {
		err = context.Cause(l.ctx)
	}
	return fmt.Errorf("%s: %w", what, err)
}

const dialLimit = 15 * time.Second

// dialer does as libvirt's own tools do.
func dialer(u *url.URL) (socket.Dialer, error) {
	_, transport, _ := strings.Cut(u.Scheme, "+")
	switch {
	case transport == "unix" || transport == "" && u.Host == "":
		return dialers.NewLocal(dialers.WithLocalTimeout(dialLimit), dialers.WithSocket(cmp.Or(u.Query().Get("socket"), "/run/libvirt/libvirt-sock"))), nil
	case transport == "tcp":
		return dialers.NewRemote(u.Hostname(), dialers.UsePort(cmp.Or(u.Port(), "16509"))), nil
	case transport == "tls" || transport == "":
		o := []dialers.TLSOption{dialers.UseTLSPort(cmp.Or(u.Port(), "16514"))}
		if p := u.Query().Get("pkipath"); p != "" {
			o = append(o, dialers.UsePKIPath(p))
		}
		return dialers.NewTLS(u.Hostname(), o...), nil
	}
	return nil, errors.New("no transport " + transport + ": write qemu+unix:///system or qemu://HYPERVISOR/system")
}

// Dial connects to the daemon of a hypervisor for one use: the connection is cut when ctx ends,
// or by hang. The URI is as in a [Config].
func Dial(ctx context.Context, u *url.URL) (l *lib.Libvirt, hang func(), err error) {
	own, err := connect(ctx, u)
	if err != nil {
		return nil, nil, err
	}
	return own.Libvirt, own.close, nil
}
