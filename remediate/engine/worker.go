package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dbos-inc/dbos-transact-golang/dbos"

	"unbrick/remediate"
)

// A worker is one process at work on one run.
type worker struct {
	*Engine
	run   Run
	lease *lease
	dbos  dbos.Context

	// The loop's own.
	missed  map[string]time.Time // running hosts that do not run here, since when
	checked time.Time            // when that was last looked at
	trouble time.Time            // since when housekeeping fails
	began   time.Time
	watch   *watch    // nil: to be read
	gates   time.Time // when they are looked at next
	shifts  time.Time // when they are looked at next
	hands   time.Time // when hosts are sought next that people may be sent to
	learner learner

	failed chan error // why no work can be done any more

	mu       sync.Mutex
	active   map[ids]context.CancelCauseFunc // the attempts whose workflow runs here
	busy     int                             // how many of them are in a stage
	draining bool
	idle     chan struct{} // closed when draining and nothing is busy
}

func newWorker(e *Engine, r Run) *worker {
	return &worker{
		Engine: e, run: r,
		failed: make(chan error, 1),
		active: map[ids]context.CancelCauseFunc{}, missed: map[string]time.Time{}, idle: make(chan struct{}),
		began: time.Now(),
	}
}

// Names that DBOS stores. They stay the same for ever: a new build goes on with a run of an
// old one.
const (
	appName    = "unbrick"
	appVersion = "remediate-1"
	hostFlow   = "host"
)

// firstPlan is how long the first hosts wait for their order.
const firstPlan = 10 * time.Second

// unwind is how long stages get to return when they are cut off.
const unwind = 20 * time.Second

// work does the run, and returns after everything that it began has ended.
func (w *worker) work(ctx context.Context) (err error) {
	w.lease, err = w.Store.acquire(ctx, w.executor(), w.Lease)
	if err != nil {
		return err
	}
	defer w.lease.release()
	keeping, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		if err := w.lease.keep(keeping); err != nil {
			w.fail(err)
		}
	}()
	if err := w.noteCommand(ctx); err != nil {
		return w.unlessCut(ctx, err)
	}
	if err := w.relabel(ctx); err != nil {
		return w.unlessCut(ctx, err)
	}
	if err := w.closeGates(ctx); err != nil {
		return w.unlessCut(ctx, err)
	}
	if err := w.placeSites(ctx); err != nil {
		return w.unlessCut(ctx, err)
	}
	if err := w.changeShifts(ctx); err != nil {
		return w.unlessCut(ctx, err)
	}
	if err := w.launch(ctx); err != nil {
		return err
	}
	looking, stopLooking := context.WithCancel(ctx)
	var looks sync.WaitGroup
	looks.Go(func() { w.lookAfter(looking) })
	planned := make(chan struct{})
	looks.Go(func() { w.planAhead(looking, sync.OnceFunc(func() { close(planned) })) })
	select { // the first hosts are those of the plan, unless that takes long
	case <-planned:
	case <-time.After(firstPlan):
	case <-ctx.Done():
	}
	err = w.loop(ctx)
	stopLooking()
	looks.Wait()
	return errors.Join(err, w.shutdown())
}

func (w *worker) queue() string { return "hosts/" + w.executor() }

// launch starts DBOS, which takes up at once what this executor had in flight.
func (w *worker) launch(ctx context.Context) error {
	cfg := dbos.Config{
		AppName: appName, ApplicationVersion: appVersion, ExecutorID: w.executor(),
		Logger: quiet(w.Log),
	}
	if w.Store.postgres() {
		cfg.DatabaseURL = w.Store.dsn
	} else {
		cfg.SQLiteSystemDB = w.Store.db()
	}
	// Ending ctx must not reach DBOS: it would cancel every workflow for good.
	unlock, err := w.Store.lockTables(ctx)
	if err != nil {
		return fmt.Errorf("cannot prepare %s: %w", w.Store.name(), err)
	}
	d, err := dbos.NewContext(context.WithoutCancel(ctx), cfg)
	unlock()
	if err != nil {
		return fmt.Errorf("cannot prepare %s: %w", w.Store.name(), err)
	}
	w.dbos = d
	if dbos.GetExecutorID(d) != w.executor() || dbos.GetApplicationVersion(d) != appVersion {
		return errors.Join(errors.New("cannot start: unset DBOS__VMID and DBOS__APPVERSION"), w.shutdown())
	}
	dbos.RegisterWorkflow(d, w.host, dbos.WithWorkflowName(hostFlow))
	if !w.Store.postgres() {
		// SQLite does not use DBOS's own partial index for the query that takes work.
		_, err = w.Store.db().ExecContext(ctx, `CREATE INDEX IF NOT EXISTS unbrick_dequeue
			ON workflow_status (queue_name, status, priority, created_at)`)
	}
	if err == nil {
		_, err = dbos.RegisterQueue(d, w.queue(), dbos.WithWorkerConcurrency(w.Limits.Hosts),
			dbos.WithQueueBasePollingInterval(w.Poll), dbos.WithQueueOnConflict(dbos.QueueConflictAlwaysUpdate))
	}
	if err == nil {
		dbos.ListenQueues(d, w.queue())
		err = dbos.Launch(d)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("cannot start on %s: %w", w.Store.name(), err), w.shutdown())
	}
	return nil
}

