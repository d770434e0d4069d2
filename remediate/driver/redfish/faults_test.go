package redfish_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"unbrick/remediate"
	"unbrick/remediate/driver/drivertest"
	"unbrick/remediate/driver/redfish"
	"unbrick/remediate/driver/redfish/redfishtest"
)

// persist calls again what failed, as the engine does, without waiting.
func persist(t *testing.T, what string, call func() error) {
	t.Helper()
	var errs []error
	for range 5 {
		err := call()
		if err == nil {
			return
		}
		errs = append(errs, err)
	}
	t.Fatalf("%s: %v", what, errors.Join(errs...))
}

// through takes a host through all stages, each until it goes well.
func through(t *testing.T, what string, r *rack) {
	t.Helper()
	d := redfish.New(options())
	var before remediate.Posture
	persist(t, what+": observe", func() (err error) { before, err = d.Observe(t.Context(), r.target()); return err })
	img := remediate.Image{URL: image}
	persist(t, what+": enter", func() error { return d.Enter(t.Context(), r.target(), img) })
	if boots := r.boots(); boots[len(boots)-1] != image { // the override was ignored: the next attempt
		persist(t, what+": leave", func() error { return d.Leave(t.Context(), r.target(), before) })
		img.URL = "http://192.0.2.7:8080/i/fedcba9876543210/rescue.iso"
		persist(t, what+": enter again", func() error { return d.Enter(t.Context(), r.target(), img) })
	}
	persist(t, what+": leave", func() error { return d.Leave(t.Context(), r.target(), before) })
	boots := slices.DeleteFunc(r.boots(), func(b string) bool { return b == drivertest.Disk })
	if !slices.Equal(boots, []string{img.URL}) || r.boots()[len(r.boots())-1] != drivertest.Disk {
		t.Errorf("%s: the host booted %q", what, r.boots())
	}
	if left := r.left(); left != "" {
		t.Errorf("%s: left behind: %s", what, left)
	}
}

// TestFaults orders every fault on every operation, each on a model of its turn, and the
// faults that are matters of the model on every model.
func TestFaults(t *testing.T) {
	ops := []string{
		redfishtest.OpRoot, redfishtest.OpLogin, redfishtest.OpLogout, redfishtest.OpSystems, redfishtest.OpSystem, redfishtest.OpManager,
		redfishtest.OpMedia, redfishtest.OpInsert, redfishtest.OpEject, redfishtest.OpOverride, redfishtest.OpReset,
	}
	models := redfishtest.Models()
	turn := 0
	run := func(m redfishtest.Model, f redfishtest.Fault) {
		what := fmt.Sprintf("%s, %s on %q", m.Name, f.Kind, f.On)
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			through(t, what, newRack(t, redfishtest.Options{Model: m, Faults: []redfishtest.Fault{f}}))
		})
	}
	for _, kind := range redfishtest.Kinds() {
		switch kind {
		case redfishtest.StaleMedia, redfishtest.OverrideIgnored, redfishtest.SessionsFull:
			for _, m := range models {
				run(m, redfishtest.Fault{Kind: kind})
			}
		case redfishtest.Hang: // TestHang
		case redfishtest.LostRequest, redfishtest.LostReply: // TestContract
		default:
			for _, op := range ops {
				run(models[turn%len(models)], redfishtest.Fault{Kind: kind, On: op, Delay: time.Millisecond})
				turn++
			}
		}
	}
}

// TestHang lets one request hang, until the caller's time is over. The session is ended all
// the same, and nothing of the call goes on.
func TestHang(t *testing.T) {
	goroutines := runtime.NumGoroutine()
	for _, op := range []string{redfishtest.OpSystem, redfishtest.OpMedia, redfishtest.OpReset} {
		r := newRack(t, redfishtest.Options{})
		r.Order(redfishtest.Fault{Kind: redfishtest.Hang, On: op})
		ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
		err := redfish.New(options()).Enter(ctx, r.target(), remediate.Image{URL: image})
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("hang on %s: %v", op, err)
		}
		if n := r.State().Sessions; n != 0 {
			t.Errorf("hang on %s: %d sessions left", op, n)
		}
		r.Close()
	}
	for end := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > goroutines; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			buf := make([]byte, 1<<16)
			t.Fatalf("%d goroutines before, %d after\n%s", goroutines, runtime.NumGoroutine(), buf[:runtime.Stack(buf, true)])
		}
	}
}

