package lab

import (
	"context"
	"crypto/tls"
	"fmt"
	"sync"
	"time"

	"unbrick/bitlocker/keytest"
	"unbrick/inventory"
	"unbrick/playbooks/volumetest"
	"unbrick/remediate"
	"unbrick/remediate/driver/redfish/redfishtest"
	"unbrick/remediate/rescue/agent"
	"unbrick/remediate/rescue/wire"
)

// A host is one simulated machine: what its BMC switches on and off.
type host struct {
	spec
	pace    time.Duration
	log     *actionLog
	bmc     *redfishtest.BMC
	route   string // address of the BMC, or of nobody
	disk    *volumetest.Volume
	windows *windows

	mu    sync.Mutex
	power context.CancelFunc // ends what runs now; nil: off
	ended chan struct{}      // closed when it has
}

func newHost(s spec, o Options, certificate *tls.Certificate, log *actionLog) (*host, error) {
	h := &host{spec: s, pace: o.Pace, log: log, disk: newDisk(s.kind)}
	var err error
	if h.windows, err = newWindows(); err != nil {
		return nil, err
	}
	h.Address = h.windows.address()
	h.bmc, err = redfishtest.Start(redfishtest.Options{
		Model: s.model, User: bmcUser, Password: bmcPassword,
		UUID: s.board.uuid, Serial: s.board.serial,
		Certificate: certificate, Off: s.kind.off, Host: h, Record: log.recorder(s.Name),
	})
	if err != nil {
		h.windows.close()
		return nil, err
	}
	h.route = h.bmc.URL()
	if s.kind.dead {
		h.route = nobody()
	}
	return h, nil
}

func (h *host) inventory() inventory.Host {
	i := h.Host
	i.Routes = []inventory.Route{{Driver: "redfish", Address: h.route}}
	return i
}

func (h *host) deserves() remediate.Verdict  { return h.kind.deserves }
func (h *host) controller() *redfishtest.BMC { return h.bmc }

func (h *host) filing() (keytest.Filing, bool) {
	return keytest.Filing{ID: h.protector, Host: h.Name, Key: h.escrowed}, h.kind.key != noKey
}

func (h *host) powerOn() {
	if !h.kind.off {
		h.Start(redfishtest.Boot{Device: redfishtest.Hdd})
	}
	if h.kind.deserves == remediate.Healthy { // it came back before anybody looked
		h.windows.set(true)
	}
}

// Start is called by the BMC when power comes on or the host is reset.
func (h *host) Start(b redfishtest.Boot) {
	h.Stop()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	h.mu.Lock()
	h.power, h.ended = cancel, ended
	h.mu.Unlock()
	go func() {
		defer close(ended)
		h.run(ctx, b)
	}()
}

// Stop is called by the BMC when power goes off. It returns when nothing runs any more.
func (h *host) Stop() {
	h.mu.Lock()
	cancel, ended := h.power, h.ended
	h.power, h.ended = nil, nil
	h.mu.Unlock()
	if cancel != nil {
		cancel()
		<-ended
		h.windows.set(false)
	}
}

// run is a host from power-on to power-off: it boots until it comes up.
func (h *host) run(ctx context.Context, b redfishtest.Boot) {
	for {
		if !sleep(ctx, h.pace) {
			return
		}
		if b.Device == "Cd" && h.rescue(ctx, b.Image) {
			return
		}
		if !h.crashes() {
			h.up(ctx)
			return
		}
		h.log.write(h.Name, "crash", "stop code 0x50 in csagent.sys")
		if !sleep(ctx, 4*h.pace) {
			return
		}
		b = h.bmc.Reboot()
	}
}

// rescue boots the image at url and runs the fixer, then waits to be switched off. False
// means that the image did not boot: the firmware goes on to the disk.
func (h *host) rescue(ctx context.Context, url string) bool {
	cfg, err := fetchConfig(ctx, url)
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
	<-ctx.Done()
	return true
}

func (h *host) up(ctx context.Context) {
	h.log.write(h.Name, "up", "")
	h.windows.set(true)
	<-ctx.Done()
	h.windows.set(false)
}

func (h *host) close() {
	h.bmc.Close()
	h.Stop()
	h.windows.close()
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
