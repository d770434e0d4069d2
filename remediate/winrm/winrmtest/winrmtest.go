// Package winrmtest is a WinRM service without a Windows behind it, for tests of clients.
//
// A [Server] listens on a real socket and is as strict as Windows: logins belong to
// connections, messages over http have to be sealed, shells are limited, a message has at most
// 153,600 bytes, and a command that has nothing to say ends in a time-out fault. What commands
// do is up to a [Handler]. [Server.Order] makes it fail.
//
// NTLM, with sealing, is written here from MS-NLMP, apart from what any client uses.
package winrmtest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"unbrick/remediate/lab/testenv/faults"
)

// A Command is what a client runs.
type Command struct {
	Line  string
	Args  []string
	Stdin io.Reader // ends when the client says so, and never if it asked for a console

	Stdout, Stderr io.Writer
}

// A Handler runs a command and returns its exit code. ctx ends when the client gives it up.
type Handler func(ctx context.Context, c *Command) int

// Options describe a host. Handler is needed.
type Options struct {
	Handler Handler
	Addr    string // to listen on; a free port of 127.0.0.1 if empty

	User, Password string
	Domain         string   // NetBIOS name of the domain that the user is of; WORKGROUP if empty
	Offer          []string // ways to log in: Negotiate (NTLM), Basic; Negotiate if nil
	Plain          bool     // takes messages over http that are not sealed, as no host should
	NoSeal         bool     // takes part in NTLM logins, but neither signs nor seals

	TLS        *tls.Config       // nil: http. See Certificate
	ClientCert *x509.Certificate // who shows it is admitted

	MaxShells int           // 30 if 0
	MaxWait   time.Duration // until the time-out fault, if a client allows more; 20 s if 0

	// WMI answers Get requests for classes of root/cimv2: properties by name. A value of
	// type time.Time is written as a CIM date.
	WMI func(class string) map[string]any
}

// Op is what a request is for.
type Op string

// The ops.
const (
	Login   Op = "login" // the first part of NTLM
	Finish  Op = "finish login"
	Create  Op = "create"
	Execute Op = "command"
	Send    Op = "send"
	Receive Op = "receive"
	Signal  Op = "signal"
	Delete  Op = "delete"
	Get     Op = "get"
)

// A Server is one host's WinRM service.
type Server struct {
	opt Options
	lis net.Listener
	srv *http.Server

	mu       sync.Mutex
	shells   map[string]*shell
	conns    map[net.Conn]*login
	accepted int
	requests []Op
	plain    int
	logins   int
	faults   faults.Book[Fault]
	dead     bool
	running  sync.WaitGroup
}

// Start listens.
func Start(o Options) (*Server, error) {
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	if o.Domain == "" {
		o.Domain = "WORKGROUP"
	}
	if o.Offer == nil {
		o.Offer = []string{"Negotiate"}
	}
	if o.MaxShells == 0 {
		o.MaxShells = 30
	}
	if o.MaxWait == 0 {
		o.MaxWait = 20 * time.Second
	}
	lis, err := net.Listen("tcp", o.Addr)
	if err != nil {
		return nil, err
	}
	s := &Server{opt: o, lis: lis, shells: map[string]*shell{}, conns: map[net.Conn]*login{}}
	s.srv = &http.Server{
		Handler: s,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			l := &login{conn: c}
			s.mu.Lock()
			s.conns[c] = l
			s.accepted++
			dead := s.dead
			s.mu.Unlock()
			if dead {
				c.Close()
			}
			return context.WithValue(ctx, loginKey{}, l)
		},
		ConnState: func(c net.Conn, st http.ConnState) {
			if st == http.StateClosed || st == http.StateHijacked {
				s.mu.Lock()
				delete(s.conns, c)
				s.mu.Unlock()
			}
		},
		ErrorLog: quiet(),
	}
	if o.TLS != nil {
		conf := o.TLS.Clone()
		conf.NextProtos = []string{"http/1.1"}
		if o.ClientCert != nil {
			conf.ClientAuth = tls.RequestClientCert
		}
		lis = tls.NewListener(lis, conf)
	}
	go s.srv.Serve(lis)
	return s, nil
}

// Close ends everything that runs.
func (s *Server) Close() {
	s.srv.Close()
	s.Reboot()
	s.running.Wait()
}

// Addr is host:port.
func (s *Server) Addr() string { return s.lis.Addr().String() }

// URL is the address with its scheme.
func (s *Server) URL() string {
	if s.opt.TLS != nil {
		return "https://" + s.Addr()
	}
	return "http://" + s.Addr()
}

// Reboot ends every shell and every connection, as a restart of the host does.
func (s *Server) Reboot() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, sh := range s.shells {
		sh.end()
		delete(s.shells, id)
	}
	for c := range s.conns {
		c.Close()
	}
}

// Die reboots the host and lets nobody in until Revive.
func (s *Server) Die() {
	s.mu.Lock()
	s.dead = true
	s.mu.Unlock()
	s.Reboot()
}

// Revive ends a Die.
func (s *Server) Revive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead = false
}

// Dead says that the host died and was not revived.
func (s *Server) Dead() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dead
}

// Requests returns what was asked for so far.
func (s *Server) Requests() []Op {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Op(nil), s.requests...)
}

// A Count says how much there is, or was.
type Count struct {
	Shells      int // open
	Connections int // open
	Accepted    int // connections so far
	Logins      int // complete, so far
	Plain       int // SOAP messages that came in plain text over http, so far
}

// Count returns how much there is.
func (s *Server) Count() Count {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Count{Shells: len(s.shells), Connections: len(s.conns), Accepted: s.accepted, Logins: s.logins, Plain: s.plain}
}
