package agent

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"unbrick/playbooks"
	"unbrick/remediate/rescue/wire"
)

// maxLog is the number of lines in a report's log.
const maxLog = 200

// Run does the whole job on m: hello, then for each volume unlock, inspect, repair and
// verify, then report. It tries every message until it is answered or time is up, so the
// server may be restarted meanwhile.
//
// The report is returned as it was sent, and is sent also where the job failed or the agent
// itself did. Nothing is sent after ctx ends: that is a host that was switched off. An error
// means that the server does not have the report, and why.
func Run(ctx context.Context, m Machine, cfg wire.Config, o Options) (wire.Report, error) {
	o = o.complete()
	c, err := newClient(cfg, o)
	if err != nil {
		return wire.Report{}, err
	}
	defer c.http.CloseIdleConnections()
	a := &agent{m: m, c: c, o: o, stick: cfg.Stick, start: time.Now()}
	a.report.Agent = o.Version
	a.report.Volumes = []playbooks.VolumeResult{}
	if err := a.hello(ctx); err != nil {
		return a.report, err
	}
	a.report.Error = a.guard("the job", func() error { return a.work(ctx) })
	if ctx.Err() != nil {
		return a.report, fmt.Errorf("stopped before the report: %w", context.Cause(ctx))
	}
	return a.report, a.send(ctx)
}

// An agent is one Run.
type agent struct {
	m      Machine
	c      *client
	o      Options
	start  time.Time
	end    time.Time // by the local clock, which runs on where the host's time was wrong
	job    wire.Job
	report wire.Report

	stick  *wire.Stick // nil: the image is of this host
	person *typist     // who types keys, and where the rest goes, if there is no server
	place  Place
}

// note adds a line to the report's log and to the console.
func (a *agent) note(phase, format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	a.o.Log.Info(line, "phase", phase)
	if len(a.report.Log) < maxLog {
		a.report.Log = append(a.report.Log, fmt.Sprintf("%.1fs %s: %s", time.Since(a.start).Seconds(), phase, line))
	}
}

// guard returns the error of f, or what is left of a panic in it, as text. What a panic says
// may quote what the program held, so only the runtime's own words and the place are kept.
func (a *agent) guard(what string, f func() error) (text string) {
	defer func() {
		if p := recover(); p != nil {
			said := fmt.Sprintf("%T", p)
			if e, is := p.(runtime.Error); is {
				said = e.Error()
			}
			text = fmt.Sprintf("the agent broke down: %s at %s", said, panicPlace())
		}
		if text != "" {
			a.note("failed", "%s: %s", what, text)
		}
	}()
	if err := f(); err != nil {
		return err.Error()
	}
	return ""
}

// panicPlace is the function that panicked, and its line.
func panicPlace() string {
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	past := false
	for {
		f, more := frames.Next()
		if past && !strings.HasPrefix(f.Function, "runtime.") {
			return fmt.Sprintf("%s:%d", f.Function, f.Line)
		}
		past = past || f.Function == "runtime.gopanic"
		if !more {
			return "an unknown place"
		}
	}
}

func (a *agent) hello(ctx context.Context) error {
	id, err := a.m.Identity()
	if err != nil {
		a.note("hello", "cannot read all of the host's identity: %v", err)
	}
	ctx, cancel := context.WithTimeout(ctx, a.o.Patience)
	defer cancel()
	err = a.greet(ctx, wire.Hello{
		Version:   wire.Version,
		Agent:     a.o.Version,
		Identity:  id,
		PublicKey: a.c.key.PublicKey().Bytes(),
	})
	if err != nil {
		return fmt.Errorf("cannot get a job from the rescue server: %w", err)
	}
	a.end = time.Now().Add(a.job.Budget)
	a.report.DryRun = a.job.DryRun
	a.note("hello", "this is %s; %s left", a.job.Host, a.job.Budget.Round(time.Second))
	return nil
}

// work fills the report. It stops early enough for the report to be sent.
func (a *agent) work(ctx context.Context) error {
	ctx, cancel := context.WithDeadline(ctx, a.end.Add(-min(30*time.Second, a.job.Budget/5)))
	defer cancel()
	pb, err := playbooks.Parse("the playbook from the server", a.job.Playbook)
	if err != nil {
		return fmt.Errorf("cannot read the playbook: agent and server have to be of one release: %w", err)
	}
	a.report.Playbook = pb.Name
	volumes, err := a.m.Volumes(ctx)
	if err != nil {
		return fmt.Errorf("cannot list the volumes: %w", err)
	}
	a.note("volumes", "%d found", len(volumes))
	restored := a.restore(ctx)
	for _, v := range volumes {
		if boots(v) && !pb.NeedsBoot() {
			continue
		}
		t := &treatment{agent: a, v: v, pb: pb, result: playbooks.VolumeResult{Volume: v.Name(), Verdict: playbooks.Unreadable}}
		if broken := a.guard(v.Name(), func() error { t.run(ctx); return nil }); broken != "" {
			t.result.Error = broken
		}
		if boots(v) && len(t.result.Findings) == 0 && t.result.Error == "" {
			continue // a stick, or the partition of another system
		}
		a.report.Volumes = append(a.report.Volumes, t.result)
	}
	return restored
}

func boots(v Volume) bool {
	b, ok := v.(Booter)
	return ok && b.Boots()
}

// send reports until the server has it.
func (a *agent) send(ctx context.Context) error {
	a.note("report", "%s", summary(a.report))
	a.report.Elapsed = time.Since(a.start)
	ctx, cancel := context.WithTimeout(ctx, max(time.Until(a.end), time.Minute))
	defer cancel()
	if err := a.c.post(ctx, "/v1/report", a.report, nil); err != nil {
		return fmt.Errorf("cannot report to the rescue server: %w", err)
	}
	return nil
}

func summary(r wire.Report) string {
	var said []string
	for _, v := range r.Volumes {
		said = append(said, fmt.Sprintf("%s %s", v.Volume, v.Verdict))
	}
	if r.Error != "" {
		said = append(said, r.Error)
	}
	return fmt.Sprintf("%d files removed, %d values changed (%s)", len(r.Removed()), len(r.Changed()), strings.Join(said, ", "))
}

// errTime ends what there is no time left for.
var errTime = errors.New("no time left before the deadline: nothing more is begun")