// A looper is a host whose Windows crashes at once, again and again, until it boots an image.
type looper struct {
	bmc     atomic.Pointer[redfishtest.BMC]
	stop    chan struct{}
	stopped chan struct{}
}

func (l *looper) Start(b redfishtest.Boot) {
	l.stop, l.stopped = make(chan struct{}), make(chan struct{})
	go func() {
		defer close(l.stopped)
		for b.Device == redfishtest.Hdd {
			select {
			case <-l.stop:
				return
			case <-time.After(200 * time.Microsecond):
				b = l.bmc.Load().Reboot()
			}
		}
	}()
}

func (l *looper) Stop() { close(l.stop); <-l.stopped }

// TestLoopingHost rescues a host that resets itself all the time, so that a boot override set
// while it runs is used up at once.
func TestLoopingHost(t *testing.T) {
	for _, m := range redfishtest.Models() {
		l := &looper{}
		r := newRack(t, redfishtest.Options{Model: m, Host: l})
		l.bmc.Store(r.BMC)
		l.Start(redfishtest.Boot{Device: redfishtest.Hdd})
		d := redfish.New(options())
		var before remediate.Posture
		persist(t, m.Name, func() (err error) { before, err = d.Observe(t.Context(), r.target()); return err })
		for range 2 {
			persist(t, m.Name, func() error { return d.Enter(t.Context(), r.target(), remediate.Image{URL: image}) })
		}
		persist(t, m.Name, func() error { return d.Leave(t.Context(), r.target(), before) })
		r.Close()
		l.Stop()
		images := slices.DeleteFunc(r.boots(), func(b string) bool { return b == drivertest.Disk })
		if !slices.Equal(images, []string{image}) || r.left() != "" {
			t.Errorf("%s: booted %q, left %q", m.Name, images, r.left())
		}
	}
}

// TestSlow has a BMC that takes its time for everything, and fetches what it inserts.
func TestSlow(t *testing.T) {
	r := newRack(t, redfishtest.Options{Model: redfishtest.IDRAC9(), PowerDelay: 30 * time.Millisecond, InsertDelay: 20 * time.Millisecond})
	through(t, "slow", r)
}

// TestForeign finds an image and an override that somebody left, and puts them back.
func TestForeign(t *testing.T) {
	const theirs = "http://192.0.2.9/windows-setup.iso"
	for _, m := range redfishtest.Models() {
		slot := ""
		for _, s := range m.Slots {
			if !s.NoURL && !s.Refuses && slices.Contains(s.Types, m.Slots[len(m.Slots)-1].Types[0]) {
				slot = s.ID
				break
			}
		}
		r := newRack(t, redfishtest.Options{Model: m})
		r.SetMedia(slot, theirs)
		d := redfish.New(options())
		before, err := d.Observe(t.Context(), r.target())
		if err != nil {
			t.Fatal(m.Name, err)
		}
		if !slices.Contains(values(before.Detail), theirs) {
			t.Errorf("%s: the posture lacks what is in the slot: %v", m.Name, before.Detail)
		}
		if err := d.Enter(t.Context(), r.target(), remediate.Image{URL: image}); err != nil {
			t.Fatal(m.Name, err)
		}
		during, err := d.Observe(t.Context(), r.target())
		if err != nil || slices.Contains(values(during.Detail), image) {
			t.Errorf("%s: our own image is part of the posture: %v %v", m.Name, during.Detail, err)
		}
		if err := d.Leave(t.Context(), r.target(), before); err != nil {
			t.Fatal(m.Name, err)
		}
		if s := r.State(); len(s.Media) != 1 || s.Media[slot].Image != theirs || r.boots()[0] != image {
			t.Errorf("%s: booted %q, left with %v", m.Name, r.boots(), s.Media)
		}
	}
}

func values(m map[string]string) []string {
	var all []string
	for _, v := range m {
		all = append(all, v)
	}
	return all
}

