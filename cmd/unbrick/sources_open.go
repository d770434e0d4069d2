package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"strings"
	"time"

	"unbrick/inventory"
	"unbrick/inventory/source/csv"
)

// An incidentConfig is when hosts could fetch what broke them.
type incidentConfig struct {
	From  instant `yaml:"from"`
	Until instant `yaml:"until"`
}

// An instant reads "2024-07-19T04:09:00Z".
type instant struct{ time.Time }

// UnmarshalText reads a time with its zone.
func (i *instant) UnmarshalText(b []byte) (err error) {
	if i.Time, err = time.Parse(time.RFC3339, string(b)); err != nil {
		return fmt.Errorf("%q is not a time with its zone; write 2024-07-19T04:09:00Z", b)
	}
	return nil
}

// incident returns the incident of the configuration, nil if there is none.
func (c *config) incident() *inventory.Incident {
	if c.Incident == nil {
		return nil
	}
	return &inventory.Incident{From: c.Incident.From.Time, Until: c.Incident.Until.Time}
}

// A namedSource is a source of the fleet, as the configuration calls it.
type namedSource struct {
	Name  string // unique among the sources
	Kind  string
	Place string // of unbrick.yaml, for errors: "line 7"; empty for the file of -i or inventory:
	// Config is a digest of what the source is asked, so that what another question brought is
	// not taken for its answer. Earlier is what it was with an unbrick that counted logins in.
	Config, Earlier string

	Local  bool // a file: there is no reason to go by what was saved of it
	Source inventory.Source
}

// asks says whether the source is asked what brought the rows of a saved section.
func (s namedSource) asks(config string) bool { return config == s.Config || config == s.Earlier }

// fileSource is what the file of -i or inventory: is called.
const fileSource = "inventory"

// openSources returns the sources of the fleet in the order in which they are believed: the
// file of inventory: first, since somebody wrote it for this. It reaches none of them.
func openSources(cfg *config) ([]namedSource, error) {
	var all []namedSource
	if cfg.Inventory != "" {
		src, err := csvSource(cfg, cfg.Inventory)
		if err != nil {
			return nil, err
		}
		all = append(all, namedSource{Name: fileSource, Kind: "csv", Config: configDigest("csv", reflect.ValueOf(src).Elem()), Local: true, Source: renamed{src, fileSource}})
	}
	for i := range cfg.Sources {
		e := &cfg.Sources[i]
		e.ask(cfg.incident())
		digest, earlier := configDigest(e.Kind, e.opener.config()), earlierDigest(e.Kind, e.opener.config().Interface())
		err := e.equip(cfg)
		var src inventory.Source
		if err == nil {
			src, err = e.opener.open()
		}
		if err != nil {
			return nil, hinted(fmt.Errorf("line %d of the configuration: source %s: %w", e.line, e.name(), err), "the README describes sources: of unbrick.yaml")
		}
		if err := cfg.down[e.name()]; err != nil {
			src = failing{src, err}
		}
		all = append(all, namedSource{Name: e.name(), Kind: e.Kind, Place: fmt.Sprintf("line %d", e.line),
			Config: digest, Earlier: earlier, Local: e.local(), Source: renamed{src, e.name()}.source()})
	}
	return all, nil
}

// configDigest names what a source is asked: of which system, and for which of its hosts, told in
// which way. How it is reached and let in, and how much it gives at once, is no part of that: a
// token that was renewed in the night must not cost what was saved.
func configDigest(kind string, cfg reflect.Value) string {
	asked := map[string]any{}
	for _, f := range knownFields(cfg, nil) {
		if !isAccess(kind, f.name) {
			asked[f.name] = f.at.Interface()
		}
	}
	return earlierDigest(kind, asked)
}

// isAccess says that a field of a kind is no part of what its source is asked. Falcon's client_id
// is: every customer has the same address there.
func isAccess(kind, field string) bool {
	switch field {
	case "ca", "user", "password", "token", "secret", "app_token", "page", "pause":
		return true
	case "client_id":
		return kind != "falcon"
	case "address":
		return kind == "activedirectory" // of the server that name: names
	}
	return false
}

// earlierDigest names a whole configuration. It holds references to secrets and no secret.
func earlierDigest(kind string, cfg any) string {
	b, err := json.Marshal(cfg)
	if err != nil { // a field that JSON does not know: the same text for the same values all the same
		b = fmt.Append(nil, cfg)
	}
	sum := sha256.Sum256(append([]byte(kind+"\n"), b...))
	return hex.EncodeToString(sum[:8])
}

// checkSources says what of sources:, wins: and incident: does not fit together.
func (c *config) checkSources() error {
	names := map[string]int{}
	if c.Inventory != "" {
		names[fileSource] = 0
	}
	for _, e := range c.Sources {
		if line, twice := names[e.name()]; twice {
			return &lineError{e.line, fmt.Sprintf("another source is called %q (line %d); give one of them a name with as:", e.name(), line)}
		}
		if strings.ContainsAny(e.name(), "\n/\\") {
			return &lineError{e.line, "as: takes a short name"}
		}
		names[e.name()] = e.line
		if e.affected && c.Incident == nil {
			return &lineError{e.line, "affected: needs incident: {from: …, until: …}"}
		}
	}
	if err := c.checkWins(names); err != nil {
		return err
	}
	if i := c.Incident; i != nil && !i.From.Before(i.Until.Time) {
		return fmt.Errorf("incident: from and until are needed, from before until")
	}
	return nil
}

func (c *config) checkWins(names map[string]int) error {
	for field, wins := range c.Wins {
		if known := inventory.MergeFields(); !slices.Contains(known, field) {
			return fmt.Errorf("wins: no field %q; the fields are %s", field, strings.Join(known, ", "))
		}
		for _, w := range wins {
			if _, ok := names[w]; !ok {
				return fmt.Errorf("wins: %s: no source is called %q", field, w)
			}
		}
	}
	return nil
}

func csvSource(cfg *config, file string) (inventory.Source, error) {
	columns, err := csv.ParseMap(cfg.Map)
	if err != nil {
		return nil, hinted(err, "write --map name=Hostname: our name first, then the file's")
	}
	return &csv.Source{Path: file, Map: columns}, nil
}

// A failing source is known not to answer, and is not asked.
type failing struct {
	inventory.Source
	err error
}

func (f failing) Hosts(context.Context) iter.Seq2[inventory.Host, error] {
	return func(yield func(inventory.Host, error) bool) { yield(inventory.Host{}, f.err) }
}

// A renamed source says its own name of where a host comes from.
type renamed struct {
	inventory.Source
	as string
}

func (r renamed) Hosts(ctx context.Context) iter.Seq2[inventory.Host, error] {
	return func(yield func(inventory.Host, error) bool) {
		for h, err := range r.Source.Hosts(ctx) {
			for i := range h.From {
				h.From[i].Source = r.as
			}
			if !yield(h, err) {
				return
			}
		}
	}
}

// source keeps a supplement a supplement.
func (r renamed) source() inventory.Source {
	if _, ok := r.Source.(inventory.Supplement); ok {
		return supplement{r}
	}
	return r
}

// A supplement is a source that says more of hosts that others know.
type supplement struct{ inventory.Source }

// Supplements implements inventory.Supplement.
func (supplement) Supplements() {}
