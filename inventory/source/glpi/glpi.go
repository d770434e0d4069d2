// Package glpi reads computers from GLPI by its REST API of old (apirest.php).
//
// A session is opened for the reading, renewed if it ends, and closed after it. Least right: a
// profile that may read computers and their network ports; computers of entities that the user's
// profile does not cover are not counted and simply absent. Facts are those of apirest.md in
// GLPI's source; no server was at hand to prove them. The API of GLPI 11 (OAuth) is not spoken.
package glpi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"html"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"unbrick/inventory"
	"unbrick/inventory/calendar"
	"unbrick/inventory/rest"
	"unbrick/inventory/secret"
)

// A Config says which GLPI to ask, and as whom: with the user's token for remote access, or by
// name and password.
type Config struct {
	URL      string // https://glpi.corp.example/apirest.php
	CA       string
	Token    secret.Ref
	Login    secret.Login
	AppToken secret.Ref // empty: none

	// Retired and InStock are statuses, as the server's language has them, of computers that are
	// not in use; English words of the kind are known.
	Retired, InStock []string
	Page             int // computers in one answer; 500 if 0
}

// A Source is the computers of one GLPI.
type Source struct {
	cfg   Config
	login *rest.Client
	cal   *calendar.Calendar
}

// New checks the configuration. It does not reach the server.
func New(cfg Config) (*Source, error) {
	cfg.Page = cmp.Or(cfg.Page, 500)
	var auth rest.Auth = rest.Basic(cfg.Login)
	if cfg.Token != "" {
		auth = rest.Token{Word: "user_token", Token: cfg.Token}
	}
	if cfg.Token == "" && cfg.Login.User == "" || cfg.Page < 1 {
		return nil, errors.New("cannot use GLPI: give the user's token for remote access, or a user and a password")
	}
	s := &Source{cfg: cfg, cal: calendar.New()}
	var err error
	s.login, err = rest.New(rest.Options{Name: "GLPI", Base: cfg.URL, CA: cfg.CA, Auth: auth})
	return s, err
}

// A session is a login that lasts until GLPI forgets it.
type session struct {
	src    *Source
	client *rest.Client
}

// open begins a session.
func (s *session) open(ctx context.Context) error {
	header := map[string]string{}
	login := s.src.login
	if s.src.cfg.AppToken != "" {
		app, err := s.src.cfg.AppToken.Resolve(ctx)
		if err != nil {
			return err
		}
		header["App-Token"] = app.Reveal()
		login = login.With(header)
	}
	var answer struct {
		Token string `json:"session_token"`
	}
	if _, err := login.Get(ctx, "/initSession", &answer); err != nil {
		return err
	}
	if answer.Token == "" {
		return errors.New("it opens no session")
	}
	header["Session-Token"] = answer.Token
	s.client = login.With(header).Bare()
	return nil
}

// close ends the session: GLPI keeps those that are left open, and their number is limited by
// the disk of the server alone.
func (s *session) close(ctx context.Context) {
	if s.client == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_, _ = s.client.Get(ctx, "/killSession", nil) // it ends by itself too
}

// get reads a path, in a new session if the one there was is over.
func (s *session) get(ctx context.Context, path string, v any) (http.Header, error) {
	for again := false; ; again = true {
		if s.client == nil {
			if err := s.open(ctx); err != nil {
				return nil, err
			}
		}
		header, err := s.client.Get(ctx, path, v)
		var status *rest.StatusError
		if errors.As(err, &status) && status.Status == http.StatusUnauthorized && !again {
			s.client = nil
			continue
		}
		return header, err
	}
}

// A row is an item as GLPI has it: numbers may be texts, and empty choices 0 or "&nbsp;".
type row map[string]any

func (r row) text(field string) string {
	v := r[field]
	if v == nil || v == float64(0) {
		return ""
	}
	s := strings.TrimSpace(html.UnescapeString(fmt.Sprint(v)))
	if f, ok := v.(float64); ok {
		s = strconv.FormatFloat(f, 'f', -1, 64)
	}
	return strings.Trim(s, "\u00a0 ")
}

// Hosts implements [inventory.Source].
func (s *Source) Hosts(ctx context.Context) iter.Seq2[inventory.Host, error] {
	return inventory.Read(ctx, "GLPI "+s.login.Host(), func(emit func(*inventory.Draft) error) error {
		in := &session{src: s}
		defer in.close(ctx)
		macs := map[string][]string{}
		missing, err := s.all(ctx, in, "NetworkPort", "", func(r row) error {
			if r.text("itemtype") == "Computer" && r.text("mac") != "" {
				macs[r.text("items_id")] = append(macs[r.text("items_id")], r.text("mac"))
			}
			return nil
		})
		if err != nil {
			return err
		}
		gone, err := s.all(ctx, in, "Computer", "&expand_dropdowns=true", func(r row) error {
			if r.text("is_template") != "" || r.text("is_deleted") != "" {
				return nil
			}
			return emit(s.draft(r, macs[r.text("id")]))
		})
		if err != nil || gone+missing == 0 {
			return err
		}
		return emit(inventory.Note(s.login.Host(), fmt.Sprintf("%d computers and %d network ports did not come", gone, missing), "a list that nobody changes while it is read: read it again"))
	})
}

// all reads a list to its end by ranges, and says how many of its items did not come.
func (s *Source) all(ctx context.Context, in *session, kind, more string, each func(row) error) (missing int, err error) {
	seen := map[string]bool{}
	for from, total := 0, -1; ; {
		var rows []row
		header, err := in.get(ctx, fmt.Sprintf("/%s/?range=%d-%d&get_hateoas=false%s", url.PathEscape(kind), from, from+s.cfg.Page-1, more), &rows)
		if err != nil {
			return 0, lacks(kind, fmt.Errorf("cannot list %s: %w", kind, err))
		}
		_, count, ok := strings.Cut(header.Get("Content-Range"), "/")
		if n, err := strconv.Atoi(count); ok && err == nil {
			total = n
		} else if len(rows) < s.cfg.Page {
			total = from + len(rows)
		}
		for _, r := range rows {
			if id := r.text("id"); !seen[id] {
				seen[id] = true
				if err := each(r); err != nil {
					return 0, err
				}
			}
		}
		from += len(rows)
		if len(rows) == 0 || total >= 0 && from >= total {
			return max(total-len(seen), 0), nil
		}
	}
}

// draft makes a host of a computer.
func (s *Source) draft(r row, macs []string) *inventory.Draft {
	d := inventory.NewDraft(inventory.Origin{Source: "glpi", Place: s.login.Host()}, "Computer "+r.text("id"))
	d.Check = s.cal.Check
	d.Set("name", "name", r.text("name"))
	d.Set("serial", "serial", r.text("serial"))
	d.Set("uuid", "uuid", r.text("uuid"))
	for _, m := range macs {
		d.Set("mac", "mac", m)
	}
	d.Set("site", "locations_id", r.text("locations_id"))
	status := r.text("states_id")
	has := func(words []string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.EqualFold(w, status) })
	}
	switch {
	case has(s.cfg.Retired):
		d.Host.State = inventory.Retired
	case has(s.cfg.InStock):
		d.Host.State = inventory.InStock
	default:
		d.Set("state", "states_id", status)
	}
	// Agents report once a day. The time is the server's own, whose zone it does not say: that
	// is in the lag as well.
	if at, err := time.Parse(time.DateTime, r.text("last_inventory_update")); err == nil {
		d.Seen(at, 36*time.Hour)
	}
	d.Label("model", r.text("computermodels_id"))
	d.Label("entity", r.text("entities_id"))
	d.Label("status", status)
	return d
}