// TestOverrideBefore leaves an override as it was if it holds for good; one for a single
// start would keep Windows from starting.
func TestOverrideBefore(t *testing.T) {
	for enabled, want := range map[string]string{"Continuous": "Pxe Continuous", "Once": "None Disabled"} {
		r := newRack(t, redfishtest.Options{})
		r.SetOverride(redfishtest.BootOverride{Target: "Pxe", Enabled: enabled, Mode: "UEFI"})
		d := redfish.New(options())
		before, err := d.Observe(t.Context(), r.target())
		if err != nil || before.Detail["override"] != "Pxe" {
			t.Fatal(before, err)
		}
		if err := d.Enter(t.Context(), r.target(), remediate.Image{URL: image}); err != nil {
			t.Fatal(err)
		}
		if err := d.Leave(t.Context(), r.target(), before); err != nil {
			t.Fatal(err)
		}
		if o := r.State().Override; o.Target+" "+o.Enabled != want {
			t.Errorf("%s before: %v after", enabled, o)
		}
	}
}

// TestManyHostsOneBMC calls one address from many hosts, as with a chassis: no more calls at
// a time than are allowed, and every one gets its turn.
func TestManyHostsOneBMC(t *testing.T) {
	r := newRack(t, redfishtest.Options{Model: redfishtest.AMI()}) // four sessions
	d := redfish.New(options())
	errs := make(chan error)
	for range 12 {
		go func() {
			_, err := d.Observe(t.Context(), r.target())
			errs <- err
		}()
	}
	for range 12 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	logins := 0
	for _, op := range r.Requests() {
		if op == redfishtest.OpRoot {
			logins++ // a login that finds the table full begins again
		}
	}
	if n := r.State().Sessions; n != 0 || logins != 12 {
		t.Errorf("%d sessions left, %d logins for 12 calls", n, logins)
	}
}

// TestLeaveClearsFirst has a host that is ready to boot the image and does not have to: the
// override is gone before the power comes, since firmware that is told to boot what is not
// there may stop and ask.
func TestLeaveClearsFirst(t *testing.T) {
	for _, m := range redfishtest.Models() {
		r := newRack(t, redfishtest.Options{Model: m, PowerDelay: time.Hour}) // it never comes on
		d := redfish.New(options())
		before, err := d.Observe(t.Context(), r.target())
		if err != nil {
			t.Fatal(m.Name, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			for !slices.Contains(r.did(), "power on") {
				time.Sleep(time.Millisecond)
			}
			cancel()
		}()
		if err := d.Enter(ctx, r.target(), remediate.Image{URL: image}); err == nil {
			t.Fatal(m.Name, "a host without power was entered")
		}
		ready := len(r.did())
		ctx, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
		d.Leave(ctx, r.target(), before)
		cancel()
		did := r.did()[ready:]
		off, cleared, on := slices.Index(did, "power off"), slices.Index(did, "override cleared"), slices.Index(did, "power on")
		if off < 0 || cleared < off || on < cleared {
			t.Errorf("%s: Leave did %q", m.Name, did)
		}
	}
}

// TestLeaveAHostThatIsUp: a host that came back by itself with our image in the slot loses
// the image and not its power.
func TestLeaveAHostThatIsUp(t *testing.T) {
	for _, m := range redfishtest.Models() {
		r := newRack(t, redfishtest.Options{Model: m})
		d := redfish.New(options())
		before, err := d.Observe(t.Context(), r.target())
		if err != nil {
			t.Fatal(m.Name, err)
		}
		if err := d.Enter(t.Context(), r.target(), remediate.Image{URL: image}); err != nil {
			t.Fatal(m.Name, err)
		}
		entered := len(r.did())
		up := r.target()
		up.Up = true
		if err := d.Leave(t.Context(), up, before); err != nil {
			t.Fatal(m.Name, err)
		}
		if did := r.did()[entered:]; slices.Contains(did, "power off") || slices.Contains(did, "power reset") {
			t.Errorf("%s: a host that is up: Leave did %q", m.Name, did)
		}
		if left := r.left(); left != "" {
			t.Errorf("%s: left %s", m.Name, left)
		}
	}
}
