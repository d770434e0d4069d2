package netboot

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"time"
)

const (
	slotWait  = 30 * time.Second // for a place among the transfers
	stallTime = 2 * time.Minute  // for a client that reads nothing
)

// serveHTTP answers iPXE and UEFI HTTP boot. The connection of a stranger is closed.
func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	addr, err := netip.ParseAddrPort(r.RemoteAddr)
	h, ok := s.hosts.at(addr.Addr())
	if err != nil || !ok {
		s.log.Debug("no answer to an HTTP request", "from", r.RemoteAddr)
		panic(http.ErrAbortHandler)
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "files can only be read", http.StatusMethodNotAllowed)
		return
	}
	if !s.takeSlot(r.Context()) {
		w.Header().Set("Retry-After", "5")
		http.Error(w, "not now, try again", http.StatusServiceUnavailable)
		return
	}
	defer func() { <-s.slots }()
	log := s.log.With("mac", h.MAC, "from", r.RemoteAddr, "file", r.URL.Path, "method", r.Method)
	if err := s.sendHTTP(patient{w, http.NewResponseController(w)}, r, h); err != nil {
		log.Warn("cannot send a file", "err", err)
		return
	}
	log.Info("file sent")
}

func (s *Server) sendHTTP(w http.ResponseWriter, r *http.Request, h host) error {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "application/octet-stream")
	if r.URL.Path == "/"+ISO {
		return s.passISO(w, r, h)
	}
	name, ok := fileName(r.URL.Path)
	if !ok {
		http.NotFound(w, r)
		return errors.New("no such file")
	}
	file, err := s.files.get(r.Context(), h.Image, name)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return err
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(file))
	return nil
}

// passISO passes on the host's image, which is not kept.
func (s *Server) passISO(w http.ResponseWriter, r *http.Request, h host) error {
	req, err := http.NewRequestWithContext(r.Context(), r.Method, h.Image, nil)
	if err != nil {
		return errors.New("the address of the image is none")
	}
	if ranges := r.Header.Get("Range"); ranges != "" {
		req.Header.Set("Range", ranges)
	}
	resp, err := s.files.client.Do(req)
	if err != nil {
		http.Error(w, "cannot reach the image server", http.StatusBadGateway)
		return withoutURL(err)
	}
	defer resp.Body.Close()
	for _, name := range []string{"Content-Length", "Content-Range", "Accept-Ranges", "Retry-After"} {
		if v := resp.Header.Get(name); v != "" {
			w.Header().Set(name, v)
		}
	}
	w.WriteHeader(resp.StatusCode)
	_, err = io.Copy(w, resp.Body)
	return withoutURL(err)
}

func (s *Server) takeSlot(ctx context.Context) bool {
	t := time.NewTimer(slotWait)
	defer t.Stop()
	select {
	case s.slots <- struct{}{}:
		return true
	case <-ctx.Done():
	case <-t.C:
	}
	return false
}

// withoutURL takes the address out of a client's error: it holds a host's token.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// A patient writer gives a client stallTime for each piece, however long the whole takes.
type patient struct {
	http.ResponseWriter
	rc *http.ResponseController
}

func (p patient) Write(b []byte) (int, error) {
	_ = p.rc.SetWriteDeadline(time.Now().Add(stallTime))
	return p.ResponseWriter.Write(b)
}
