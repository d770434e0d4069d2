package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"unbrick/inventory"
	"unbrick/remediate"
	"unbrick/remediate/engine"
	"unbrick/remediate/schedule"
)

func runCommand() *cli.Command {
	return &cli.Command{
		Name: "run", Usage: "repair the fleet; the same command resumes", Action: run,
		Flags: append(append(fleetFlags(), listenFlags()...), stateFlag(), playbookFlag(), keysFlag(), imageFlag(), dryRunFlag(), askFlag(), jsonFlag(), logFlag(), noWaitFlag(), refreshEveryFlag(),
			&cli.StringFlag{Name: "as", Usage: "`NAME` of this process among those that share a state in PostgreSQL (default: the machine's)"},
			&cli.StringFlag{Name: "sites", Usage: "with a shared state: take hosts of these `SITES` alone, as SYD,AKL: those that this machine reaches"}),
		Description: `Takes the hosts in the order of the plan, a window at a time, and ends when each has a verdict.
Interrupted once (Ctrl-C), it begins no further host and lets the stages under way end; twice,
it stops now. Either way the same command goes on where it was. Hosts that wait for a person
take no place: tell the run what came of it with unbrick done, from any terminal.

   unbrick run -i fleet.csv -c unbrick.yaml
   unbrick run -i fleet.csv -c unbrick.yaml --only 'site=SYD' --dry-run --ask
   unbrick run -c unbrick.yaml --refresh-every 15m     the hosts are those of its sources

Several jump boxes share a run whose state is in PostgreSQL, each with the same command:

   unbrick run -c unbrick.yaml --state postgres://unbrick@db/unbrick --sites SYD,AKL

Its password is best in PGPASSFILE, not in the address.`,
	}
}

func dryRunFlag() cli.Flag {
	return &cli.BoolFlag{Name: "dry-run", Usage: "say what would be done, and touch nothing"}
}

func noWaitFlag() cli.Flag {
	return &cli.BoolFlag{Name: "no-wait", Usage: "end when only hosts are left that wait for a person; the same command goes on with them"}
}

func logFlag() cli.Flag {
	return &cli.StringFlag{Name: "log", Usage: "append what the developer wants to know to `FILE`, as JSON"}
}

func run(c *cli.Context) error {
	if _, err := arguments(c, 0, 0); err != nil {
		return err
	}
	cfg, err := settings(c)
	if err != nil {
		return err
	}
	if c.Bool("dry-run") {
		fleet, err := loadFleet(c, cfg)
		if err != nil {
			return err
		}
		return dryRun(c, cfg, fleet)
	}
	fleet, err := loadFleetToRun(c, cfg)
	if err != nil {
		return err
	}
	return carryOut(c, cfg, fleet, "")
}

// dryRun says what a run would do, from what is known without asking any host, unless that is
// asked for.
func dryRun(c *cli.Context, cfg *config, fleet *inventory.Fleet) error {
	pb, err := openPlaybook(cfg.Playbook)
	if err != nil {
		return err
	}
	p := makePlan(cfg, fleet, time.Now(), pb.Name)
	var answers []asked
	if c.Bool("ask") {
		if answers, err = askAll(c, cfg, fleet.Hosts); err != nil {
			return err
		}
	}
	if c.Bool("json") && c.Bool("ask") {
		return printJSON(c, map[string]any{"plan": p, "asked": answers})
	}
	if c.Bool("json") {
		return printJSON(c, p)
	}
	printPlan(c.App.Writer, p, false)
	fmt.Fprintln(c.App.Writer, "\non each volume with Windows:")
	for _, s := range pb.Steps {
		fmt.Fprintf(c.App.Writer, "  %s\n", s)
	}
	if !c.Bool("ask") {
		say(c, "dry run: no host was asked anything, and nothing was touched")
		return nil
	}
	fmt.Fprintln(c.App.Writer, "\nasked by the first way in:")
	for _, a := range answers {
		fmt.Fprintf(c.App.Writer, "  %s\n", a)
	}
	say(c, "dry run: nothing was touched")
	return nil
}

// carryOut does a run from a fleet to its end and prints how it ended. An id that is not
// empty begins a new run where the last one has ended.
func carryOut(c *cli.Context, cfg *config, fleet *inventory.Fleet, id string) (err error) {
	log, logFile, err := openLog(c)
	if err != nil {
		return err
	}
	defer logFile.Close()
	ctx, first, cancel := interruptible(c.Context, c.App.ErrWriter)
	defer cancel()
	k, err := assemble(c, cfg, log)
	if err != nil {
		return err
	}
	defer func() {
		if e := k.Close(); e != nil { // the hosts are as they are: the exit code speaks of them
			say(c, "warning: %v", e)
		}
	}()
	sum, err := k.treat(ctx, c, fleet, id, first)
	if err != nil && !errors.Is(err, engine.ErrInterrupted) {
		return err
	}
	if e := printSummary(c, cfg, sum); e != nil {
		return e
	}
	return verdictOf(sum, err)
}

