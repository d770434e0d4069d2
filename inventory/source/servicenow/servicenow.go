// Package servicenow reads hosts from the CMDB of a ServiceNow instance by its Table API.
//
// Pages are asked for by key (sys_id greater than the last one), not by offset: rows that are
// written meanwhile neither repeat nor vanish, and the last page is as fast as the first. Rows
// that access rules hide are simply not in the answer, while X-Total-Count counts them: that is
// how they are noticed. Least right: a role that may read the table and its columns, such as
// cmdb_read. Facts are those of the Table API reference; no instance was at hand to prove them.
package servicenow

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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

// A Config says which instance to ask, for what, and as whom: as a user, or as an OAuth
// application with the client credentials grant.
type Config struct {
	URL      string // https://corp.service-now.com
	CA       string
	Login    secret.Login
	ClientID string
	Secret   secret.Ref

	Table string // cmdb_ci_computer if empty: computers and servers
	Query string // encoded query that picks rows: "osLIKEWindows^company.name=Corp"
	// Fields names the column for a field where it is another one, or for fields that the CMDB
	// knows by columns of your own: {"redfish": "u_bmc", "tier": "u_tier"}.
	Fields map[string]string
	Page   int // rows in one answer; 1,000 if 0
}

// A Source is the hosts of one instance.
type Source struct {
	cfg    Config
	client *rest.Client
	fields []field
	cal    *calendar.Calendar
}

// A field is where a value comes from.
type field struct{ ours, column string }

// columns are those of cmdb_ci_computer and what it refers to.
var columns = []field{
	{"name", "name"}, {"name", "host_name"}, {"serial", "serial_number"}, {"mac", "mac_address"},
	{"address", "fqdn"}, {"address", "ip_address"}, {"site", "location"}, {"region", "location.state"},
	{"country", "location.country"}, {"timezone", "location.time_zone"}, {"technician", "support_group"},
	{"label:os", "os"}, {"label:model", "model_id"}, {"label:class", "sys_class_name"},
}

// states are the values, which do not depend on the language, of install_status,
// operational_status and hardware_status that take a host out of use.
var states = map[string]map[string]inventory.State{
	"install_status":     {"6": inventory.InStock, "2": inventory.InStock, "5": inventory.InStock, "7": inventory.Retired, "8": inventory.Retired, "100": inventory.Retired},
	"operational_status": {"6": inventory.Retired},
	"hardware_status":    {"in_stock": inventory.InStock, "retired": inventory.Retired, "stolen": inventory.Retired, "absent": inventory.Retired},
}

// New checks the configuration. It does not reach the instance.
func New(cfg Config) (*Source, error) {
	cfg.Table, cfg.Page = cmp.Or(cfg.Table, "cmdb_ci_computer"), cmp.Or(cfg.Page, 1000)
	if strings.Contains(cfg.Query, "^NQ") || strings.Contains(cfg.Query, "ORDERBY") {
		return nil, errors.New("cannot use ServiceNow: the query must have neither ^NQ nor ORDERBY, which the paging by key needs for itself")
	}
	if cfg.Page < 1 || cfg.Page > 10000 {
		return nil, errors.New("cannot use ServiceNow: a page has 1 to 10000 rows")
	}
	if err := inventory.CheckFields(cfg.Fields); err != nil {
		return nil, fmt.Errorf("cannot use ServiceNow: %w", err)
	}
	var auth rest.Auth = rest.Basic(cfg.Login)
	if cfg.ClientID != "" {
		auth = &rest.OAuth{Path: "/oauth_token.do", ClientID: cfg.ClientID, Secret: cfg.Secret}
	}
	client, err := rest.New(rest.Options{Name: "ServiceNow", Base: cfg.URL, CA: cfg.CA, Auth: auth})
	if err != nil {
		return nil, err
	}
	s := &Source{cfg: cfg, client: client, cal: calendar.New()}
	for ours, column := range cfg.Fields {
		s.fields = append(s.fields, field{ours, column})
	}
	slices.SortFunc(s.fields, func(a, b field) int { return strings.Compare(a.ours, b.ours) })
	for _, f := range columns {
		if _, ok := cfg.Fields[f.ours]; !ok {
			s.fields = append(s.fields, f)
		}
	}
	return s, nil
}

// A cell is a value as the database has it and as people see it.
type cell struct {
	Value   string `json:"value"`
	Display string `json:"display_value"`
}

