//go:build linux

package activedirectory_test

import (
	"io"
	"net"
	"sync"
	"testing"
)

// A proxy passes connections on until it is told to break them.
type proxy struct {
	l      net.Listener
	mu     sync.Mutex
	conns  []net.Conn
	onData func() // instead of passing on what the client sends
}

func newProxy(t *testing.T, to string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{l: l}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if err != nil {
				client.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, client, server)
			p.mu.Unlock()
			wg.Go(func() { _, _ = io.Copy(client, server); client.Close() })
			wg.Go(func() { p.forward(server, client) })
		}
	})
	t.Cleanup(func() { l.Close(); p.cut(); wg.Wait() })
	return p
}

func (p *proxy) address() string { return p.l.Addr().String() }

func (p *proxy) forward(server, client net.Conn) {
	defer server.Close()
	b := make([]byte, 4096)
	for {
		n, err := client.Read(b)
		if err != nil {
			return
		}
		p.mu.Lock()
		f := p.onData
		p.mu.Unlock()
		if f != nil {
			f()
			continue
		}
		if _, err := server.Write(b[:n]); err != nil {
			return
		}
	}
}

// cut breaks all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

// freeze swallows what clients send from now on, and calls f when they do.
func (p *proxy) freeze(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.onData = f
}