// shutdown ends DBOS: what still runs is cut off, and goes on when the run does. DBOS closes
// the handle that it was given, so the store gets a new one first.
func (w *worker) shutdown() error {
	if !w.Store.postgres() {
		db, err := w.Store.connect()
		if err != nil {
			return err
		}
		w.Store.handle.Store(db)
	}
	if err := dbos.Shutdown(w.dbos, unwind); err != nil {
		return fmt.Errorf("cannot end cleanly: %w", err)
	}
	return nil
}

// loop takes hosts until there are none, or something ends it.
func (w *worker) loop(ctx context.Context) error {
	tick := time.NewTicker(w.Poll)
	defer tick.Stop()
	house := time.NewTicker(time.Second)
	defer house.Stop()
	for {
		over, err := w.dispatch(ctx)
		if over || err != nil {
			return w.unlessCut(ctx, err)
		}
		select {
		case <-tick.C:
		case <-house.C:
			if err := w.housekeep(ctx); err != nil {
				return w.unlessCut(ctx, err)
			}
		case err := <-w.failed:
			return err
		case <-w.stop:
			return w.drain(ctx)
		case <-ctx.Done():
			return ErrInterrupted
		}
	}
}

func (w *worker) unlessCut(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return ErrInterrupted
	}
	return err
}

// drain waits until no stage runs.
func (w *worker) drain(ctx context.Context) error {
	w.mu.Lock()
	w.draining = true
	if w.busy == 0 {
		close(w.idle)
	}
	w.mu.Unlock()
	house := time.NewTicker(time.Second)
	defer house.Stop()
	for {
		select {
		case <-w.idle:
			return ErrInterrupted
		case <-ctx.Done():
			return ErrInterrupted
		case err := <-w.failed:
			return err
		case <-house.C:
			if err := w.housekeep(ctx); err != nil {
				return w.unlessCut(ctx, err)
			}
		}
	}
}

// enterStage says whether a stage may begin now. If so, leaveStage must follow.
func (w *worker) enterStage() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.draining {
		return false
	}
	w.busy++
	return true
}

func (w *worker) leaveStage() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.busy--; w.busy == 0 && w.draining {
		close(w.idle)
	}
}

// fail ends the run for want of a working state: nothing is begun that cannot be recorded.
func (w *worker) fail(err error) {
	select {
	case w.failed <- err:
	default:
	}
}

// housekeep does what is due every second: take over from the dead, pass on who was
// cancelled, label those to be treated again, begin and end shifts, count treatments that do not end, find what DBOS lost, and prune.
func (w *worker) housekeep(ctx context.Context) error {
	for _, do := range []func(context.Context) error{w.takeOver, w.passCancels, w.labelNew, w.closeGates, w.changeShifts, w.overdue, w.reconcile, w.prune} {
		err := do(ctx)
		switch {
		case err == nil:
			continue
		case w.trouble.IsZero():
			w.trouble = time.Now()
		case time.Since(w.trouble) > patience:
			return err
		}
		w.Log.Warn("state does not answer", "run", w.run.ID, "error", err)
		return nil // the next time
	}
	w.trouble = time.Time{}
	return nil
}

func (w *worker) tell(e Event) {
	if w.Events != nil {
		e.Run = w.run.ID
		w.Events(e)
	}
}

func (w *worker) event(t *treatment, stage remediate.Stage, route string) Event {
	return Event{Host: t.Host, Site: t.row.host.Site, Attempt: t.Attempt, Route: route, Stage: stage}
}
