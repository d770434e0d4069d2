// Package redfishtest simulates BMCs that speak Redfish.
//
// A [BMC] listens on a real socket with TLS and its own self-signed certificate, keeps state
// as a real one does (power, one-time boot override, virtual media, sessions) and has the
// quirks of the [Model] it was started with. Faults can be ordered of it, one by one. Behind
// it stands a [Host], which is told when the power changes and what the firmware boots.
//
// A BMC costs one goroutine and one socket, so that thousands fit in a process.
package redfishtest

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"unbrick/remediate/lab/testenv/faults"
)

// What firmware boots from.
const (
	Hdd = "Hdd"
	Cd  = "Cd"
	Pxe = "Pxe"
)

// A Boot is what the firmware of the host starts.
type Boot struct {
	Device string // Hdd, Cd or Pxe
	Image  string // where the inserted image is, if Device is Cd: the host fetches it
}

// A Host is what stands behind a BMC. Its methods are called in order, never concurrently and
// without locks, and must return soon.
type Host interface {
	// Start says that the power was switched on, or the host was reset: it boots b.
	Start(b Boot)
	// Stop says that the power went away, for good or because of a reset.
	Stop()
}

// The kinds of an Action.
const (
	Power    = "power"    // Detail: on, off, reset
	Booted   = "boot"     // Detail: hdd, pxe, or cd and the image
	Insert   = "insert"   // Detail: slot and image
	Eject    = "eject"    // Detail: slot
	Override = "override" // Detail: target and once or continuous, or cleared
)

// An Action is something that really happened to the host.
type Action struct {
	Time   time.Time `json:"time"`
	Kind   string    `json:"kind"`
	Detail string    `json:"detail"`
}

// Options say what BMC to simulate. The zero value is a quirkless one that nobody can log in
// to: User and Password are needed.
type Options struct {
	Listen         string // host:port; 127.0.0.1:0 if empty
	Model          Model  // Generic() if it has no name
	User, Password string
	UUID, Serial   string // of the host, as its SMBIOS has them

	Host Host // may be nil
	// Record is called with each Action, in order. It must not call the BMC back.
	Record func(Action)

	// Certificate is shown to clients. If nil, the BMC makes a key and a certificate of its
	// own: 0.2 ms of CPU.
	Certificate *tls.Certificate

	// Screen returns what the host shows, as PNG or JPEG; nil: nobody can see it.
	Screen func() []byte

	Off           bool          // the power is off at first. A host that is on is not started
	PowerDelay    time.Duration // from a power action to the power being so
	InsertDelay   time.Duration // from an accepted insert to media that is inserted
	FetchOnInsert bool          // refuse an image that does not answer a HEAD at once
	Unlicensed    bool          // refuse to insert for want of a licence
	Faults        []Fault       // ordered from the beginning
}

// A BMC is one simulated management controller.
type BMC struct {
	opt   Options
	model Model

	listener net.Listener
	server   *http.Server
	closed   chan struct{}
	busy     sync.WaitGroup // requests and what is told to the host

	mu   sync.Mutex
	cert *tls.Certificate
	machine
	sessions map[string]string // by token: the session's id
	lastID   int
	faults   faults.Book[Fault]
	requests []string
}

// New returns a BMC that does not listen: its Handler can be mounted anywhere.
func New(o Options) *BMC {
	if o.Model.Name == "" {
		o.Model = Generic()
	}
	b := &BMC{opt: o, model: o.Model, closed: make(chan struct{}), sessions: map[string]string{}}
	for _, f := range o.Faults {
		b.Order(f)
	}
	b.init()
	return b
}

// Start returns a BMC that listens. Whoever starts it must Close it.
func Start(o Options) (*BMC, error) {
	b := New(o)
	b.cert = o.Certificate
	if b.cert == nil {
		if err := b.ChangeCertificate(); err != nil {
			return nil, err
		}
	}
	addr := o.Listen
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("cannot start a simulated BMC: %w", err)
	}
	b.listener = l
	b.server = &http.Server{
		Handler:           b.Handler(),
		ReadHeaderTimeout: 30 * time.Second,
		IdleTimeout:       30 * time.Second,
		ErrorLog:          discard(),
		// No TLS 1.3, as most that are out there.
		TLSConfig: &tls.Config{GetCertificate: b.certificate, MaxVersion: tls.VersionTLS12},
	}
	go b.server.ServeTLS(l, "", "")
	return b, nil
}

// URL returns the address of a BMC that listens, without a path.
func (b *BMC) URL() string { return "https://" + b.listener.Addr().String() }

// Close stops the BMC, cuts every connection and waits until nothing of it runs.
func (b *BMC) Close() {
	b.mu.Lock()
	select {
	case <-b.closed:
	default:
		close(b.closed)
	}
	b.stopTimer()
	b.mu.Unlock()
	if b.server != nil {
		b.server.Close()
	}
	b.busy.Wait()
}

// ChangeCertificate gives the BMC a new key and certificate, as an update of its firmware
// does, or somebody in the middle.
func (b *BMC) ChangeCertificate() error {
	c, err := NewCertificate()
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cert = c
	return nil
}

func (b *BMC) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.cert, nil
}

// A State is how a BMC stands, for tests.
type State struct {
	Power    string           // On, Off, PoweringOn
	Override BootOverride     // as a client reads it
	Media    map[string]Media // by slot; slots that are empty are absent
	Sessions int              // not deleted
	Boots    []Boot           // everything that the firmware ever started
}

// A BootOverride is what the firmware will do at the next start.
type BootOverride struct{ Target, Enabled, Mode string }

// A Media is an image in a slot.
type Media struct{ Image string }

// State returns how the BMC stands now.
func (b *BMC) State() State {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := State{
		Power: b.power, Override: b.override, Media: map[string]Media{},
		Sessions: len(b.sessions), Boots: append([]Boot(nil), b.boots...),
	}
	for _, m := range b.media {
		if m.inserted {
			s.Media[m.slot.ID] = Media{m.image}
		}
	}
	if b.attributes["ServerBoot.1.BootOnce"] == "Enabled" {
		s.Override.Target, s.Override.Enabled = b.attributes["ServerBoot.1.FirstBootDevice"], "Once"
	}
	return s
}

// Requests returns the operations that clients asked for so far, in order: see [Fault.On].
func (b *BMC) Requests() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.requests...)
}
