package servicenow_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"unbrick/inventory"
	"unbrick/inventory/secret"
	"unbrick/inventory/source/servicenow"
	"unbrick/inventory/sourcetest"
)

// An instance answers as the Table API does. Each check says which document it is from.
type instance struct {
	t      *testing.T
	rows   []map[string]string // by sys_id
	hidden map[string]bool
	count  bool
	most   int // sysparm_limit is capped at it
	asked  int
}

func (s *instance) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.asked++
	q := r.URL.Query()
	if r.URL.Path != "/api/now/table/cmdb_ci_computer" {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	// Table API reference, "sysparm_limit": 10,000 by default, and an administrator may cap it.
	limit, _ := strconv.Atoi(q.Get("sysparm_limit"))
	if limit == 0 || limit > s.most {
		s.t.Errorf("limit %d", limit)
	}
	// "sysparm_query": an encoded query, here of the two operators that paging by key needs.
	after := ""
	for term := range strings.SplitSeq(q.Get("sysparm_query"), "^") {
		if id, ok := strings.CutPrefix(term, "sys_id>"); ok {
			after = id
		} else if term != "ORDERBYsys_id" && term != "osLIKEWindows" {
			s.t.Errorf("query %q", term)
		}
	}
	var match []map[string]string
	for _, row := range s.rows {
		if row["sys_id"] > after {
			match = append(match, row)
		}
	}
	// "X-Total-Count": of the query, before access rules are applied (community threads on ACLs
	// and pagination; the reference does not say).
	if s.count {
		w.Header().Set("X-Total-Count", strconv.Itoa(len(match)))
	}
	offset, _ := strconv.Atoi(q.Get("sysparm_offset"))
	match = match[min(offset, len(match)):]
	match = match[:min(limit, len(match))]
	// "sysparm_fields" and "sysparm_display_value=all": both values of the fields asked for.
	out := []map[string]any{}
	for _, row := range match {
		if s.hidden[row["sys_id"]] {
			continue // the window is cut first, then rows are hidden: pages come short
		}
		one := map[string]any{}
		for name := range strings.SplitSeq(q.Get("sysparm_fields"), ",") {
			value, display, both := strings.Cut(row[name], "=")
			if !both {
				display = value
			}
			one[name] = map[string]string{"value": value, "display_value": display}
		}
		out = append(out, one)
	}
	if q.Get("sysparm_display_value") != "all" {
		s.t.Error("values that depend on the language")
	}
	json.NewEncoder(w).Encode(map[string]any{"result": out})
}

func newInstance(t *testing.T, n int) *instance {
	s := &instance{t: t, count: true, most: 10000, hidden: map[string]bool{}}
	for i := range n {
		s.rows = append(s.rows, map[string]string{"sys_id": fmt.Sprintf("%032x", i+1), "name": fmt.Sprint("PC", i), "serial_number": fmt.Sprint("S10", i)})
	}
	return s
}

