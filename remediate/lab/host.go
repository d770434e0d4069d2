package lab

import (
	"context"
	"crypto/tls"
	"fmt"
	"strings"
	"sync"
	"time"

	"unbrick/bitlocker/keytest"
	"unbrick/inventory"
	"unbrick/playbooks/volumetest"
	"unbrick/remediate"
	"unbrick/remediate/rescue/agent"
	"unbrick/remediate/rescue/wire"
)

// What a Windows takes that crashes after a while, of a host that is caught in between: seconds,
// whatever the pace, so that a look now and then sees it up and sees it down.
const (
	shakyUp   = 1200 * time.Millisecond
	shakyDown = 900 * time.Millisecond

	restartAfter = 100 * time.Millisecond // it was ordered: who did gets an answer
)

// A host is one simulated machine: what its controller switches on and off.
type host struct {
	spec
	pace    time.Duration
	log     *actionLog
	front   *front
	control controller // nil: nothing switches it
	disk    *volumetest.Volume
	windows *windows
	shell   sync.Mutex // held while a command line runs

	mu     sync.Mutex
	power  context.CancelFunc // ends what runs now; nil: off
	ended  chan struct{}      // closed when it has
	starts int                // by a controller
}

func newHost(s spec, o Options, certificate *tls.Certificate, front *front, log *actionLog) (*host, error) {
	h := &host{spec: s, pace: o.Pace, log: log, front: front, disk: newDisk(s.kind)}
	var err error
	if h.windows, err = newWindows(h.command); err != nil {
		return nil, err
	}
	h.Address = h.windows.Addr()
	for _, way := range s.kind.ways {
		c, err := newController(h, way, certificate)
		if err != nil {
			h.close()
			return nil, err
		}
		if c != nil {
			h.control = c
		}
	}
	return h, nil
}

func (h *host) inventory() inventory.Host {
	i := h.Host
	for _, way := range h.kind.ways {
		switch way {
		case "winrm":
			i.Routes = append(i.Routes, inventory.Route{Driver: way, Address: h.windows.URL()})
		case remediate.Manual:
			i.Routes = append(i.Routes, inventory.Route{Driver: way, Address: "third desk behind the door"})
		default:
			i.Routes = append(i.Routes, h.control.route())
		}
	}
	return i
}

func (h *host) deserves() (remediate.Verdict, string) { return h.kind.deserves, h.kind.by }

func (h *host) filing() (keytest.Filing, bool) {
	return keytest.Filing{ID: h.protector, Host: h.Name, Key: h.escrowed}, h.kind.key != noKey
}

func (h *host) left() (left []string) {
	if h.control != nil {
		left = h.control.left()
	}
	if n := h.windows.Count().Shells; n > 0 {
		left = append(left, fmt.Sprintf("%d sessions of WinRM are open", n))
	}
	return left
}

func (h *host) powerOn() {
	if !h.kind.off {
		h.start(boot{})
	}
	if h.kind.deserves == remediate.Healthy && h.kind.by == "" { // it came back before anybody looked
		h.windows.up()
	}
}

// start is called when power comes on or the host is reset.
func (h *host) start(b boot) {
	h.stop()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	h.mu.Lock()
	h.power, h.ended = cancel, ended
	h.starts++
	n := h.starts
	h.mu.Unlock()
	go func() {
		defer close(ended)
		h.run(ctx, b, n)
	}()
}

// stop is called when power goes off. It returns when nothing runs any more.
func (h *host) stop() {
	h.mu.Lock()
	cancel, ended := h.power, h.ended
	h.power, h.ended = nil, nil
	h.mu.Unlock()
	if cancel != nil {
		cancel()
		<-ended
		h.windows.down()
	}
}

// run is a host from its n-th power-on to power-off: it boots until it comes up for good.
func (h *host) run(ctx context.Context, b boot, n int) {
	for {
		if !sleep(ctx, h.pace) {
			return
		}
		if b.stuck || b != (boot{}) && h.rescue(ctx, b) {
			<-ctx.Done()
			return
		}
		h.fetch(n)
		if !h.crashes() {
			h.up(ctx, 0)
		} else if !h.crash(ctx) {
			return
		}
		if ctx.Err() != nil {
			return
		}
		ok := true
		if b = (boot{}); h.control != nil {
			b, ok = h.control.again()
		}
		if !ok {
			return
		}
	}
}

// fetch has the sensor load the good file before it crashes, if this is the start to do so.
func (h *host) fetch(n int) {
	if h.kind.fetches > 0 && n >= h.kind.fetches && h.crashes() {
		h.log.write(h.Name, "fetched the good file", fmt.Sprintf("at start %d", n))
		h.disk.Remove(faultyFile)
		h.disk.Add(goodFile, goodFrom.Add(time.Minute), append(header[:], "good"...))
	}
}

// crash is a start that ends in a crash. False means that the host does not start anew.
func (h *host) crash(ctx context.Context) bool {
	dump := 4 * h.pace
	if h.kind.shaky {
		h.up(ctx, shakyUp)
		dump = max(dump, shakyDown)
	}
	if ctx.Err() != nil {
		return false
	}
	h.log.write(h.Name, "crash", "stop code 0x50 in csagent.sys")
	if h.kind.halts {
		h.log.write(h.Name, "recovery screen", "waits for somebody")
		<-ctx.Done()
		return false
	}
	return sleep(ctx, dump)
}

// rescue boots the image and runs the fixer. False means that the image did not boot: the
// firmware goes on to the disk.
func (h *host) rescue(ctx context.Context, b boot) bool {
	cfg, err := h.configuration(ctx, b)
	if err != nil {
		h.log.write(h.Name, "image does not boot", err.Error())
		return false
	}
	h.log.write(h.Name, "rescue image", "")
	report, err := agent.Run(ctx, &machine{h}, cfg, agent.Options{})
	result := string(report.Verdict())
	if err != nil {
		result = fmt.Sprintf("cannot report: %v", err)
	}
	h.log.write(h.Name, "rescue ended", result)
	return true
}

// configuration is what the rescue image that is booted has for this host.
func (h *host) configuration(ctx context.Context, b boot) (wire.Config, error) {
	if b.disc != "" {
		return agent.ConfigFromImage(strings.NewReader(b.disc))
	}
	return h.front.fetchConfig(ctx, b.image)
}

// up is Windows, for so long or until it is restarted or loses power; 0 has no end.
func (h *host) up(ctx context.Context, limit time.Duration) {
	h.log.write(h.Name, "up", "")
	h.windows.up()
	defer h.windows.down()
	var over <-chan time.Time
	if limit > 0 {
		over = time.After(limit)
	}
	select {
	case <-ctx.Done():
	case <-over:
	case <-h.windows.restart:
		h.log.write(h.Name, "restart", "ordered in Windows")
		sleep(ctx, restartAfter)
	}
}

func (h *host) close() {
	if h.control != nil {
		h.control.Close()
	}
	h.stop()
	h.windows.Close()
}

// sleep waits for d and says whether the host is still on.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return ctx.Err() == nil
	}
}

// A machine is what the fixer sees of a host.
type machine struct{ h *host }

func (m *machine) Identity() (wire.Identity, error) {
	b := m.h.board
	return wire.Identity{UUID: b.uuid, Serial: b.serial, MAC: []string{b.mac}, Vendor: "unbrick lab", Product: m.h.model.Product}, nil
}

func (m *machine) Volumes(context.Context) ([]agent.Volume, error) {
	return []agent.Volume{&volume{h: m.h}}, nil
}
