// Package rescue is the server side of the rescue image: it serves each host its own image,
// talks to the agent in it, and is where recovery keys meet hosts.
//
// A [Server] listens twice. Images go over plain HTTP, because a BMC fetches them; they hold
// a one-time token and nothing else that is secret. Agents come over TLS 1.3, and trust
// nothing but the pin of the server's key that their image names.
//
// The token of a target is made from a key in the server's directory, so every process that
// shares the directory makes the same one, and none is stored: the records have its SHA-256.
// What it is good for is limited: the first agent to say hello claims it with a public key;
// it is good only while the engine waits in [Server.Repair], and while it is young. A process
// with another directory cannot take over a host that has booted: it needs another attempt.
package rescue

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"unbrick/bitlocker"
	"unbrick/remediate"
	"unbrick/remediate/rescue/wire"
)

// Records keep what must outlive the process. A record is created once and never changed.
// Keys are of the form "kind/hex"; values are JSON of at most 2 MiB, without secrets.
type Records interface {
	// Create returns after the record is on stable storage. The error wraps fs.ErrExist if
	// the key is there already, whatever its value.
	Create(ctx context.Context, key string, value []byte) error
	// Load returns an error wrapping fs.ErrNotExist if there is no such record.
	Load(ctx context.Context, key string) ([]byte, error)
}

// Terms are what the operator of a run allows its agents.
type Terms struct {
	DryRun bool
	Allow  wire.Allow
}

// Config says what a Server needs. Dir, Base and Records must be there.
type Config struct {
	// Dir holds the server's key, the key that tokens are made from, and quarantine/. It is
	// made if it is not there. Who can read it can pose as the server.
	Dir string

	AgentListen string // address for agents (HTTPS); ":8443" if empty
	ImageListen string // address for images (HTTP); ":8080" if empty
	// AgentURL and ImageURL are how hosts and BMCs reach the two. If empty, they are made from
	// the listening address, and from the address of the default route if that names none.
	AgentURL, ImageURL string

	Base    Base
	Netboot fs.FS             // the files that hosts load from the network; nil: none does
	Agent   string            // file of the agent, for machines that enrol as helpers; empty: none does
	Broker  *bitlocker.Broker // nil: no key is ever released
	Records Records
	Terms   func(remediate.Target) Terms // nil: no dry run, nothing allowed

	// Arrived is told that the agent on a stick was let in at a host that waits for a person,
	// or that it reported late, so that the host can be woken. It may be told so more than
	// once. Nil: nobody is told.
	Arrived func(ctx context.Context, run, host, stick string)

	TokenTTL      time.Duration // how old a token may be at hello; 2h if zero
	MaxStreams    int           // images served at the same time; 256 if zero
	MaxQuarantine int64         // bytes of one quarantined file; 256 MiB if zero: a SOFTWARE hive has 100
	Poll          time.Duration // how often Repair looks for a report that another process took; 15s if zero

	Log *slog.Logger
	Now func() time.Time // time.Now if nil

	around func(http.Handler) http.Handler // for tests: between agents and the server
	letGo  time.Duration                   // letGo, but for tests
}

// A Server serves images, agents and the engine. It implements [remediate.Medic].
type Server struct {
	cfg       Config
	keys      keys
	netboot   netFolder
	agents    *http.Server
	images    *http.Server
	streams   chan struct{}
	started   time.Time
	closed    chan struct{}
	serving   sync.WaitGroup // both servers
	closeOnce sync.Once

	mu    sync.Mutex
	jobs  map[string]job     // by token hash: what Records have, kept at hand
	live  map[string]*repair // by token hash: repairs that the engine waits for here
	reads map[string]*reads  // by token hash: what was fetched of its image
	index sync.Mutex         // one writer of the quarantine's index
	calls helperCalls        // when helpers last asked
}

var _ remediate.Medic = (*Server)(nil)