func open(t *testing.T, service *sourcetest.Service, change func(*servicenow.Config)) *servicenow.Source {
	t.Helper()
	cfg := servicenow.Config{URL: service.Start(t), Login: secret.Login{User: "u", Password: secret.Ref(sourcetest.Secretly(t, "pw"))}, Page: 2}
	service.Authorization = "Basic dTpwdw=="
	if change != nil {
		change(&cfg)
	}
	s, err := servicenow.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSource(t *testing.T) {
	names := []string{"PC0", "PC1", "PC2", "PC3", "PC4"}
	sourcetest.Run(t, sourcetest.Case{
		Names: names,
		Good: func(t *testing.T) inventory.Source {
			return open(t, &sourcetest.Service{Next: newInstance(t, 5), Busy: 3, Wait: func(h http.Header) { h.Set("Retry-After", "0") }}, nil)
		},
		Bad: func(t *testing.T) inventory.Source {
			s := newInstance(t, 6)
			s.rows[4]["name"], s.rows[5]["name"] = "two words", "PC4"
			return open(t, &sourcetest.Service{Next: s}, nil)
		},
		Broken: func(t *testing.T) inventory.Source {
			return open(t, &sourcetest.Service{Next: newInstance(t, 5), Down: 2}, nil)
		},
	})
}

func load(t *testing.T, src inventory.Source) *inventory.Fleet {
	t.Helper()
	f, err := inventory.Load(t.Context(), inventory.Options{SkipBad: true}, src)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestHiddenRows(t *testing.T) {
	for name, hide := range map[string][]int{"one": {2}, "a page": {2, 3}, "two pages": {0, 1, 2, 3}, "the last": {6}, "all but one": {0, 1, 2, 3, 4, 5}} {
		s := newInstance(t, 7)
		for _, i := range hide {
			s.hidden[s.rows[i]["sys_id"]] = true
		}
		f := load(t, open(t, &sourcetest.Service{Next: s}, nil))
		if want := fmt.Sprintf("%d of 7 rows", len(hide)); f.Usable != 7-len(hide) || !strings.Contains(strings.Join(f.Warnings.Lines(), " "), want) {
			t.Errorf("%s: %d hosts, %q", name, f.Usable, f.Warnings.Lines())
		}
	}
	s := newInstance(t, 7)
	s.count = false
	if f := load(t, open(t, &sourcetest.Service{Next: s}, nil)); f.Usable != 7 || f.Warnings.Total != 1 {
		t.Errorf("without a count: %d hosts, %q", f.Usable, f.Warnings.Lines())
	}
}

func TestFields(t *testing.T) {
	s := newInstance(t, 0)
	s.rows = []map[string]string{
		{"sys_id": "1", "name": "PC1", "serial_number": "5CG1", "mac_address": "52:54:00:12:34:56", "fqdn": "pc1.corp.example", "location": "abc=Sydney", "location.country": "AU",
			"location.time_zone": "Australia/Sydney", "install_status": "1=Installiert", "u_bmc": "bmc1", "u_tier": "critical", "last_discovered": "2024-07-19 04:00:00", "model_id": "x=EliteBook"},
		{"sys_id": "2", "name": "PC2", "serial_number": "To be filled by O.E.M.", "install_status": "7=Ausgemustert", "location.country": "Germany", "location.time_zone": "Bonn"},
		{"sys_id": "3", "name": "PC3", "install_status": "1", "hardware_status": "in_stock", "mac_address": "abc"},
	}
	f := load(t, open(t, &sourcetest.Service{Next: s}, func(c *servicenow.Config) {
		c.Fields = map[string]string{"redfish": "u_bmc", "tier": "u_tier"}
		c.Query = "osLIKEWindows"
	}))
	h := f.Hosts[0]
	if h.Site != "Sydney" || h.Country != "AU" || h.TimeZone != "Australia/Sydney" || h.Tier != inventory.Critical || h.Address != "pc1.corp.example" ||
		len(h.Routes) != 1 || h.Routes[0].Address != "bmc1" || h.State != "" || h.Seen().Hour() != 4 || h.Labels["model"] != "EliteBook" || !slices.Equal(h.MAC, []string{"52:54:00:12:34:56"}) {
		t.Errorf("%+v", h)
	}
	if f.Hosts[1].State != inventory.Retired || f.Hosts[1].Serial != "" || f.Hosts[1].Labels["country_name"] != "Germany" || f.Hosts[2].State != inventory.InStock {
		t.Errorf("%+v", f.Hosts[1:])
	}
	if got := len(f.Warnings.First); got != 3 { // serial number, time zone, MAC
		t.Errorf("%q", f.Warnings.Lines())
	}
}

func TestLoginAndRefusals(t *testing.T) {
	service := &sourcetest.Service{Next: newInstance(t, 9), Login: "/oauth_token.do", Lives: 2}
	src := open(t, service, func(c *servicenow.Config) {
		c.ClientID, c.Secret = "me", secret.Ref(sourcetest.Secretly(t, sourcetest.Secret))
	})
	if f := load(t, src); f.Usable != 9 || service.Logins < 2 {
		t.Errorf("tokens that expire: %d hosts after %d logins", f.Usable, service.Logins)
	}
	if _, err := servicenow.New(servicenow.Config{URL: "https://x", Query: "a=1^NQb=2"}); err == nil {
		t.Error("a query that breaks the paging")
	}
	service = &sourcetest.Service{Next: newInstance(t, 3)}
	src = open(t, service, func(c *servicenow.Config) { c.Login.Password = secret.Ref(sourcetest.Secretly(t, "canary-9")) })
	_, err := inventory.Load(context.Background(), inventory.Options{}, src)
	if err == nil || !strings.Contains(err.Error(), "credentials") || strings.Contains(err.Error(), "canary") {
		t.Errorf("a wrong password: %v", err)
	}
}
