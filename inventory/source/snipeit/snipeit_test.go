package snipeit_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"unbrick/inventory"
	"unbrick/inventory/secret"
	"unbrick/inventory/source/snipeit"
	"unbrick/inventory/sourcetest"
)

type object = map[string]any

// A store answers as Snipe-IT does. Sources: "API Throttling" (500 assets at most, MAX_RESULTS,
// 120 requests a minute, 429 with Retry-After) and "/hardware" of its API reference.
type store struct {
	t      *testing.T
	assets []object
	most   int
	asked  int
	on     func(asked int)
	refuse bool
}

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.asked++
	if s.on != nil {
		s.on(s.asked)
	}
	q := r.URL.Query()
	limit, _ := strconv.Atoi(q.Get("limit"))
	offset, _ := strconv.Atoi(q.Get("offset"))
	switch {
	case r.URL.Path != "/api/v1/hardware" || r.Header.Get("Accept") != "application/json": // it shows its login page otherwise
		w.WriteHeader(http.StatusNotFound)
		return
	case s.refuse:
		fmt.Fprint(w, `{"status":"error","messages":"no","payload":null}`)
		return
	case q.Get("sort") != "id" || q.Get("order") != "asc": // the newest first, otherwise: assets made meanwhile would move the rest
		s.t.Errorf("asked for %s", r.URL.RawQuery)
	}
	limit = min(limit, s.most)
	rows := s.assets[min(offset, len(s.assets)):min(offset+limit, len(s.assets))]
	json.NewEncoder(w).Encode(object{"total": len(s.assets), "rows": rows})
}

func newStore(t *testing.T, n int) *store {
	s := &store{t: t, most: 2, assets: []object{}}
	for i := range n {
		s.assets = append(s.assets, object{"id": i + 1, "name": fmt.Sprint("PC", i), "serial": fmt.Sprint("S10", i), "custom_fields": []any{},
			"status_label": object{"name": "Out", "status_type": "deployable", "status_meta": "deployed"}})
	}
	return s
}

func open(t *testing.T, s *store, service *sourcetest.Service, change func(*snipeit.Config)) *snipeit.Source {
	t.Helper()
	service.Next, service.Authorization = s, "Bearer abc"
	cfg := snipeit.Config{URL: service.Start(t), Token: secret.Ref(sourcetest.Secretly(t, "abc"))}
	if change != nil {
		change(&cfg)
	}
	src, err := snipeit.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

func TestSource(t *testing.T) {
	sourcetest.Run(t, sourcetest.Case{
		Names: []string{"PC0", "PC1", "PC2", "PC3", "PC4"},
		Good: func(t *testing.T) inventory.Source {
			return open(t, newStore(t, 5), &sourcetest.Service{Busy: 2, Wait: func(h http.Header) { h.Set("Retry-After", "0") }}, nil)
		},
		Bad: func(t *testing.T) inventory.Source {
			s := newStore(t, 6)
			s.assets[4]["name"], s.assets[5]["name"] = "Kim&#039;s laptop", "PC4"
			return open(t, s, &sourcetest.Service{}, nil)
		},
		Broken: func(t *testing.T) inventory.Source { return open(t, newStore(t, 5), &sourcetest.Service{Down: 2}, nil) },
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

func TestFields(t *testing.T) {
	s := newStore(t, 4)
	s.most = 500
	s.assets[0]["custom_fields"] = object{"MAC Address": object{"field": "_snipeit_mac_1", "value": "52:54:00:12:34:56"}, "Host": object{"value": "SYD-1"}, "BMC": object{"value": nil}}
	s.assets[0]["location"], s.assets[0]["rtd_location"], s.assets[0]["model"] = object{"name": "R&amp;D Sydney"}, object{"name": "Store"}, object{"name": "T14"}
	s.assets[1]["status_label"] = object{"name": "Ready", "status_type": "deployable", "status_meta": "deployable"}
	s.assets[2]["status_label"] = object{"name": "Gone", "status_type": "archived", "status_meta": "archived"}
	s.assets[3]["name"] = ""
	f := load(t, open(t, s, &sourcetest.Service{}, func(c *snipeit.Config) {
		c.Fields = map[string]string{"mac": "MAC Address", "name": "Host", "redfish": "BMC"}
	}))
	h := f.Hosts[0]
	if h.Name != "SYD-1" || h.Site != "R&D Sydney" || h.MAC[0] != "52:54:00:12:34:56" || h.State != "" || h.Labels["model"] != "T14" || len(h.Routes) != 0 {
		t.Errorf("%+v", h)
	}
	if f.Hosts[1].State != inventory.InStock || f.Hosts[2].State != inventory.Retired || len(f.Hosts) != 3 || f.Warnings.Total != 1 {
		t.Errorf("%+v, %q", f.Hosts, f.Warnings.Lines())
	}
}

// TestDeletedMeanwhile: assets that move forward while pages are read are not missed.
func TestDeletedMeanwhile(t *testing.T) {
	s := newStore(t, 9)
	s.on = func(asked int) {
		if asked == 3 { // four have been read, and the first two go
			s.assets = s.assets[2:]
		}
	}
	f := load(t, open(t, s, &sourcetest.Service{}, nil))
	if len(f.Hosts) != 9 { // those that are gone were read before
		t.Errorf("%d hosts, %q", len(f.Hosts), f.Warnings.Lines())
	}
}

func TestRefusal(t *testing.T) {
	s := newStore(t, 1)
	s.refuse = true
	if _, err := inventory.Load(t.Context(), inventory.Options{}, open(t, s, &sourcetest.Service{}, nil)); err == nil || !strings.Contains(err.Error(), "missing is the permission Assets: View") {
		t.Errorf("got %v", err)
	}
}
