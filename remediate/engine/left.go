package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Command is how a process that works on a run was begun.
type Command struct {
	Line    string `json:"command"` // without a password
	Dir     string `json:"dir"`
	Machine string `json:"machine"`
}

// Left is what processes left in the middle that have ended: it goes on when their commands are
// given again.
type Left struct {
	Hosts      int       `json:"hosts"`        // in treatment or to be gone on with, and nobody is at work on them
	NotPutBack int       `json:"not_put_back"` // of those, something was done to them that is still there
	Commands   []Command `json:"commands"`
}

// commandKey is the key of a record. Without an executor it is what all of a run begin with.
func commandKey(run, executor string) string { return "command " + run + "/" + executor }

// noteCommand writes down how this process was begun.
func (w *worker) noteCommand(ctx context.Context) error {
	if w.Command.Line == "" {
		return nil
	}
	w.Command.Machine = hostname()
	b, err := json.Marshal(w.Command)
	if err == nil {
		_, err = w.Store.db().ExecContext(ctx, `INSERT INTO records (key, value) VALUES ($1, $2)
			ON CONFLICT (key) DO UPDATE SET value = excluded.value`, commandKey(w.run.ID, w.executor()), b)
	}
	if err != nil {
		return fmt.Errorf("cannot note the command of run %s: %w", w.run.ID, err)
	}
	return nil
}

// workers returns the executors that are at work on the state.
func (s *Store) workers(ctx context.Context, now int64) (map[string]bool, error) {
	rows, err := s.db().QueryContext(ctx, `SELECT executor, pid, machine FROM workers WHERE lease > $1`, now)
	if err != nil {
		return nil, fmt.Errorf("cannot look who is at work: %w", err)
	}
	defer rows.Close()
	at := map[string]bool{}
	for rows.Next() {
		var b BusyError
		if err := rows.Scan(&b.Executor, &b.PID, &b.Machine); err != nil {
			return nil, err
		}
		if !gone(&b) {
			at[b.Executor] = true
		}
	}
	return at, rows.Err()
}

// addWork says who is at work on the run, what nobody is at work on, and who has hosts beside it.
func (s *Store) addWork(ctx context.Context, st *Status) error {
	now, err := s.now(ctx, s.db())
	if err != nil {
		return err
	}
	if st.Fixes, err = s.fixes(ctx, s.db(), now); err != nil || st.Run.State != "running" {
		return err
	}
	at, err := s.workers(ctx, now)
	if err != nil {
		return err
	}
	st.Workers = len(at)
	dead, left, err := s.leftBy(ctx, st.Run.ID, at)
	if err != nil || left.Hosts == 0 {
		return err
	}
	st.Left = &left
	all, err := s.commands(ctx, st.Run.ID)
	for executor := range all { // where nobody is at work, those of all: it may have been given to any
		if len(at) > 0 && !dead[executor] {
			delete(all, executor)
		}
	}
	left.Commands = sorted(all)
	return err
}

// leftBy counts what the executors that are not at work left, and names them.
func (s *Store) leftBy(ctx context.Context, run string, at map[string]bool) (dead map[string]bool, left Left, err error) {
	const count = `COUNT(*), COALESCE(SUM(CASE WHEN entered <> '' AND route <> 'manual' THEN 1 ELSE 0 END), 0) FROM hosts WHERE run = $1`
	rows, err := s.db().QueryContext(ctx, `SELECT executor, `+count+` AND state = 'running' GROUP BY executor`, run)
	if err != nil {
		return nil, left, fmt.Errorf("cannot look what is not put back: %w", err)
	}
	defer rows.Close()
	dead = map[string]bool{}
	for rows.Next() {
		var executor string
		var hosts, entered int
		if err := rows.Scan(&executor, &hosts, &entered); err != nil {
			return nil, left, err
		}
		if !at[executor] {
			dead[executor] = true
			left.Hosts, left.NotPutBack = left.Hosts+hosts, left.NotPutBack+entered
		}
	}
	if err := rows.Close(); err != nil || len(at) > 0 {
		return dead, left, err
	}
	var hosts, entered int // that nobody takes
	err = s.db().QueryRowContext(ctx, `SELECT `+count+` AND state = 'todo' AND held = 0 AND way = '' AND entered <> ''`, run).Scan(&hosts, &entered)
	left.Hosts, left.NotPutBack = left.Hosts+hosts, left.NotPutBack+entered
	return dead, left, err
}

// Commands returns how the processes were begun that worked on a run.
func (s *Store) Commands(ctx context.Context, run string) ([]Command, error) {
	all, err := s.commands(ctx, run)
	return sorted(all), err
}

func sorted(all map[string]Command) []Command {
	list := []Command{}
	for _, executor := range slices.Sorted(maps.Keys(all)) {
		list = append(list, all[executor])
	}
	return list
}

func (s *Store) commands(ctx context.Context, run string) (all map[string]Command, err error) {
	prefix := commandKey(run, "")
	rows, err := s.db().QueryContext(ctx, `SELECT key, value FROM records WHERE key LIKE $1`, prefix+"%")
	if err != nil {
		return nil, fmt.Errorf("cannot read the commands of run %s: %w", run, err)
	}
	defer rows.Close()
	all = map[string]Command{}
	for rows.Next() {
		var key string
		var value []byte
		var c Command
		if err := rows.Scan(&key, &value); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(value, &c); err != nil {
			return nil, fmt.Errorf("cannot read the commands of run %s: %w", run, err)
		}
		all[strings.TrimPrefix(key, prefix)] = c
	}
	return all, rows.Err()
}