// Hosts implements [inventory.Source].
func (s *Source) Hosts(ctx context.Context) iter.Seq2[inventory.Host, error] {
	return inventory.Read(ctx, "ServiceNow "+s.client.Host(), func(emit func(*inventory.Draft) error) error {
		return s.read(ctx, emit)
	})
}

// read reads all pages and compares what came with what the instance counted.
func (s *Source) read(ctx context.Context, emit func(*inventory.Draft) error) error {
	last, skip, came, total := "", 0, 0, -1
	for {
		rows, left, err := s.page(ctx, last, skip)
		if err != nil {
			return err
		}
		if total < 0 {
			total = left
		}
		for _, row := range rows {
			if id := row["sys_id"].Value; id <= last {
				return errors.New("its rows do not come in the order asked for: is a business rule changing the query?")
			}
			last = row["sys_id"].Value
			came++
			if err := emit(s.draft(row)); err != nil {
				return err
			}
		}
		switch {
		case left >= 0 && left-skip <= s.cfg.Page || left < 0 && len(rows) == 0:
			return s.compare(came, total, emit)
		case len(rows) == 0:
			skip += s.cfg.Page // all of them are hidden: the key cannot move on
		default:
			skip = 0
		}
	}
}

// compare notes rows that were counted and did not come.
func (s *Source) compare(came, total int, emit func(*inventory.Draft) error) error {
	if total < 0 {
		return emit(inventory.Note(s.client.Host(), "it does not say how many rows there are (no X-Total-Count): whether access rules hide some cannot be told", "the header passed on"))
	}
	if hidden := total - came; hidden > 0 {
		return emit(inventory.Note(s.client.Host(), fmt.Sprintf("%d of %d rows of %s are hidden from this account", hidden, total, s.cfg.Table),
			"a role that may read all of them, such as cmdb_read; or a query for those that are meant"))
	}
	return nil
}

// page reads the rows after a key. Left is how many there are after it, and -1 if it does not say.
func (s *Source) page(ctx context.Context, last string, skip int) (rows []map[string]cell, left int, err error) {
	query := "ORDERBYsys_id"
	if last != "" {
		query = "sys_id>" + last + "^" + query
	}
	if s.cfg.Query != "" {
		query = s.cfg.Query + "^" + query
	}
	names := []string{"sys_id", "install_status", "operational_status", "hardware_status", "last_discovered"}
	for _, f := range s.fields {
		names = append(names, f.column)
	}
	v := url.Values{"sysparm_query": {query}, "sysparm_limit": {strconv.Itoa(s.cfg.Page)}, "sysparm_fields": {strings.Join(names, ",")},
		"sysparm_display_value": {"all"}, "sysparm_exclude_reference_link": {"true"}}
	if skip > 0 {
		v.Set("sysparm_offset", strconv.Itoa(skip))
	}
	var answer struct {
		Result []map[string]cell `json:"result"`
	}
	header, err := s.client.Get(ctx, "/api/now/table/"+url.PathEscape(s.cfg.Table)+"?"+v.Encode(), &answer)
	var status *rest.StatusError
	if errors.As(err, &status) && status.Status == http.StatusNotFound { // what it answers where no row matches
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, s.lacks(err)
	}
	left, err = strconv.Atoi(header.Get("X-Total-Count"))
	if err != nil {
		left = -1
	}
	return answer.Result, left, nil
}

// draft makes a host of a row.
func (s *Source) draft(row map[string]cell) *inventory.Draft {
	d := inventory.NewDraft(inventory.Origin{Source: "servicenow", Place: s.client.Host()}, s.cfg.Table+" "+row["sys_id"].Value)
	d.Check = s.cal.Check
	if at, err := time.Parse(time.DateTime, row["last_discovered"].Value); err == nil { // UTC, as values are
		d.Seen(at, 7*24*time.Hour) // discovery runs by day or by week
	}
	for _, f := range s.fields {
		c := row[f.column]
		v := cmp.Or(c.Display, c.Value)
		if label, ok := strings.CutPrefix(f.ours, "label:"); ok {
			d.Label(label, v)
		} else {
			d.Set(f.ours, f.column, v)
		}
	}
	for _, column := range []string{"hardware_status", "install_status", "operational_status"} {
		if d.Host.State == "" {
			d.Host.State = states[column][row[column].Value]
		}
	}
	return d
}
