// Package ipmitest simulates BMCs that speak IPMI 2.0 (RMCP+) over UDP.
//
// A [BMC] listens on a real socket and keeps state as a real one does: power, boot flags that
// hold for one start, sessions. Faults can be ordered of it, one by one. The wire protocol is
// that of go-ipmi's reference server; ipmitool drives it in the tests of this package.
package ipmitest

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"

	"github.com/bougou/go-ipmi/pkg/bmc"
	"github.com/bougou/go-ipmi/pkg/handlers"
	"github.com/bougou/go-ipmi/pkg/server"
	"github.com/bougou/go-ipmi/pkg/types"
)

// What a host boots.
const (
	Disk    = "disk"
	Network = "network"
	CD      = "cd"
)

// Options say what BMC to simulate. User and Password are needed.
type Options struct {
	Listen         string // host:port; 127.0.0.1:0 if empty
	User, Password string
	Limited        bool     // the account may only look
	Suites         []int    // cipher suites; 17 and 3 if empty
	GUID           [16]byte // of the host, the bytes as they go over the wire
	MaxSessions    int      // 4 if 0
	Off            bool     // the power is off at first. A host that is on is not started
	DropsUEFI      bool     // the UEFI bit of boot flags is not kept, as by ipmi_sim

	// Started and Stopped, if not nil, are told what the host boots when it gets power, and
	// that it lost it. They are called without a lock held and must return soon.
	Started func(device string)
	Stopped func()
}

// A Flags is what a BMC tells the firmware to boot.
type Flags struct {
	Valid, Persist, UEFI bool
	Device               string
}

// A State is how a BMC stands, for tests.
type State struct {
	On       bool
	Flags    Flags
	Keep     bool     // the flags outlive 60 seconds without a power command
	Boots    []string // everything that the host ever started, in order
	Actions  int      // power and boot flags: how often anything was changed
	Sessions int      // not closed
}

// A BMC is one simulated management controller.
type BMC struct {
	opt    Options
	conn   *wire
	server *server.Server
	bmc    *bmc.BMC
	served sync.WaitGroup

	mu sync.Mutex
	machine
}

// Start returns a BMC that listens. Whoever starts it must Close it.
func Start(o Options) (*BMC, error) {
	b := &BMC{opt: o}
	b.on = !o.Off
	addr := o.Listen
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	conn, err := net.ListenPacket("udp", addr)
	if err != nil {
		return nil, fmt.Errorf("cannot start a simulated BMC: %w", err)
	}
	b.conn = &wire{PacketConn: conn}
	if err := b.assemble(); err != nil {
		conn.Close()
		return nil, err
	}
	b.served.Go(func() { _ = b.server.Serve(context.Background()) })
	return b, nil
}

// assemble makes a server of the options.
func (b *BMC) assemble() error {
	o := b.opt
	b.bmc = bmc.New(bmc.DeviceInfo{DeviceID: 32, IPMIVersion: 0x20}, o.GUID, hardware{b}, bmc.WithV15Disabled())
	sessions := o.MaxSessions
	if sessions == 0 {
		sessions = bmc.MaxSessions
	}
	b.bmc.Sessions = bmc.NewSessionStoreWithOptions(b.bmc.Clock(), bmc.WithMaxSessions(sessions))
	suites := []types.CipherSuiteID{17, 3}
	if len(o.Suites) > 0 {
		suites = nil
		for _, s := range o.Suites {
			if !bmc.SupportedCipherSuite(types.CipherSuiteID(s)) {
				return fmt.Errorf("cannot simulate cipher suite %d", s)
			}
			suites = append(suites, types.CipherSuiteID(s))
		}
	}
	b.bmc.SetCipherSuites(suites)
	user, err := b.bmc.Users.Add(2, o.User)
	if err != nil {
		return err
	}
	user.SetPassword([]byte(o.Password))
	user.Enabled = true
	most := bmc.PrivilegeLevelAdministrator
	if o.Limited {
		most = bmc.PrivilegeLevelUser
	}
	user.ChannelAccess[1] = bmc.UserChannelAccess{MaxPrivilege: most, Enabled: true}

	registry := handlers.NewRegistry()
	registry.Use(b.conn.refuse)
	handlers.RegisterAllHandlers(registry)
	registry.RegisterFunc(types.CommandSetSystemBootOptions, b.setBootOptions)
	b.server = server.NewServer(b.bmc, b.conn, server.WithHandlerRegistry(registry))
	return nil
}

// Addr returns the address of the BMC, host:port.
func (b *BMC) Addr() string { return b.conn.LocalAddr().String() }

// Close stops the BMC.
func (b *BMC) Close() {
	b.server.Close()
	b.served.Wait()
}

// State returns how the BMC stands now.
func (b *BMC) State() State {
	b.mu.Lock()
	defer b.mu.Unlock()
	return State{
		On: b.on, Flags: b.shown(), Keep: b.keep, Boots: slices.Clone(b.boots),
		Actions: b.actions, Sessions: b.bmc.Sessions.Count(),
	}
}

// Crash has the host reset itself, which uses up what its next start was to boot. A host that
// is off stays so.
func (b *BMC) Crash() {
	b.mu.Lock()
	var tell func()
	if b.on {
		tell = b.start()
	}
	b.mu.Unlock()
	if tell != nil {
		tell()
	}
}
