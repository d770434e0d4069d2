package main

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// planBenchHosts names how many hosts BenchmarkPlan has, if not a million.
const planBenchHosts = "UNBRICK_BENCH_PLAN_HOSTS"

// BenchmarkPlan measures unbrick plan in a process of its own, from the CSV file to the table:
// loading, duplicates, forecast. 8.5 million hosts, as the incident of 2024 had:
//
//	UNBRICK_BENCH_PLAN_HOSTS=8500000 go test ./cmd/unbrick -run - -bench Plan -benchtime 1x
func BenchmarkPlan(b *testing.B) {
	n := 1_000_000
	if v := os.Getenv(planBenchHosts); v != "" {
		var err error
		if n, err = strconv.Atoi(v); err != nil {
			b.Fatal(err)
		}
	}
	dir := b.TempDir()
	fleet, config := filepath.Join(dir, "fleet.csv"), filepath.Join(dir, "unbrick.yaml")
	writeFleet(b, fleet, n)
	text := "inventory: fleet.csv\nlimits: {hosts: " + strconv.Itoa(max(1, n/800)) + "}\nschedule: {technicians: 2}\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	var took, used time.Duration
	var most int64
	for b.Loop() {
		s := unbrick(b, "plan", "-c", config, "--at", "2024-07-19T04:09:00Z")
		start := time.Now()
		if code := s.run(b); code != exitDone {
			b.Fatalf("exit code %d: %s", code, s.stderr.String())
		}
		took += time.Since(start)
		used += s.ProcessState.UserTime() + s.ProcessState.SystemTime()
		most = max(most, s.ProcessState.SysUsage().(*syscall.Rusage).Maxrss)
	}
	b.ReportMetric(float64(n), "hosts")
	b.ReportMetric(took.Seconds()/float64(b.N), "s")
	b.ReportMetric(used.Seconds()/float64(b.N), "cpu-s")
	b.ReportMetric(float64(most)/1024, "MiB-rss")
	b.ReportMetric(0, "ns/op")
}
