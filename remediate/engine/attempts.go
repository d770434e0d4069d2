package engine

import (
	"context"

	"unbrick/remediate"
)

// addAttempts gives a page of results, which are in the order of their hosts, what the audit
// has on them: the steps of each way of each attempt, summed up.
func (s *Store) addAttempts(ctx context.Context, run string, page []Result) error {
	rows, err := s.db().QueryContext(ctx, `SELECT host, attempt, route, stage, outcome, verdict, reason, started, ended FROM audit
		WHERE run = $1 AND host >= $2 AND host <= $3 ORDER BY host, attempt, step`, run, page[0].Host, page[len(page)-1].Host)
	if err != nil {
		return err
	}
	defer rows.Close()
	by := map[string]int{} // host: its place on the page
	for i := range page {
		by[page[i].Host] = i
		page[i].Attempts = []Attempt{}
	}
	last := 0
	for rows.Next() {
		var host, reason string
		var n int
		var started, ended int64
		var outcome remediate.Outcome
		var a Attempt
		if err := rows.Scan(&host, &n, &a.Route, &a.Stage, &outcome, &a.Verdict, &reason, &started, &ended); err != nil {
			return err
		}
		i, ok := by[host]
		if !ok {
			continue
		}
		r := &page[i]
		a.Started, a.Ended = moment(started), moment(ended)
		k := len(r.Attempts) - 1
		if k < 0 || n != last || r.Attempts[k].Route != a.Route {
			r.Attempts = append(r.Attempts, a)
			k++
		}
		last = n
		have := &r.Attempts[k]
		have.Stage, have.Verdict, have.Ended = a.Stage, a.Verdict, a.Ended
		if outcome != remediate.OK && reason != "" {
			have.Reason = joined(have.Reason, reason)
		}
	}
	return rows.Err()
}

// joined puts two reasons in one line.
func joined(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}
