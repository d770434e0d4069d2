package rescue

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"unbrick/remediate"
)

const (
	slotWait  = 2 * time.Second // how long a request waits for a free stream
	stallTime = 2 * time.Minute // how long a client may take to read nothing
)

// Image returns the image of this target alone; asked again, by any process that shares
// Config.Dir, it returns the same one. It fails once the target's token is too old to be of
// use: booting that image would be for nothing.
func (s *Server) Image(ctx context.Context, t remediate.Target) (remediate.Image, error) {
	hash, j, err := s.open(ctx, t)
	if err != nil {
		return remediate.Image{}, err
	}
	if err := s.tooOld(j); err != nil {
		return remediate.Image{}, err
	}
	s.readsOf(hash)
	return remediate.Image{URL: s.cfg.ImageURL + "/i/" + s.token(t) + "/" + isoName}, nil
}

// serveImage answers a BMC, and who boots hosts from the network: GET and HEAD, with ranges,
// without anything that would let a cache keep one host's image for another.
func (s *Server) serveImage(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "an image can only be read", http.StatusMethodNotAllowed)
		return
	}
	token, name := imagePath(r.URL.Path)
	hash := hashToken(token)
	j, err := s.job(r.Context(), hash)
	if token == "" || errors.Is(err, errNoJob) {
		s.cfg.Log.Warn("somebody asked for an image that is not there", "from", remoteIP(r))
		http.NotFound(w, r)
		return
	}
	log := s.cfg.Log.With("run", j.Run, "host", j.Host, "from", remoteIP(r))
	if err != nil {
		log.Error("cannot serve an image", "err", err)
		tryLater(w)
		return
	}
	if r.Method == http.MethodGet {
		if !s.takeStream(r.Context()) {
			log.Warn("too many images at the same time: this one has to wait", "limit", s.cfg.MaxStreams)
			tryLater(w)
			return
		}
		defer func() { <-s.streams }()
	}
	s.stream(w, r, log.With("file", name), hash, token, name)
}

func (s *Server) stream(w http.ResponseWriter, r *http.Request, log *slog.Logger, hash, token, name string) {
	seen := s.knownReads(hash)
	content, size, tag, err := s.content(name, token, seen)
	switch {
	case err != nil:
		log.Error("cannot serve an image", "err", err)
		tryLater(w)
		return
	case content == nil:
		log.Warn("the image has no such file for network boot")
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	setCaching(w, tag)
	out := &patient{ResponseWriter: w, rc: http.NewResponseController(w)}
	http.ServeContent(out, r, "", time.Time{}, io.NewSectionReader(content, 0, size))
	log.Debug("image read", "method", r.Method, "range", r.Header.Get("Range"), "status", out.status, "bytes", out.sent)
	if name != isoName {
		seen.noteFile(s.cfg.Now(), remoteIP(r), name)
		return
	}
	if first, all := seen.note(s.cfg.Now(), remoteIP(r), size); first || all {
		log.Info("image read", "first", first, "all", all)
	}
}

// imagePath returns what is in the path of an image, or of one of its files for network boot:
// the token and what it is asked for. Both are empty where there is neither.
func imagePath(path string) (token, name string) {
	rest, ok := strings.CutPrefix(path, "/i/")
	token, name, _ = strings.Cut(rest, "/")
	if !ok || len(token) != tokenText.EncodedLen(tokenSize) || name != isoName && !isNetboot(name) {
		return "", ""
	}
	return token, name
}

// takeStream waits a little for one of the streams: a BMC that reads as its host boots does
// not survive many refusals.
func (s *Server) takeStream(ctx context.Context) bool {
	t := time.NewTimer(slotWait)
	defer t.Stop()
	select {
	case s.streams <- struct{}{}:
		return true
	case <-ctx.Done():
	case <-t.C:
	}
	return false
}

func tryLater(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "5")
	http.Error(w, "not now, try again", http.StatusServiceUnavailable)
}

func remoteIP(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// An overlay is the base image with one host's configuration in its place.
type overlay struct {
	base   Base
	window []byte
	seen   *reads // nil: nobody asks
}

// ReadAt implements io.ReaderAt.
func (o *overlay) ReadAt(p []byte, off int64) (int, error) {
	n, err := o.base.ReadAt(p, off)
	if at := o.base.ConfigOffset - off; at < int64(n) && at+int64(len(o.window)) > 0 {
		copy(p[max(at, 0):n], o.window[max(-at, 0):])
	}
	o.seen.mark(off, n)
	return n, err
}

// A patient writer gives a client stallTime for each piece, however long the whole takes,
// and hides the ReadFrom of the connection, which would have no deadline.
type patient struct {
	http.ResponseWriter
	rc     *http.ResponseController
	status int
	sent   int64
}

func (p *patient) WriteHeader(code int) {
	p.status = code
	p.ResponseWriter.WriteHeader(code)
}

func (p *patient) Write(b []byte) (int, error) {
	p.rc.SetWriteDeadline(time.Now().Add(stallTime)) // not possible on a test's recorder, and not needed there
	n, err := p.ResponseWriter.Write(b)
	p.sent += int64(n)
	return n, err
}
