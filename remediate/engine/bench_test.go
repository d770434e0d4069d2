//go:build unix

package engine

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/playbooks"
	"unbrick/remediate"
)

// instant treats every host in no time, in this process: what remains is the engine's price.
type instant struct {
	entered atomic.Int64
	end     chan struct{} // closed when repairs are to end
}

func (*instant) Observe(context.Context, remediate.Target) (remediate.Posture, error) {
	return remediate.Posture{Power: "on"}, nil
}
func (i *instant) Enter(context.Context, remediate.Target, remediate.Image) error {
	i.entered.Add(1)
	return nil
}
func (*instant) Leave(context.Context, remediate.Target, remediate.Posture) error { return nil }

// doctor is the medic and the prober of instant hosts.
type doctor struct{ *instant }

func (*doctor) Image(context.Context, remediate.Target) (remediate.Image, error) {
	return remediate.Image{}, nil
}

func (d *doctor) Repair(ctx context.Context, t remediate.Target, _ *playbooks.Playbook) (remediate.Report, error) {
	select {
	case <-d.end:
	case <-ctx.Done():
	}
	return remediate.Report{Result: playbooks.Result{Volumes: []playbooks.VolumeResult{{Volume: "C:", Verdict: playbooks.Good}}}}, nil
}

func many(n, sites int) iter.Seq[Planned] {
	return func(yield func(Planned) bool) {
		for i := range n {
			h := inventory.Host{Name: fmt.Sprintf("host-%07d", i), Site: fmt.Sprintf("site-%04d", i%sites),
				Tier: inventory.Normal, Routes: []inventory.Route{{Driver: "instant", Address: "https://10.0.0.1"}}}
			if !yield(Planned{Host: h, Order: i}) {
				return
			}
		}
	}
}

func benchStore(b *testing.B, hosts int) *Store {
	b.Helper()
	s, err := Open(context.Background(), filepath.Join(b.TempDir(), "unbrick.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	if _, err := s.Begin(context.Background(), Run{Playbook: "bench", FleetDigest: "f"}, many(hosts, 50)); err != nil {
		b.Fatal(err)
	}
	return s
}

// fourth says that a host is up when it is looked at for the fourth time: check, enter and
// leave saw nothing.
type fourth struct{ looks [1 << 16]atomic.Int32 }

func (f *fourth) Probe(_ context.Context, h inventory.Host) (string, error) {
	var i int
	if _, err := fmt.Sscanf(h.Name, "host-%d", &i); err != nil || f.looks[i].Add(1) < 4 {
		return "", err
	}
	return "up", nil
}

func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkRun treats 2,000 hosts that take no time, on SQLite, all five stages each.
func BenchmarkRun(b *testing.B) {
	const hosts = 2000
	for b.Loop() {
		s := benchStore(b, hosts)
		i := &instant{end: make(chan struct{})}
		close(i.end)
		began, used := time.Now(), cpu()
		sum := runs(b, Engine{
			Store: s, Playbook: &playbooks.Playbook{}, Drivers: map[string]remediate.Driver{"instant": i},
			Medic: &doctor{i}, Prober: new(fourth), Limits: Limits{Hosts: 500}, Poll: 50 * time.Millisecond,
		})
		if !sum.Done() {
			b.Fatalf("%+v", sum)
		}
		b.ReportMetric(hosts/time.Since(began).Minutes(), "hosts/min")
		b.ReportMetric((cpu()-used).Seconds()/hosts, "cpu-s/host")
	}
}

// BenchmarkInFlight holds 5,000 hosts in repair, and says what one of them costs.
func BenchmarkInFlight(b *testing.B) {
	const hosts = 5000
	for b.Loop() {
		s := benchStore(b, hosts)
		i := &instant{end: make(chan struct{})}
		e := New(Engine{
			Store: s, Playbook: &playbooks.Playbook{}, Drivers: map[string]remediate.Driver{"instant": i},
			Medic: &doctor{i}, Limits: Limits{Hosts: hosts},
			Timeouts: Timeouts{Confirm: time.Millisecond},
		})
		before := heap()
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			e.Run(ctx)
		}()
		for i.entered.Load() < hosts {
			time.Sleep(10 * time.Millisecond)
		}
		used, began := cpu(), time.Now()
		time.Sleep(3 * time.Second) // what waiting costs
		b.ReportMetric(float64(heap()-before)/hosts/1024, "KiB/host")
		b.ReportMetric(100*(cpu()-used).Seconds()/time.Since(began).Seconds(), "idle-cpu-%")
		b.ReportMetric(0, "ns/op")
		cancel()
		<-done
	}
}

// heap is what is in use, stacks included.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// BenchmarkBegin stores 100,000 hosts, and asks for the status.
func BenchmarkBegin(b *testing.B) {
	const hosts = 100_000
	for b.Loop() {
		began := time.Now()
		s := benchStore(b, hosts)
		b.ReportMetric(hosts/time.Since(began).Seconds(), "hosts/s")
		began = time.Now()
		if st, err := s.Status(context.Background(), ""); err != nil || st.Todo != hosts {
			b.Fatal(st.Count, err)
		}
		b.ReportMetric(float64(time.Since(began).Microseconds()), "status-µs")
	}
}

// BenchmarkReplan makes the order of 40,000 hosts anew: the first time, and when nothing changed.
func BenchmarkReplan(b *testing.B) {
	const hosts = 40_000
	ctx := context.Background()
	s := benchStore(b, hosts)
	r, err := s.Run(ctx, "")
	if err != nil {
		b.Fatal(err)
	}
	w := newWorker(New(Engine{Store: s, Plan: planOf(Engine{Limits: Limits{Hosts: 64}})}), r)
	for b.Loop() {
		began := time.Now()
		p, err := w.plan(ctx, nil)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(time.Since(began).Milliseconds()), "first-ms")
		began = time.Now()
		if _, err := w.plan(ctx, p); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(time.Since(began).Milliseconds()), "again-ms")
	}
}
