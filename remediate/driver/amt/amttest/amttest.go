// Package amttest simulates Intel AMT, the management firmware of vPro clients.
//
// An [AMT] listens on a real socket as the firmware does on port 16993: TLS with a self-signed
// certificate, HTTP digest authentication, WS-Management. It keeps what the firmware keeps
// (power, the boot source for the next start and its settings, control mode, consent) and
// refuses what the firmware is documented to refuse. Behind it stands a host that boots what
// was chosen, once. Faults can be ordered of it, one by one.
//
// The classes, identifiers and rules come from Intel's AMT Implementation and Reference Guide
// (Remote Control, One-Click Recovery, Boot Configuration Details, WS-Management Class
// Reference) and from answers of real firmware that open-source consoles publish. No AMT
// hardware was at hand to compare it with.
package amttest

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"unbrick/remediate/lab/testenv/faults"
)

// What the host boots.
const (
	Disk    = "disk"
	Network = "network" // PXE
	HTTPS   = "https"   // One-Click Recovery from a URL
	WinRE   = "winre"   // One-Click Recovery into the Windows recovery environment
	Nothing = "nothing" // the boot source failed; there is no falling through to the disk
)

// A Boot is what the host started.
type Boot struct {
	Source string // one of the above
	URL    string // of HTTPS
	Secure bool   // Secure Boot was in force
}

// A Host is what stands behind AMT. Its methods are called in order and without locks, and
// must return soon.
type Host interface {
	Start(Boot) // the power was switched on, or the host was reset
	Stop()      // the power went away
}

// The kinds of an Action.
const (
	Power    = "power"    // Detail: on, off, reset
	Booted   = "boot"     // Detail: source and URL
	Order    = "order"    // Detail: InstanceID of the boot source, or none
	Role     = "role"     // Detail: next single use, or not next
	Settings = "settings" // Detail: number of boot parameters
)

// An Action is something that was really done.
type Action struct {
	Time   time.Time `json:"time"`
	Kind   string    `json:"kind"`
	Detail string    `json:"detail"`
}

// Options say what to simulate. The zero value is AMT 16 in admin control mode, able to do
// everything, that nobody can log in to: User and Password are needed.
type Options struct {
	Listen         string // host:port; 127.0.0.1:0 if empty
	User, Password string
	UUID           string // of the host, as its SMBIOS has it, with hyphens
	Serial         string
	Version        string // 16.1.25 if empty. Before 15 there is no One-Click Recovery

	ClientControl bool // client control mode, which needs consent for everything about boot
	AskConsent    bool // consent is asked in admin control mode, too (OptInRequired = all)
	Consented     bool // a person has given the code: consent is there for now
	NoHTTPSBoot   bool // the BIOS has HTTPS boot switched off
	NoWinRE       bool // the BIOS has WinRE boot switched off
	NoPXE         bool // the BIOS cannot be told to boot from the network
	NoSecureBoot  bool // Secure Boot is off in the BIOS

	Roots       []*x509.Certificate // AMT's store of trusted root certificates
	Certificate *tls.Certificate    // shown to clients; AMT makes its own if nil
	NonceUses   int                 // a nonce is stale after so many requests; 0 is never
	PullLimit   int                 // the most instances that one Pull returns; 0 is all

	Host   Host         // may be nil
	Record func(Action) // called with each Action, in order; must not call AMT back

	Off        bool          // the power is off at first. A host that is on is not started
	PowerDelay time.Duration // from a power action to the power being so
	Faults     []Fault       // ordered from the beginning
}

// An AMT is the firmware of one simulated host.
type AMT struct {
	opt   Options
	realm string

	listener net.Listener
	server   *http.Server
	closed   chan struct{}
	busy     sync.WaitGroup // requests and what is told to the host

	mu       sync.Mutex
	cert     *tls.Certificate
	nonces   map[string]*nonce
	contexts map[string]*enumeration
	machine
	faults   faults.Book[Fault]
	requests []string
	news     []func(Host) // not yet told
}

// Start returns AMT that listens. Whoever starts it must Close it.
func Start(o Options) (*AMT, error) {
	if o.Version == "" {
		o.Version = "16.1.25"
	}
	a := &AMT{
		opt: o, closed: make(chan struct{}), cert: o.Certificate,
		realm:  "Digest:" + randomHex(16),
		nonces: map[string]*nonce{}, contexts: map[string]*enumeration{},
	}
	for _, f := range o.Faults {
		a.Order(f)
	}
	a.init()
	if a.cert == nil {
		if err := a.ChangeCertificate(); err != nil {
			return nil, err
		}
	}
	addr := o.Listen
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("cannot start simulated AMT: %w", err)
	}
	a.listener = l
	a.server = &http.Server{
		Handler: http.HandlerFunc(a.serve), ErrorLog: discard(),
		ReadHeaderTimeout: 30 * time.Second, IdleTimeout: 30 * time.Second,
		TLSConfig:    &tls.Config{GetCertificate: a.certificate, MaxVersion: tls.VersionTLS12},
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}, // HTTP/1.1 alone
	}
	go a.server.ServeTLS(l, "", "")
	return a, nil
}

// Addr returns host:port where AMT listens.
func (a *AMT) Addr() string { return a.listener.Addr().String() }

// Close stops AMT, cuts every connection and waits until nothing of it runs.
func (a *AMT) Close() {
	a.mu.Lock()
	select {
	case <-a.closed:
	default:
		close(a.closed)
	}
	a.stopTimer()
	a.mu.Unlock()
	a.listener.Close() // which the server does not know of until it serves
	a.server.Close()
	a.busy.Wait()
}

// ChangeCertificate gives AMT a new key and certificate, as when it is set up anew, or
// somebody in the middle.
func (a *AMT) ChangeCertificate() error {
	c, err := NewCertificate()
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cert = c
	return nil
}

func (a *AMT) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.cert, nil
}

// recovery says whether this version has One-Click Recovery.
func (o Options) recovery() bool {
	major, _, _ := strings.Cut(o.Version, ".")
	return len(major) > 1 && major >= "15"
}

// consent says whether a person has to agree before anything about boot may be set.
func (o Options) consent() bool {
	return (o.ClientControl || o.AskConsent) && !o.Consented
}
