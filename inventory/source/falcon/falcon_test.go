package falcon_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/inventory/secret"
	"unbrick/inventory/source/falcon"
	"unbrick/inventory/sourcetest"
)

// A console answers as CrowdStrike's does. Source of each check: the collection "Hosts" at
// developer.crowdstrike.com/api-reference, and the page on rate limits of its documentation.
type console struct {
	t       *testing.T
	devices []map[string]any
	filter  string
	gone    map[string]bool // deleted between the list and the details
	scrolls map[string]int
}

func (c *console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method + r.URL.Path {
	case "GET/devices/queries/devices-scroll/v1":
		c.list(w, r)
	case "POST/devices/entities/devices/v2":
		var body struct{ IDs []string }
		// PostDeviceDetailsV2: at most 5,000 ids.
		if json.NewDecoder(r.Body).Decode(&body) != nil || len(body.IDs) == 0 || len(body.IDs) > 5000 {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		out := []any{}
		for _, id := range body.IDs {
			for _, d := range c.devices {
				if d["device_id"] == id && !c.gone[id] {
					out = append(out, d)
				}
			}
		}
		json.NewEncoder(w).Encode(map[string]any{"resources": out, "errors": []any{}})
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// list is QueryDevicesByFilterScroll: limit 1 to 5,000, and an offset that is a token of the
// answer before, good once and for two minutes.
func (c *console) list(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	limit, _ := strconv.Atoi(q.Get("limit"))
	at, known := c.scrolls[q.Get("offset")]
	if limit < 1 || limit > 5000 || q.Get("offset") != "" && !known {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c.filter = q.Get("filter")
	delete(c.scrolls, q.Get("offset"))
	ids := []string{}
	for _, d := range c.devices[at:min(at+limit, len(c.devices))] {
		ids = append(ids, d["device_id"].(string))
	}
	token := ""
	if at+limit < len(c.devices) {
		token = fmt.Sprint("scroll-", at+limit)
		c.scrolls[token] = at + limit
	}
	json.NewEncoder(w).Encode(map[string]any{"resources": ids, "errors": []any{},
		"meta": map[string]any{"pagination": map[string]any{"total": len(c.devices), "offset": token}}})
}

func newConsole(t *testing.T, n int) *console {
	c := &console{t: t, scrolls: map[string]int{}, gone: map[string]bool{}}
	for i := range n {
		c.devices = append(c.devices, map[string]any{"device_id": fmt.Sprintf("%032x", i), "hostname": fmt.Sprint("PC", i), "serial_number": fmt.Sprint("S10", i),
			"last_seen": time.Date(2024, 7, 19, 4, 30, i, 0, time.UTC).Format(time.RFC3339)})
	}
	return c
}

func open(t *testing.T, c *console, service *sourcetest.Service, change func(*falcon.Config)) *falcon.Source {
	t.Helper()
	service.Next, service.Login = c, "/oauth2/token"
	cfg := falcon.Config{URL: service.Start(t), ClientID: "me", Secret: secret.Ref(sourcetest.Secretly(t, sourcetest.Secret)), Page: 2}
	if change != nil {
		change(&cfg)
	}
	s, err := falcon.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSource(t *testing.T) {
	// "Too many requests" comes with the time from which on one may ask again, in seconds since 1970.
	busy := func(h http.Header) { h.Set("X-RateLimit-RetryAfter", fmt.Sprint(time.Now().Unix())) }
	sourcetest.Run(t, sourcetest.Case{
		Names: []string{"PC0", "PC1", "PC2", "PC3", "PC4"},
		Good: func(t *testing.T) inventory.Source {
			return open(t, newConsole(t, 5), &sourcetest.Service{Busy: 3, Wait: busy, Lives: 3}, nil)
		},
		Bad: func(t *testing.T) inventory.Source {
			c := newConsole(t, 6)
			c.devices[4]["hostname"], c.devices[5]["hostname"] = "", "PC4"
			return open(t, c, &sourcetest.Service{}, nil)
		},
		Broken: func(t *testing.T) inventory.Source {
			return open(t, newConsole(t, 5), &sourcetest.Service{Down: 5}, nil)
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

func TestFields(t *testing.T) {
	c := newConsole(t, 3)
	for k, v := range map[string]any{"mac_address": "52-54-00-12-34-56", "local_ip": "10.0.0.5", "machine_domain": "corp.example", "site_name": "SYD", "product_type_desc": "Domain Controller", "system_product_name": "R640"} {
		c.devices[0][k] = v
	}
	c.devices[2]["hostname"] = "PC1" // installed anew: two records of one host
	f := load(t, open(t, c, &sourcetest.Service{}, nil))
	h := f.Hosts[0]
	if h.Tier != inventory.Dependency || h.Address != "pc0.corp.example" || h.Site != "SYD" || h.MAC[0] != "52:54:00:12:34:56" || h.Labels["model"] != "R640" || h.Seen().Minute() != 30 {
		t.Errorf("%+v", h)
	}
	if len(f.Hosts) != 2 || f.Hosts[1].Serial != "S102" || f.Aside != 1 {
		t.Errorf("the older record: %+v, %+v", f.Hosts, f.Summary)
	}
}

func TestAffected(t *testing.T) {
	c := newConsole(t, 1)
	window := &inventory.Incident{From: time.Date(2024, 7, 19, 4, 9, 0, 0, time.UTC), Until: time.Date(2024, 7, 19, 5, 27, 0, 0, time.UTC)}
	load(t, open(t, c, &sourcetest.Service{}, func(cfg *falcon.Config) { cfg.Affected, cfg.Filter = window, "tags:'x',tags:'y'" }))
	const want = "platform_name:'Windows'+last_seen:>='2024-07-19T04:09:00Z'+last_seen:<='2024-07-19T05:32:00Z'+(tags:'x',tags:'y')"
	if c.filter != want {
		t.Errorf("asked for %s\nwant      %s", c.filter, want)
	}
}

func TestGoneMeanwhile(t *testing.T) {
	c := newConsole(t, 5)
	c.gone[c.devices[1]["device_id"].(string)] = true
	f := load(t, open(t, c, &sourcetest.Service{}, nil))
	if len(f.Hosts) != 4 || !strings.Contains(strings.Join(f.Warnings.Lines(), " "), "1 hosts are listed and have no details") {
		t.Errorf("%d hosts, %q", len(f.Hosts), f.Warnings.Lines())
	}
}
