package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"unbrick/inventory"
	"unbrick/remediate"
)

// A cloud is a simulated platform of virtual hosts, as strict as its server is. Hosts on it run
// when it says that their instances run with their own volumes; what it has hung on the helper
// is repaired there, by the real agent.
type cloud struct {
	kind    string            // of the driver, and of the source
	source  string            // more fields of its entry in sources: of unbrick.yaml
	swap    string            // its part of swap:; empty: it needs none
	files   map[string]string // credentials, by name in the lab's folder
	env     map[string]string // variables that name them: where the platform's own tools look
	handler http.Handler      // nil: it has a server of its own
	helper  string            // what its helper is called; empty: hosts boot the rescue image themselves
	roots   string            // the file that has who signed its certificate; empty: it needs none
	mute    bool              // it does not know addresses: fleet.csv has those

	// launch makes the instance of a host. Nobody may stop one that is protected.
	launch    func(s spec, address string, protected bool) (placed, error)
	snapshots func() int // how many there are
	settle    func()     // lets what goes on come to its end; may be nil

	server io.Closer
	guests []*host
}

// A placed instance is what the platform knows of it.
type placed struct {
	address string // of the route
	serial  string // by which the platform knows it, where that is not the host's own
	look    func() sight
	shown   func() string // all that has to be as it was in the end
}

// A sight is how an instance stands.
type sight struct {
	runs   bool   // with its own system volume, or with a disc
	starts int    // how often it was started, where the platform counts that
	disc   string // what is in the image that it boots instead of its volume
	mark   string // what the helper knows the volume by that hangs there; empty: none does
}

// makers are the platforms that the lab can play. Each gets the lab's folder, and the address
// at which its server will listen.
func makers() map[string]func(dir, url string) (*cloud, error) {
	return map[string]func(dir, url string) (*cloud, error){
		"azure":     newAzure,
		"ec2":       newEC2,
		"gce":       newGCE,
		"hyperv":    newHyperV,
		"openstack": newOpenStack,
		"proxmox":   newProxmox,
		"vsphere":   newVSphere,
	}
}

// Clouds returns the platforms that Options.Clouds may name.
func Clouds() []string { return slices.Sorted(maps.Keys(makers())) }

// guestKinds are the hosts of a cloud. The last must be let alone.
func guestKinds(way string) []kind {
	return []kind{
		sick("faulty file", remediate.Fixed, way, way),
		sick("encrypted", remediate.Fixed, way, way).with(func(k *kind) { k.encrypted, k.key = true, rightKey }),
		sick("two Windows", remediate.Fixed, way, way).with(func(k *kind) { k.windows = 2 }),
		sick("protected", remediate.Failed, "", way),
	}
}

// startCloud has a platform listen, and makes the hosts on it, which are l's then.
func (l *Lab) startCloud(o Options, name string) error {
	maker, ok := makers()[name]
	if !ok {
		return fmt.Errorf("the lab plays no platform %q, but %s", name, strings.Join(Clouds(), ", "))
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	c, err := maker(o.Dir, "http://"+listener.Addr().String())
	if err != nil {
		listener.Close()
		return err
	}
	l.clouds = append(l.clouds, c)
	c.serve(listener)
	rng := rand.New(rand.NewPCG(o.Seed, uint64(len(l.clouds))<<32))
	for i, k := range guestKinds(name) {
		s := newSpec(rng, i, k, site{name: name, model: sites()[0].model})
		s.Site = "" // the platform says where it is
		h, err := newHost(s, o, nil, l.front, l.log)
		if err != nil {
			return fmt.Errorf("cannot start host %s: %w", s.Name, err)
		}
		l.members, c.guests = append(l.members, h), append(c.guests, h)
		p, err := c.launch(s, h.Address, k.deserves != remediate.Fixed)
		if err != nil {
			return fmt.Errorf("cannot make the instance of %s: %w", s.Name, err)
		}
		h.Serial = cmp.Or(p.serial, h.Serial)
		h.control = newInstance(h, c, p)
	}
	return nil
}

// serve has the platform answer what is asked through the listener, which is the platform's then.
func (c *cloud) serve(listener net.Listener) {
	if c.handler == nil {
		listener.Close()
		return
	}
	server := &http.Server{Handler: c.handler, ReadHeaderTimeout: 30 * time.Second}
	c.server = closers{server, c.server}
	go server.Serve(listener)
}

// closers are closed one after the other.
type closers []io.Closer

// Close implements io.Closer.
func (all closers) Close() (err error) {
	for _, c := range all {
		if c != nil {
			err = errors.Join(err, c.Close())
		}
	}
	return err
}

// A closing closes what never fails to.
type closing func()

// Close implements io.Closer.
func (c closing) Close() error {
	c()
	return nil
}

// An instance is a controller whose switch the platform has.
type instance struct {
	placed
	cloud  *cloud
	before string
	cancel context.CancelFunc
	ended  chan struct{}
}

var _ controller = (*instance)(nil)

func newInstance(h *host, c *cloud, p placed) *instance {
	ctx, cancel := context.WithCancel(context.Background())
	in := &instance{placed: p, cloud: c, before: p.shown(), cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(in.ended)
		in.follow(ctx, h)
	}()
	return in
}

// everyLook is how often a host looks what became of its instance: servers of platforms tell
// nobody.
const everyLook = 5 * time.Millisecond

// follow switches the host as the platform does its instance, which runs at first.
func (in *instance) follow(ctx context.Context, h *host) {
	was := sight{runs: true}
	for sleep(ctx, everyLook) {
		now := in.look()
		if was.runs && (!now.runs || now.starts != was.starts) {
			h.log.write(h.Name, "power", "off")
			h.stop()
			was.runs = false
		}
		if now.runs && !was.runs {
			h.log.write(h.Name, "power", "on")
			h.start(boot{disc: now.disc})
		}
		was = now
	}
}

func (in *instance) route() inventory.Route {
	return inventory.Route{Driver: in.cloud.kind, Address: in.address}
}

func (in *instance) again() (boot, bool) { return boot{}, true }

func (in *instance) left() []string {
	if in.cloud.settle != nil {
		in.cloud.settle()
	}
	if now := in.shown(); now != in.before {
		return []string{fmt.Sprintf("the instance is %s, and was %s", now, in.before)}
	}
	return nil
}

func (in *instance) Close() {
	in.cancel()
	<-in.ended
}