// treat begins the run, or goes on with it, until it ends or first is closed.
func (k *kit) treat(ctx context.Context, c *cli.Context, fleet *inventory.Fleet, id string, first <-chan struct{}) (engine.Summary, error) {
	if err := k.cfg.readPlaces(time.Now()); err != nil {
		return engine.Summary{}, err
	}
	r, err := k.begin(ctx, c, fleet, id)
	if err != nil {
		return engine.Summary{}, err
	}
	st, err := k.store.Status(ctx, r.ID)
	if err != nil {
		return engine.Summary{}, err
	}
	if st.Run.Halted != "" {
		return engine.Summary{}, halted("run %s is halted: %s", r.ID, st.Run.Halted)
	}
	switch {
	case r.State == "ended":
		say(c, "run %s of these hosts has ended; unbrick retry takes up those that did not end well, --state begins another", r.ID)
	case st.Todo < st.Hosts:
		say(c, "going on with run %s: %s", r.ID, summary(st.Count))
	default:
		say(c, "run %s: %d hosts, playbook %s", r.ID, st.Hosts, r.Playbook)
	}
	k.sayUnused(c, fleet)
	for _, h := range st.Halts {
		say(c, "%s", haltLine(h.Halt))
	}
	p := newProgress(c.App.ErrWriter, st, time.Now)
	defer p.close()
	e := k.engine(c, r.ID, func(ev engine.Event) {
		if ev.Halt != nil {
			p.line(haltLine(ev.Halt))
			return
		}
		p.event(ev)
	})
	done := make(chan struct{})
	defer close(done)
	reading, stop := context.WithCancel(ctx)
	var refreshes sync.WaitGroup
	refreshes.Go(func() { k.refreshEvery(reading, c, r.ID, p.line) })
	defer func() { stop(); refreshes.Wait() }()
	if shared(k.cfg.State) || p.bar != nil {
		go p.follow(func() (engine.Status, error) { return k.store.Status(ctx, r.ID) }, done)
	}
	go func() {
		select {
		case <-first:
			e.Stop()
		case <-done:
		}
	}()
	return e.Run(ctx)
}

func (k *kit) engine(c *cli.Context, run string, events func(engine.Event)) *engine.Engine {
	var keep func(remediate.Target, []byte) (string, error)
	if k.cfg.Screens != "" {
		keep = keepScreen(k.cfg.Screens)
	}
	stop := schedule.HaltOptions{Canary: k.cfg.Stop.Canary, MaxStranded: k.cfg.Stop.Stranded, MaxFailed: k.cfg.Stop.Failed}
	return engine.New(engine.Engine{
		Store: k.store, RunID: run, Playbook: k.playbook,
		Drivers: k.drivers, Medic: k.server, Prober: k.prober, Gates: k.gates(),
		Voucher: k.voucher, Witness: k.witness, Keep: keep,
		Ladder: k.ladder(), Limits: engine.Limits(k.cfg.Limits), PerHour: k.cfg.Schedule.PerHour,
		Timeouts:  k.cfg.stageTimes(),
		Attempts:  k.cfg.Attempts,
		Wait:      k.patience(c),
		Watch:     time.Duration(k.cfg.Watch),
		Soak:      time.Duration(k.cfg.Soak),
		Every:     every(time.Duration(k.cfg.Soak)),
		Halt:      stopRules(stop),
		Baselines: schedule.NewRates().Baselines(),
		Plan:      k.plan(),
		Events:    events, Log: k.log,
		Command:  commandLine(),
		Executor: c.String("as"), Sites: strings.FieldsFunc(c.String("sites"), func(r rune) bool { return r == ',' || r == ' ' }),
	})
}

// plan is what the order of hosts is made anew from while the run goes on.
func (k *kit) plan() *schedule.Options {
	o := k.cfg.planOptions(time.Time{}) // the engine knows when the run began
	o.Ladder = k.ladder()
	o.Limits.PerHour = nil // the engine keeps it: an order is wanted of those too that have to wait for it
	return &o
}

// sayUnused names the ways in that the inventory has and the run does not use.
func (k *kit) sayUnused(c *cli.Context, fleet *inventory.Fleet) {
	hosts := map[string]int{}
	ladder := k.ladder()
	for _, h := range fleet.Hosts {
		for _, r := range h.Routes {
			if !slices.ContainsFunc(ladder, func(g remediate.Rung) bool { return g.Way == r.Driver }) && r.Driver != "ipmi" {
				hosts[r.Driver]++
			}
		}
	}
	for _, way := range slices.Sorted(maps.Keys(hosts)) {
		hint := ""
		if way == "netboot" && k.boot == nil {
			hint = ": " + cmp.Or(k.noBoot, "netboot: {enabled: true} in unbrick.yaml turns it on")
		}
		if err := remediate.Supports(k.drivers[way], k.playbook); err != nil {
			hint = ": " + err.Error()
		}
		say(c, "the way in %s of %d hosts is not used%s", way, hosts[way], hint)
	}
}

