package main

import (
	"context"
	"errors"
	"hash/maphash"
	"iter"
	"os"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/urfave/cli/v2"

	"unbrick/inventory"
	"unbrick/remediate/schedule"
)

const (
	// largeFile is from where on the hosts of a file are counted as they are read. Up to it, half
	// a million hosts, the fleet is read as a run reads it.
	largeFile = 64 << 20
	// mostHeld is how many hosts that --only leaves of a large file are held.
	mostHeld = 300_000
	batch    = 1024
	// readingGC lets the heap grow to three times what is alive, which is little: a row is
	// garbage as soon as it is counted.
	readingGC = 200
)

// takeCensus reads the fleet: a large one host by host, since a plan needs their counts alone.
func takeCensus(c *cli.Context, cfg *config, options ...schedule.Options) (*census, error) {
	if info, err := os.Stat(cfg.Inventory); err == nil && info.Size() > largeFile && len(cfg.Sources) == 0 {
		return streamed(c, cfg, options...)
	}
	fleet, err := loadFleet(c, cfg)
	if err != nil {
		return nil, err
	}
	return held(fleet.Hosts, options...), nil
}

// streamed counts the hosts of a large file. Each row is checked by itself, as ever; that two
// rows claim the same is counted and said, but not which rows these are.
func streamed(c *cli.Context, cfg *config, options ...schedule.Options) (*census, error) {
	src, err := csvSource(cfg, cfg.Inventory)
	if err != nil {
		return nil, err
	}
	sel, err := parseOnly(c.String("only"))
	if err != nil {
		return nil, err
	}
	s := &stream{sel: sel, sites: cfg.complete, twice: newTwice(), most: mostHeld, options: options}
	if err := s.read(c.Context, src); err != nil {
		return nil, hinted(err, "unbrick inventory check FILE says more")
	}
	for _, line := range s.bad.Lines() {
		say(c, "left out: %s", line)
	}
	for _, line := range s.warned.Lines() {
		say(c, "warning: %s", line)
	}
	sayOut(c, s.out)
	switch n := s.twice.count(); {
	case s.bad.Total > 0 && !cfg.SkipBad:
		return nil, usage("correct the rows, or leave them out with --skip-bad", "%d values of %s cannot be used", s.bad.Total, cfg.Inventory)
	case s.hosts == 0:
		return nil, usage("see the names and sites with unbrick plan", "no host of %s fits --only %q", cfg.Inventory, c.String("only"))
	case n > 0:
		say(c, "warning: %d values (name, serial, UUID or way in) stand in two rows: such hosts count twice here, and a run refuses them; unbrick inventory check names the rows", n)
	}
	return s.census(), nil
}

// A stream is a large file while it is read.
type stream struct {
	sel     *inventory.Selector
	sites   func(*inventory.Host)
	twice   *twice
	most    int // hosts that are held
	options []schedule.Options

	hosts       int
	held        []inventory.Host
	counted     *counter // once there are too many to hold
	bad, warned inventory.Problems
	out         map[inventory.State]int // hosts that are not in use
}

// read takes every row in. One goroutine reads while another counts.
func (s *stream) read(ctx context.Context, src inventory.Source) error {
	defer debug.SetGCPercent(debug.SetGCPercent(readingGC))
	full := make(chan []inventory.Host, 4)
	var failed error
	go func() {
		defer close(full)
		failed = s.rows(ctx, src.Hosts(ctx), full)
	}()
	for hosts := range full {
		for i := range hosts {
			s.host(&hosts[i])
		}
	}
	return failed
}

// rows passes on the good rows in batches.
func (s *stream) rows(ctx context.Context, rows iter.Seq2[inventory.Host, error], full chan<- []inventory.Host) error {
	hosts := make([]inventory.Host, 0, batch)
	for h, err := range rows {
		if err != nil {
			if err = s.problem(err); err != nil {
				return err
			}
			continue
		}
		if hosts = append(hosts, h); len(hosts) == batch {
			full <- hosts
			hosts = make([]inventory.Host, 0, batch)
		}
	}
	full <- hosts
	return ctx.Err()
}

// problem notes what is wrong with a row, and returns what is wrong with the file.
func (s *stream) problem(err error) error {
	var row *inventory.RowError
	switch {
	case !errors.As(err, &row):
		return err
	case row.Warning:
		keepFirst(&s.warned, row)
	default:
		keepFirst(&s.bad, row)
	}
	return nil
}

func keepFirst(p *inventory.Problems, e *inventory.RowError) {
	if p.Total++; len(p.First) < shownProblems {
		p.First = append(p.First, e)
	}
}

func (s *stream) host(h *inventory.Host) {
	s.twice.see(h)
	s.sites(h)
	if h.State != "" {
		if s.out == nil {
			s.out = map[inventory.State]int{}
		}
		s.out[h.State]++
		return
	}
	if s.sel != nil && !s.sel.Match(*h) {
		return
	}
	s.hosts++
	if s.counted == nil && len(s.held) < s.most {
		s.held = append(s.held, *h)
		return
	}
	if s.counted == nil {
		s.counted = newCounter(false, s.options...)
		for i := range s.held {
			s.counted.add(&s.held[i], i)
		}
		s.held = nil
	}
	s.counted.add(h, s.hosts)
}

// census ends the counting.
func (s *stream) census() *census {
	if s.counted == nil {
		return held(s.held, s.options...)
	}
	return s.counted.done()
}

// twice finds out how many values stand in two rows, by their hashes: eight bytes each.
type twice struct {
	seed   maphash.Seed
	hashes [256][]uint64
	text   []byte
}

func newTwice() *twice { return &twice{seed: maphash.MakeSeed()} }

func (t *twice) see(h *inventory.Host) {
	t.add("name", h.Name)
	t.add("serial", h.Serial)
	t.add("uuid", h.UUID)
	for _, r := range h.Routes {
		if r.Driver != "manual" { // one technician stands for many hosts
			t.add(r.Driver, r.Address)
		}
	}
}

func (t *twice) add(kind, value string) {
	if value == "" {
		return
	}
	t.text = append(append(append(t.text[:0], kind...), 0), value...)
	for i, c := range t.text { // Windows compares names so; of other letters, two writings are not found
		if 'A' <= c && c <= 'Z' {
			t.text[i] = c + 'a' - 'A'
		}
	}
	sum := maphash.Bytes(t.seed, t.text)
	t.hashes[sum>>56] = append(t.hashes[sum>>56], sum)
}

// count returns how many values were seen before. Nothing can be seen after.
func (t *twice) count() int {
	var wg sync.WaitGroup
	var counts [256]int
	parts := make(chan int, len(t.hashes))
	for i := range t.hashes {
		parts <- i
	}
	close(parts)
	for range 2 {
		wg.Go(func() {
			for i := range parts {
				slices.Sort(t.hashes[i])
				n := len(t.hashes[i])
				counts[i] = n - len(slices.Compact(t.hashes[i]))
				t.hashes[i] = nil
			}
		})
	}
	wg.Wait()
	sum := 0
	for _, n := range counts {
		sum += n
	}
	return sum
}
