package lab

import (
	"net"
	"net/http"
	"sync/atomic"
)

// windows is where the Windows of one host answers: as HTTP.SYS does on the WinRM port while
// it is up. While it is down the port is held, so that nobody else gets it, and every
// connection is dropped without a word.
type windows struct {
	up       atomic.Bool
	listener net.Listener
	server   *http.Server
}

func newWindows() (*windows, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w := &windows{listener: l}
	w.server = &http.Server{Handler: w}
	w.server.SetKeepAlivesEnabled(false)
	go w.server.Serve(l)
	return w, nil
}

func (w *windows) address() string { return w.listener.Addr().String() }
func (w *windows) set(up bool)     { w.up.Store(up) }
func (w *windows) close()          { w.server.Close() }

func (w *windows) ServeHTTP(rw http.ResponseWriter, _ *http.Request) {
	if !w.up.Load() {
		panic(http.ErrAbortHandler) // drops the connection
	}
	rw.Header().Set("Server", "Microsoft-HTTPAPI/2.0")
	rw.WriteHeader(http.StatusMethodNotAllowed)
}

// nobody returns the URL of a port at which nothing listens.
func nobody() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "https://127.0.0.1:1"
	}
	defer l.Close()
	return "https://" + l.Addr().String()
}
