package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/inventory/source/csv"
	"unbrick/remediate"
	"unbrick/remediate/driver/redfish"
	"unbrick/remediate/lab"
	"unbrick/remediate/tlspin"
)

// asBareLoop makes the test binary do the Redfish calls of a run and nothing else, on the
// lab in the folder that it names.
const asBareLoop = "UNBRICK_TEST_AS_BARE_LOOP"

const (
	benchHosts   = 200
	benchAtOnce  = 32
	benchPerSite = 12
)

// BenchmarkRun measures a whole run against the simulated fleet, and beside it the same
// Redfish work in a bare loop: no state, no rescue server, no proof. Each is a process of its
// own, so that the CPU of the lab is in neither.
func BenchmarkRun(b *testing.B) {
	var cpu [2]float64
	for i, what := range []string{"whole", "bare"} {
		b.Run(what, func(b *testing.B) {
			var hosts int
			var took, used time.Duration
			for range b.N {
				l := startTestLab(b, lab.Options{Hosts: benchHosts, Plain: true, Pace: 5 * time.Millisecond})
				s := unbrick(b, runOn(l, "--json")...)
				if what == "bare" {
					s = unbrick(b)
					s.Env = append(os.Environ(), asBareLoop+"="+l.Dir)
				}
				start := time.Now()
				if code := s.run(b); code != exitDone {
					b.Fatalf("exit code %d: %s", code, s.stderr.String())
				}
				took += time.Since(start)
				used += s.ProcessState.UserTime() + s.ProcessState.SystemTime()
				hosts += benchHosts
				l.Close()
			}
			cpu[i] = used.Seconds() / float64(hosts)
			b.ReportMetric(float64(hosts)/took.Minutes(), "hosts/min")
			b.ReportMetric(cpu[i], "cpu-s/host")
			if what == "bare" && cpu[0] > 0 {
				b.ReportMetric(cpu[0]/cpu[1], "whole/bare-cpu")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// bareLoop does for every host of the lab in dir what the driver does in a run: observe,
// enter, leave.
func bareLoop(dir string) error {
	cfg, err := loadConfig(filepath.Join(dir, "unbrick.yaml"))
	if err != nil {
		return err
	}
	fleet, err := inventory.Load(context.Background(), inventory.Options{}, &csv.Source{Path: cfg.Inventory})
	if err != nil {
		return err
	}
	d := redfish.New(redfish.Options{Login: logins(cfg), TLS: tlspin.Policy{Mode: tlspin.Insecure}})
	atOnce, site := make(chan struct{}, benchAtOnce), map[string]chan struct{}{}
	for _, h := range fleet.Hosts {
		site[h.Site] = make(chan struct{}, benchPerSite)
	}
	var wg sync.WaitGroup
	errs := make(chan error, len(fleet.Hosts))
	for _, h := range fleet.Hosts {
		wg.Go(func() {
			site[h.Site] <- struct{}{}
			atOnce <- struct{}{}
			defer func() { <-atOnce; <-site[h.Site] }()
			errs <- bareHost(d, h)
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func bareHost(d *redfish.Driver, h inventory.Host) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	t := remediate.Target{Run: "bare", Attempt: 1, Host: h, Route: h.Routes[0]}
	before, err := d.Observe(ctx, t)
	if err != nil {
		return fmt.Errorf("observe %s: %w", h.Name, err)
	}
	if err := d.Enter(ctx, t, remediate.Image{URL: "http://127.0.0.1:9/i/none/rescue.iso"}); err != nil {
		return fmt.Errorf("enter %s: %w", h.Name, err)
	}
	return d.Leave(ctx, t, before)
}
