package netbox_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"unbrick/inventory"
	"unbrick/inventory/secret"
	"unbrick/inventory/source/netbox"
	"unbrick/inventory/sourcetest"
)

// A box answers as NetBox does. Sources: "REST API overview" of its documentation (limit and
// offset, next, MAX_PAGE_SIZE of 1,000, fields, v1 and v2 tokens) and issue 20496 (versions that
// ignore the limit).
type box struct {
	t     *testing.T
	lists map[string][]map[string]any
	url   string
	most  int // MAX_PAGE_SIZE
	query string

	denied string // a list that the token may not read
	stale  bool   // the token is not taken: 403, as for a right ("REST API authentication": 403 for a token that is missing)
}

func (b *box) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	list := strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/api/"), "/")
	if b.stale || list == b.denied {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	if list == "status" {
		fmt.Fprint(w, `{"netbox-version":"4.2.0"}`)
		return
	}
	all, ok := b.lists[list]
	if !ok || !strings.HasSuffix(r.URL.Path, "/") { // without the slash it redirects
		w.WriteHeader(http.StatusNotFound)
		return
	}
	q := r.URL.Query()
	if list == "dcim/devices" {
		b.query = q.Get("role")
	}
	limit, _ := strconv.Atoi(q.Get("limit"))
	offset, _ := strconv.Atoi(q.Get("offset"))
	if limit <= 0 { // 0 is as many as there may be
		limit = b.most
	}
	limit = min(limit, b.most)
	end := min(offset+limit, len(all))
	answer := map[string]any{"count": len(all), "next": nil, "results": all[offset:end]}
	if end < len(all) {
		q.Set("offset", strconv.Itoa(end))
		q.Set("limit", strconv.Itoa(limit))
		answer["next"] = b.url + r.URL.Path + "?" + q.Encode()
	}
	json.NewEncoder(w).Encode(answer)
}

type object = map[string]any

func newBox(t *testing.T, n int) *box {
	b := &box{t: t, most: 2, lists: map[string][]map[string]any{
		"dcim/sites":      {{"id": 7, "name": "Sydney", "slug": "syd", "time_zone": "Australia/Sydney", "region": object{"name": "APAC"}}},
		"dcim/interfaces": {}, "ipam/ip-addresses": {}, "dcim/devices": {},
	}}
	for i := range n {
		b.lists["dcim/devices"] = append(b.lists["dcim/devices"], object{"id": i, "name": fmt.Sprint("PC", i), "serial": fmt.Sprint("S10", i), "site": object{"id": 7}, "status": object{"value": "active"}})
	}
	return b
}

func open(t *testing.T, b *box, service *sourcetest.Service, change func(*netbox.Config)) *netbox.Source {
	t.Helper()
	service.Next = b
	if service.Authorization == "" {
		service.Authorization = "Token abc"
	}
	_, token, _ := strings.Cut(service.Authorization, " ")
	b.url = service.Start(t)
	cfg := netbox.Config{URL: b.url, Token: secret.Ref(sourcetest.Secretly(t, token))}
	if change != nil {
		change(&cfg)
	}
	s, err := netbox.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSource(t *testing.T) {
	sourcetest.Run(t, sourcetest.Case{
		Names: []string{"PC0", "PC1", "PC2", "PC3", "PC4"},
		Good: func(t *testing.T) inventory.Source {
			return open(t, newBox(t, 5), &sourcetest.Service{Authorization: "Bearer nbt_abc.def"}, nil)
		},
		Bad: func(t *testing.T) inventory.Source {
			b := newBox(t, 6)
			b.lists["dcim/devices"][4]["name"], b.lists["dcim/devices"][5]["name"] = nil, "PC4" // names are optional in NetBox
			return open(t, b, &sourcetest.Service{}, nil)
		},
		Broken: func(t *testing.T) inventory.Source { return open(t, newBox(t, 5), &sourcetest.Service{Down: 4}, nil) },
	})
}

func TestFields(t *testing.T) {
	b := newBox(t, 3)
	devices := b.lists["dcim/devices"]
	devices[0]["oob_ip"], devices[0]["primary_ip"], devices[0]["device_type"] = object{"address": "10.9.0.1/24"}, object{"address": "10.0.0.1/24"}, object{"model": "R640"}
	devices[0]["custom_fields"], devices[0]["cluster"] = object{"tier": object{"value": "x", "label": "critical"}, "other": 5}, object{"name": "SQL1"}
	devices[2]["status"] = object{"value": "decommissioning"}
	b.lists["dcim/interfaces"] = []map[string]any{
		{"id": 1, "device": object{"id": 0}, "mac_address": "52:54:00:00:00:01"}, {"id": 2, "device": object{"id": 0}, "mac_address": "52:54:00:00:00:02", "mgmt_only": true},
		{"id": 3, "device": object{"id": 1}, "mac_address": nil}, {"id": 4, "device": object{"id": 1}, "mac_address": "52:54:00:00:00:04", "mgmt_only": true},
	}
	b.lists["ipam/ip-addresses"] = []map[string]any{{"address": "10.9.0.2/24", "assigned_object_type": "dcim.interface", "assigned_object_id": 4},
		{"address": "10.9.0.3/24", "assigned_object_type": "virtualization.vminterface", "assigned_object_id": 4}}
	b.lists["virtualization/virtual-machines"] = []map[string]any{{"id": 0, "name": "VM0", "status": object{"value": "active"}}}
	b.lists["virtualization/interfaces"] = []map[string]any{{"id": 1, "virtual_machine": object{"id": 0}, "mac_address": "52:54:00:00:00:09"}}
	f, err := inventory.Load(t.Context(), inventory.Options{}, open(t, b, &sourcetest.Service{}, func(c *netbox.Config) {
		c.VMs, c.Query, c.Fields = true, "role=pc", map[string]string{"tier": "tier"}
	}))
	if err != nil || len(f.Hosts) != 4 || b.query != "pc" {
		t.Fatalf("%+v, %v", f, err)
	}
	h := f.Hosts[0]
	if h.Site != "Sydney" || h.TimeZone != "Australia/Sydney" || h.Region != "APAC" || h.Address != "10.0.0.1" || h.Group != "SQL1" || h.Tier != inventory.Critical ||
		fmt.Sprint(h.Routes) != "[{redfish 10.9.0.1}]" || fmt.Sprint(h.MAC) != "[52:54:00:00:00:01]" || h.Labels["model"] != "R640" {
		t.Errorf("%+v", h)
	}
	if fmt.Sprint(f.Hosts[1].Routes) != "[{redfish 10.9.0.2}]" || len(f.Hosts[1].MAC) != 0 || f.Hosts[2].State != inventory.Retired || fmt.Sprint(f.Hosts[3].MAC) != "[52:54:00:00:00:09]" {
		t.Errorf("%+v", f.Hosts[1:])
	}
}

func TestCircle(t *testing.T) {
	b := newBox(t, 1)
	loop := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"next":"%s/api/dcim/sites/?limit=1","results":[]}`, b.url)
	})
	service := &sourcetest.Service{}
	src := open(t, b, service, nil)
	service.Next = loop
	if _, err := inventory.Load(t.Context(), inventory.Options{}, src); err == nil || !strings.Contains(err.Error(), "in a circle") {
		t.Errorf("got %v", err)
	}
}
