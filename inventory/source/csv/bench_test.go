package csv_test

import (
	"bufio"
	"context"
	stdcsv "encoding/csv"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"unbrick/inventory"
	"unbrick/inventory/source/csv"
)

// benchRows is how many hosts the benchmarks read each time.
const benchRows = 1_000_000

// bigFile writes a fleet of benchRows hosts, about 190 bytes each, some of them quoted.
func bigFile(b *testing.B) string {
	path := filepath.Join(b.TempDir(), "big.csv")
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	w := bufio.NewWriter(f)
	fmt.Fprintln(w, "name,serial,uuid,mac,site,country,timezone,tier,opens,redfish,owner")
	for i := range benchRows {
		fmt.Fprintf(w, "S%05d-PC-%07d,5CG%09X,4c4c4544-0044-3510-8052-%012x,52:54:%02x:%02x:%02x:%02x,S%05d,DE,Europe/Berlin,normal,Mon-Sat 07:30,https://10.%d.%d.%d,\"Doe, J\"\n",
			i/1000, i, i, i, i>>24&255, i>>16&255, i>>8&255, i&255, i/1000, i>>16&255, i>>8&255, i&255)
	}
	if err := w.Flush(); err != nil {
		b.Fatal(err)
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	return path
}

// sampled is a source that looks at the heap now and then.
type sampled struct {
	inventory.Source
	peak uint64
}

func (s *sampled) Hosts(ctx context.Context) iter.Seq2[inventory.Host, error] {
	return func(yield func(inventory.Host, error) bool) {
		n := 0
		for h, err := range s.Source.Hosts(ctx) {
			if n++; n%50_000 == 0 {
				s.look()
			}
			if !yield(h, err) {
				return
			}
		}
	}
}

func (s *sampled) look() {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	s.peak = max(s.peak, m.HeapAlloc)
}

// BenchmarkMillion reads a million hosts: with encoding/csv alone, which is the floor, with
// Scan, which judges them and keeps none, with Scan and a second reading that yields them,
// and with Load, which keeps them.
func BenchmarkMillion(b *testing.B) {
	path := bigFile(b)
	ctx := context.Background()
	run := func(name string, read func(src *sampled) int) {
		b.Run(name, func(b *testing.B) {
			src := &sampled{Source: csv.Source{Path: path}}
			for b.Loop() {
				runtime.GC()
				if n := read(src); n != benchRows {
					b.Fatalf("%d rows", n)
				}
				src.look()
			}
			b.ReportMetric(float64(benchRows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
			b.ReportMetric(float64(src.peak)/(1<<20), "MB-heap")
		})
	}
	run("bare", func(*sampled) int { return bare(b, path) })
	run("scan", func(src *sampled) int {
		scan, err := inventory.NewScan(ctx, inventory.Options{}, src)
		if err != nil {
			b.Fatal(err)
		}
		return scan.Usable
	})
	run("scan+hosts", func(src *sampled) (n int) {
		scan, err := inventory.NewScan(ctx, inventory.Options{}, src)
		if err != nil {
			b.Fatal(err)
		}
		for _, err := range scan.Hosts(ctx) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		return n
	})
	run("load", func(src *sampled) int {
		fleet, err := inventory.Load(ctx, inventory.Options{}, src)
		if err != nil {
			b.Fatal(err)
		}
		src.look()
		return len(fleet.Hosts)
	})
}

func bare(b *testing.B, path string) (n int) {
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	r := stdcsv.NewReader(f)
	r.ReuseRecord = true
	for ; ; n++ {
		if _, err := r.Read(); err == io.EOF {
			return n - 1 // the header
		} else if err != nil {
			b.Fatal(err)
		}
	}
}
