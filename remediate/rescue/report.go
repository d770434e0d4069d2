package rescue

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"regexp"
	"strings"
	"time"
	"unicode"

	"unbrick/remediate/rescue/wire"
)

// report takes the agent's report, also after Repair was given up or before it is called
// again: what was found and removed has to be known. The same report again is no error.
func (s *Server) report(c *call, _ *claim) (any, error) {
	var tree any
	if err := c.decode(&tree, maxReport); err != nil {
		return nil, err
	}
	rep, b, struck := read(tree)
	if b == nil {
		return nil, notOurs
	}
	if struck {
		c.log.Error("SECURITY: something in a report has the shape of a recovery key; it was struck out")
	}
	err := s.cfg.Records.Create(c.Context(), "report/"+c.hash, b)
	if errors.Is(err, fs.ErrExist) {
		old, err := s.cfg.Records.Load(c.Context(), "report/"+c.hash)
		if err == nil && !bytes.Equal(old, b) {
			err = refuse(http.StatusForbidden, "another report of this host is here already, and it stands")
		}
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	c.log.Info("agent reported", "agent", rep.Agent, "elapsed", rep.Elapsed.Round(time.Millisecond), "volumes", len(rep.Volumes), "error", rep.Error)
	if c.live != nil {
		c.live.once.Do(func() { close(c.live.done) })
	} else {
		s.arrived(c.Context(), c.job) // its host may wait again meanwhile
	}
	return nil, nil
}

// keyShape is what a recovery key looks like. No agent writes one into a report; should one
// ever, it ends here and not in a database.
var keyShape = regexp.MustCompile(`\b\d{6}(?:[- ]?\d{6}){7}\b`)

// read returns the report in a JSON value, and how it is kept; nil if it is none. Its texts
// come from a host that may be anybody's and end on an operator's terminal: what would
// control that is made a space, and what looks like a key is struck out.
func read(tree any) (rep wire.Report, kept []byte, struck bool) {
	tree = eachText(tree, func(s string) string {
		plain := strings.Map(func(r rune) rune {
			if unicode.IsControl(r) {
				return ' '
			}
			return r
		}, s)
		clean := keyShape.ReplaceAllString(plain, "[struck out]")
		struck = struck || clean != plain
		return clean
	})
	b, err := json.Marshal(tree)
	if err == nil {
		err = json.Unmarshal(b, &rep)
	}
	if err == nil {
		kept, err = json.Marshal(rep)
	}
	if err != nil {
		return wire.Report{}, nil, struck
	}
	return rep, kept, struck
}

// eachText replaces every text in a decoded JSON value; the names of fields are ours.
func eachText(v any, f func(string) string) any {
	switch v := v.(type) {
	case string:
		return f(v)
	case []any:
		for i := range v {
			v[i] = eachText(v[i], f)
		}
	case map[string]any:
		for k := range v {
			v[k] = eachText(v[k], f)
		}
	}
	return v
}

// missing says why there is no report, as far as it can be known from here.
func (s *Server) missing(ctx, ended context.Context, hash string, r *repair) error {
	if errors.Is(ended.Err(), context.Canceled) {
		return fmt.Errorf("the repair was given up: %w", context.Cause(ended))
	}
	patience := time.Since(r.since).Round(time.Second)
	last, away := r.seen()
	cl, err := s.claim(ctx, hash)
	switch {
	case err == nil && cl != nil && last == "":
		last = fmt.Sprintf("hello at %s, from %s", cl.At.UTC().Format(time.TimeOnly), cl.From)
		fallthrough
	case last != "":
		return fmt.Errorf("the rescue system called home but did not report within %s: the last that was heard of it is %s%s", patience, last, away)
	}
	j, jobErr := s.job(ctx, hash)
	if jobErr == nil && j.Stick != "" {
		return fmt.Errorf("the agent on stick %s of %s was let in at %s and was not heard of since%s", j.Stick, j.By, j.Created.Format(time.TimeOnly), away)
	}
	if l, err := s.loanOf(ctx, hash); err == nil {
		return fmt.Errorf("the helper %s did not begin within %s: %s%s", l.Helper, patience, s.calls.last(l.Helper, l.Mark), away)
	}
	f := s.knownReads(hash).fetch()
	what := f.String()
	if !f.First.IsZero() && f.Bytes >= f.Size {
		what += ", but its agent said no hello: look at its screen, its network, and whether it reaches " + s.cfg.AgentURL
	}
	if jobErr == nil && j.Created.Before(s.started) {
		what += " (as far as this server knows, which was started after the image was made)"
	}
	return fmt.Errorf("the rescue system did not call home within %s: %s%s", patience, what, away)
}