// Start reads or makes the server's keys, listens, and serves until Close. The context bounds
// starting alone. Everything that can be wrong with cfg is an error here, before any host is
// told of the server.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	k, err := loadKeys(cfg.Dir)
	if err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, keys: k,
		streams: make(chan struct{}, cfg.MaxStreams),
		started: cfg.Now(),
		closed:  make(chan struct{}),
		jobs:    map[string]job{}, live: map[string]*repair{}, reads: map[string]*reads{},
	}
	var lc net.ListenConfig
	al, err := listen(ctx, &lc, "agents", cfg.AgentListen)
	if err != nil {
		return nil, err
	}
	il, err := listen(ctx, &lc, "images", cfg.ImageListen)
	if err != nil {
		al.Close()
		return nil, err
	}
	if err = s.setURLs(al, il); err == nil {
		s.netboot, err = openNetboot(cfg.Netboot)
	}
	if err != nil {
		al.Close()
		il.Close()
		return nil, err
	}
	s.serve(al, il)
	return s, nil
}

const defaultAgentListen = ":8443"

// complete fills in what cfg leaves out, and says what is missing or wrong.
func (cfg Config) complete() (Config, error) {
	if cfg.Dir == "" || cfg.Records == nil {
		return cfg, errors.New("the rescue server needs a directory for its keys and a place for its records")
	}
	if err := cfg.Base.check(); err != nil {
		return cfg, err
	}
	def(&cfg.AgentListen, defaultAgentListen)
	def(&cfg.ImageListen, ":8080")
	def(&cfg.TokenTTL, 2*time.Hour)
	def(&cfg.MaxStreams, 256)
	def(&cfg.MaxQuarantine, 256<<20)
	def(&cfg.Poll, 15*time.Second)
	def(&cfg.letGo, letGo)
	if cfg.Terms == nil {
		cfg.Terms = func(remediate.Target) Terms { return Terms{} }
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return cfg, nil
}

// def sets *p to v if it is zero.
func def[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// serve starts both servers. Their own complaints (a port scan, a broken handshake) are for
// the developer.
func (s *Server) serve(agents, images net.Listener) {
	quiet := slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug)
	api := s.agentAPI()
	if s.cfg.around != nil {
		api = s.cfg.around(api)
	}
	s.agents = &http.Server{
		Handler:           api,
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{s.keys.cert}},
		ReadHeaderTimeout: 15 * time.Second,
		ReadTimeout:       5 * time.Minute, // a quarantined file over a slow line
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          quiet,
	}
	s.images = &http.Server{
		Handler:           http.HandlerFunc(s.serveImage),
		ReadHeaderTimeout: 15 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          quiet,
	}
	s.serving.Go(func() { _ = s.agents.ServeTLS(agents, "", "") })
	s.serving.Go(func() { _ = s.images.Serve(images) })
}

// Close stops listening, ends the repairs that wait with an error, lets requests in flight
// end for a few seconds, and cuts off the rest. An agent that is cut off asks again.
func (s *Server) Close() error {
	s.closeOnce.Do(func() { close(s.closed) })
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	s.images.Close() // a BMC fetches the rest with a range request
	defer s.netboot.Close()
	defer s.serving.Wait() // one that had not begun to serve lets go of its port only then
	if err := s.agents.Shutdown(ctx); err != nil {
		return s.agents.Close()
	}
	return nil
}

// Pin is what agents know the server by: the SHA-256 of its public key, in hex. It stays the
// same for as long as the directory does.
func (s *Server) Pin() string { return s.keys.pin }

// AgentURL is where hosts reach the server.
func (s *Server) AgentURL() string { return s.cfg.AgentURL }

// ImageURL is where BMCs reach it; the images are below.
func (s *Server) ImageURL() string { return s.cfg.ImageURL }

// A Base is the image of all hosts. The wire.ConfigSize bytes at ConfigOffset begin with
// wire.Placeholder and are replaced for each host.
type Base struct {
	io.ReaderAt
	Size         int64
	ConfigOffset int64
}

func (b Base) check() error {
	if b.ReaderAt == nil || b.ConfigOffset < 0 || b.ConfigOffset+wire.ConfigSize > b.Size {
		return errors.New("the rescue image is not there, or has no room for the configuration of a host; build it with unbrick image build")
	}
	have := make([]byte, len(wire.Placeholder))
	if _, err := b.ReadAt(have, b.ConfigOffset); err != nil {
		return fmt.Errorf("cannot read the rescue image: %v", err)
	}
	if string(have) != wire.Placeholder {
		return fmt.Errorf("the rescue image has no placeholder at offset %d: it was changed, or its manifest is another image's; build it again with unbrick image build", b.ConfigOffset)
	}
	return nil
}
