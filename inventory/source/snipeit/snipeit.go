// Package snipeit reads hosts from Snipe-IT.
//
// A page has at most 500 assets, or fewer where an operator set MAX_RESULTS, and a user may ask
// 120 times a minute: 60,000 assets a minute at best. Paging is by offset; assets that are
// deleted meanwhile move the others, which is noticed by the total, and the page is read again.
// Least right: a user that may view assets. Facts are those of the API reference; no server was
// at hand to prove them.
package snipeit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"html"
	"iter"
	"net/url"
	"strconv"

	"unbrick/inventory"
	"unbrick/inventory/calendar"
	"unbrick/inventory/rest"
	"unbrick/inventory/secret"
)

// A Config says which Snipe-IT to ask, for what, and with which token.
type Config struct {
	URL   string // https://assets.corp.example
	CA    string
	Token secret.Ref

	Query  string            // picks assets, as the list's filters do: "category_id=2&company_id=1"
	Fields map[string]string // custom field, by the name that people see, for a field: {"mac": "MAC Address", "name": "Hostname"}
	Page   int               // assets in one answer; 500 if 0
}

// A Source is the assets of one Snipe-IT.
type Source struct {
	cfg    Config
	client *rest.Client
	cal    *calendar.Calendar
}

const most = 500 // assets in one answer

// New checks the configuration. It does not reach the server.
func New(cfg Config) (*Source, error) {
	cfg.Page = cmp.Or(cfg.Page, most)
	if _, err := url.ParseQuery(cfg.Query); err != nil || cfg.Page < 1 || cfg.Page > most {
		return nil, fmt.Errorf("cannot use Snipe-IT: the query is not as in an address, category_id=2&company_id=1, or a page is not of 1 to %d assets", most)
	}
	if err := inventory.CheckFields(cfg.Fields); err != nil {
		return nil, fmt.Errorf("cannot use Snipe-IT: %w", err)
	}
	client, err := rest.New(rest.Options{Name: "Snipe-IT", Base: cfg.URL, CA: cfg.CA, Auth: rest.Token{Token: cfg.Token}})
	if err != nil {
		return nil, err
	}
	return &Source{cfg: cfg, client: client, cal: calendar.New()}, nil
}

type named struct {
	Name string `json:"name"`
}

// An asset is what Snipe-IT says of one. Its texts are escaped for HTML.
type asset struct {
	ID     int    `json:"id"`
	Name   string `json:"name"`
	Tag    string `json:"asset_tag"`
	Serial string `json:"serial"`
	Model  *named `json:"model"`
	Status *struct {
		Name string `json:"name"`
		Type string `json:"status_type"` // deployable, pending, archived, undeployable
		Meta string `json:"status_meta"` // deployed if it is given out
	} `json:"status_label"`
	Location *named `json:"location"`
	Home     *named `json:"rtd_location"`
	Category *named `json:"category"`
	Company  *named `json:"company"`
	Custom   fields `json:"custom_fields"`
}

// fields are custom fields by the name that people see. An asset without any has an empty list
// in place of the object, as PHP writes it.
type fields map[string]struct {
	Value any `json:"value"`
}

// page is one answer. A refusal comes with status 200 too.
type page struct {
	Status string   `json:"status"`
	Total  int      `json:"total"`
	Rows   *[]asset `json:"rows"`
}

// Hosts implements [inventory.Source].
func (s *Source) Hosts(ctx context.Context) iter.Seq2[inventory.Host, error] {
	return inventory.Read(ctx, "Snipe-IT "+s.client.Host(), func(emit func(*inventory.Draft) error) error {
		return s.read(ctx, emit)
	})
}

// read reads all pages. It goes back as far as the total has shrunk since the page before.
func (s *Source) read(ctx context.Context, emit func(*inventory.Draft) error) error {
	seen, offset, total := map[int]bool{}, 0, -1
	for {
		p, err := s.page(ctx, offset)
		if err != nil {
			return err
		}
		if gone := total - p.Total; total >= 0 && gone > 0 && offset > 0 {
			offset, total = max(offset-gone, 0), p.Total
			continue
		}
		total = p.Total
		for i := range *p.Rows {
			a := &(*p.Rows)[i]
			if seen[a.ID] {
				continue
			}
			seen[a.ID] = true
			if err := emit(s.draft(a)); err != nil {
				return err
			}
		}
		offset += len(*p.Rows)
		if len(*p.Rows) == 0 || offset >= total {
			break
		}
	}
	if missing := total - len(seen); missing > 0 {
		return emit(inventory.Note(s.client.Host(), fmt.Sprintf("%d of %d assets did not come", missing, total), "a user that may view the assets of every company"))
	}
	return nil
}

// page reads the assets from an offset on.
func (s *Source) page(ctx context.Context, offset int) (p page, err error) {
	v, _ := url.ParseQuery(s.cfg.Query)
	for k, value := range map[string]string{"limit": strconv.Itoa(s.cfg.Page), "offset": strconv.Itoa(offset), "sort": "id", "order": "asc"} {
		v.Set(k, value)
	}
	if _, err = s.client.Get(ctx, "/api/v1/hardware?"+v.Encode(), &p); err != nil {
		return p, lacks(err)
	}
	if p.Status == "error" {
		return p, lacks(errRefused)
	}
	if p.Rows == nil {
		return p, errors.New("its answer is no list of assets")
	}
	return p, nil
}

// draft makes a host of an asset.
func (s *Source) draft(a *asset) *inventory.Draft {
	d := inventory.NewDraft(inventory.Origin{Source: "snipeit", Place: s.client.Host()}, "asset "+strconv.Itoa(a.ID))
	d.Check = s.cal.Check
	set := func(field, column, v string) { d.Set(field, column, html.UnescapeString(v)) }
	for ours, custom := range s.cfg.Fields {
		if v, ok := a.Custom[custom]; ok && v.Value != nil {
			set(ours, custom, fmt.Sprint(v.Value))
		}
	}
	set("name", "name", a.Name)
	set("serial", "serial", a.Serial)
	for _, where := range []*named{a.Location, a.Home} { // where it is, or else where it belongs
		if where != nil {
			set("site", "location", where.Name)
		}
	}
	if st := a.Status; st != nil {
		d.Label("status", html.UnescapeString(st.Name))
		switch {
		case st.Type == "archived":
			d.Host.State = inventory.Retired
		case st.Type == "pending" || st.Type == "undeployable" || st.Type == "deployable" && st.Meta != "deployed":
			d.Host.State = inventory.InStock
		}
	}
	d.Label("asset_tag", html.UnescapeString(a.Tag))
	for label, v := range map[string]*named{"model": a.Model, "category": a.Category, "company": a.Company} {
		if v != nil {
			d.Label(label, html.UnescapeString(v.Name))
		}
	}
	return d
}
