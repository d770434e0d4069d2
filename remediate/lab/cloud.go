package lab

import (
	"context"
	"fmt"
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
	handler http.Handler
	helper  string // what its helper is called
	mute    bool   // it does not know addresses: fleet.csv has those

	// launch makes the instance of a host. Nobody may stop one that is protected.
	launch    func(s spec, address string, protected bool) placed
	snapshots func() int // how many there are
	settle    func()     // lets what goes on come to its end; may be nil

	server *http.Server
	guests []*host
}

// A placed instance is what the platform knows of it.
type placed struct {
	address string // of the route
	look    func() sight
}

// A sight is how an instance stands.
type sight struct {
	runs  bool   // with its own system volume
	mark  string // what the helper knows the volume by that hangs there; empty: none does
	shown string // all that has to be as it was in the end
}

// makers are the platforms that the lab can play. Each gets the lab's folder, and the address
// at which its server will listen.
func makers() map[string]func(dir, url string) (*cloud, error) {
	return map[string]func(dir, url string) (*cloud, error){
		"azure":   newAzure,
		"ec2":     newEC2,
		"gce":     newGCE,
		"proxmox": newProxmox,
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
	c.server = &http.Server{Handler: c.handler, ReadHeaderTimeout: 30 * time.Second}
	l.clouds = append(l.clouds, c)
	go c.server.Serve(listener)
	rng := rand.New(rand.NewPCG(o.Seed, uint64(len(l.clouds))<<32))
	for i, k := range guestKinds(name) {
		s := newSpec(rng, i, k, site{name: name, model: sites()[0].model})
		s.Site = "" // the platform says where it is
		h, err := newHost(s, o, nil, l.front, l.log)
		if err != nil {
			return fmt.Errorf("cannot start host %s: %w", s.Name, err)
		}
		l.members, c.guests = append(l.members, h), append(c.guests, h)
		h.control = newInstance(h, c, c.launch(s, h.Address, k.deserves != remediate.Fixed))
	}
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
	in := &instance{placed: p, cloud: c, before: p.look().shown, cancel: cancel, ended: make(chan struct{})}
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
	runs := true
	for sleep(ctx, everyLook) {
		switch now := in.look().runs; {
		case now && !runs:
			h.log.write(h.Name, "power", "on")
			h.start(boot{})
			runs = true
		case !now && runs:
			h.log.write(h.Name, "power", "off")
			h.stop()
			runs = false
		}
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
	if now := in.look().shown; now != in.before {
		return []string{fmt.Sprintf("the instance is %s, and was %s", now, in.before)}
	}
	return nil
}

func (in *instance) Close() {
	in.cancel()
	<-in.ended
}