// ladder returns the ways in whose drivers are here and can carry out the playbook.
func (k *kit) ladder() remediate.Ladder {
	return k.cfg.ladder().Only(func(way string) bool {
		return k.drivers[way] != nil && remediate.Supports(k.drivers[way], k.playbook) == nil
	})
}

// patience is how long the run goes on for hosts that wait for a person.
func (k *kit) patience(c *cli.Context) time.Duration {
	if c.Bool("no-wait") {
		return 0
	}
	return time.Duration(k.cfg.Wait)
}

// every is how often signs of life are looked for: several times in a soak, and not more
// often than five times a second.
func every(soak time.Duration) time.Duration {
	return min(max(soak/4, 200*time.Millisecond), 5*time.Second)
}

// stopRules gives the stop rule the outcomes in the order in which they were reached.
func stopRules(o schedule.HaltOptions) func(engine.Outcomes) (string, bool) {
	return func(out engine.Outcomes) (string, bool) {
		verdicts := make([]remediate.Verdict, len(out.Recent))
		for i, v := range out.Recent {
			verdicts[len(verdicts)-1-i] = v
		}
		return schedule.Halt(verdicts, o)
	}
}

// gates are what may forbid to touch a host.
func (k *kit) gates() []remediate.Gate {
	if k.broker == nil {
		return nil
	}
	return []remediate.Gate{func(ctx context.Context, t remediate.Target) error {
		if !saysEncrypted(&t.Host) {
			return nil // not known: a disk that is not encrypted needs no key
		}
		has, err := k.broker.Has(ctx, t.Host.Name)
		if err == nil && !has {
			return &remediate.SkipError{Why: "the inventory says that its disk is encrypted, and no escrow has a key of it"}
		}
		return err
	}}
}

// saysEncrypted is asked of millions of hosts.
func saysEncrypted(h *inventory.Host) bool {
	for name, v := range h.Labels {
		if strings.EqualFold(name, "bitlocker") || strings.EqualFold(name, "encrypted") {
			switch strings.ToLower(v) {
			case "yes", "true", "on", "1":
				return true
			}
		}
	}
	return false
}

// digest names the hosts of a run: the fleet's own digest, and what was picked of it.
func digest(fleet *inventory.Fleet, only string) string {
	sum := sha256.Sum256([]byte(fleet.Digest + "\n" + only))
	return hex.EncodeToString(sum[:])
}

// order yields the hosts as they are to be treated.
func order(fleet *inventory.Fleet, now time.Time) iter.Seq[engine.Planned] {
	return func(yield func(engine.Planned) bool) {
		for i, it := range schedule.Order(fleet.Hosts, now) {
			if !yield(engine.Planned{Host: fleet.Hosts[it.Index], Due: it.Due, Order: i, Model: fleet.Hosts[it.Index].Labels["model"]}) {
				return
			}
		}
	}
}

// A runResult is what unbrick run --json prints. Scripts rely on its names.
type runResult struct {
	engine.Summary
	Report string `json:"report"` // where the rest is
}

func printSummary(c *cli.Context, cfg *config, sum engine.Summary) error {
	where := fmt.Sprintf("unbrick report --state %s --run %s", redactedState(cfg.State), sum.Run)
	if c.Bool("json") {
		return printJSON(c, runResult{sum, where})
	}
	count := engine.Count{Hosts: sum.Hosts, Todo: sum.Hosts - sum.Running, Running: sum.Running, Verdicts: sum.Verdicts}
	for _, n := range sum.Verdicts {
		count.Todo -= n
	}
	fmt.Fprintf(c.App.Writer, "run %s: %s; %d on time, %d late\n", sum.Run, summary(count), sum.OnTime, sum.Late)
	printHalts(c.App.Writer, sum.Halts)
	if sum.Left != nil {
		say(c, "%s", leftLine(engine.Status{Run: engine.Run{Halted: sum.Halted}, Left: sum.Left}))
	}
	if !sum.Done() {
		say(c, "see %s", where)
	}
	return nil
}

// verdictOf turns the end of a run into the exit code.
func verdictOf(sum engine.Summary, err error) error {
	switch {
	case sum.Halted != "":
		return halted("halted: %s", sum.Halted)
	case errors.Is(err, engine.ErrInterrupted):
		return &failure{exitInterrupted, errors.New("interrupted before every host had a verdict"), "the same command goes on"}
	case !sum.Done():
		return exitWith(exitNotAll)
	}
	return nil
}
