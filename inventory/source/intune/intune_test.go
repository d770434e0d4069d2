package intune_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"unbrick/inventory"
	"unbrick/inventory/secret"
	"unbrick/inventory/source/intune"
	"unbrick/inventory/sourcetest"
)

// A graph answers as Microsoft Graph does. Sources: the reference pages of managedDevice and
// device (properties, $select, $filter), "Paging Microsoft Graph data" (the link is opaque) and
// "Microsoft Graph throttling guidance" (429 with Retry-After).
type graph struct {
	t       *testing.T
	url     string
	devices []map[string]any
	page    int
}

func (g *graph) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	most := map[string]int{"/v1.0/deviceManagement/managedDevices": 1000, "/v1.0/devices": 999}[r.URL.Path]
	q := r.URL.Query()
	at, _ := strconv.Atoi(strings.TrimPrefix(q.Get("$skiptoken"), "opaque-"))
	top, _ := strconv.Atoi(q.Get("$top"))
	if most == 0 || q.Get("$skiptoken") == "" && (top > most || q.Get("$filter") != "operatingSystem eq 'Windows'") {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	end := min(at+g.page, len(g.devices))
	answer := map[string]any{"value": g.devices[at:end]}
	if end < len(g.devices) {
		answer["@odata.nextLink"] = fmt.Sprintf("%s%s?$skiptoken=opaque-%d", g.url, r.URL.Path, end)
	}
	json.NewEncoder(w).Encode(answer)
}

func newGraph(t *testing.T, n int) *graph {
	g := &graph{t: t, page: 2, devices: []map[string]any{}}
	for i := range n {
		g.devices = append(g.devices, map[string]any{"id": fmt.Sprint("id", i), "deviceName": fmt.Sprint("PC", i), "serialNumber": fmt.Sprint("S10", i), "lastSyncDateTime": "2024-07-19T04:30:00Z"})
	}
	return g
}

func open(t *testing.T, g *graph, service *sourcetest.Service, change func(*intune.Config)) *intune.Source {
	t.Helper()
	service.Next, service.Login = g, "/corp.example/oauth2/v2.0/token"
	g.url = service.Start(t)
	cfg := intune.Config{Graph: g.url, Authority: g.url, Tenant: "corp.example", ClientID: "me", Secret: secret.Ref(sourcetest.Secretly(t, sourcetest.Secret))}
	if change != nil {
		change(&cfg)
	}
	s, err := intune.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSource(t *testing.T) {
	sourcetest.Run(t, sourcetest.Case{
		Names: []string{"PC0", "PC1", "PC2", "PC3", "PC4"},
		Good: func(t *testing.T) inventory.Source {
			return open(t, newGraph(t, 5), &sourcetest.Service{Busy: 2, Wait: func(h http.Header) { h.Set("Retry-After", "0") }, Lives: 2}, nil)
		},
		Bad: func(t *testing.T) inventory.Source {
			g := newGraph(t, 6)
			g.devices[4]["deviceName"], g.devices[5]["deviceName"] = "Kim's PC", "PC4"
			return open(t, g, &sourcetest.Service{}, nil)
		},
		Broken: func(t *testing.T) inventory.Source { return open(t, newGraph(t, 5), &sourcetest.Service{Down: 2}, nil) },
	})
}

func load(t *testing.T, src inventory.Source) []inventory.Host {
	t.Helper()
	f, err := inventory.Load(t.Context(), inventory.Options{SkipBad: true}, src)
	if err != nil {
		t.Fatal(err)
	}
	return f.Hosts
}

func TestManaged(t *testing.T) {
	g := newGraph(t, 2)
	g.devices[0]["ethernetMacAddress"], g.devices[0]["wiFiMacAddress"], g.devices[0]["model"] = "525400123456", "52:54:00:12:34:57", "Surface"
	g.devices[1]["lastSyncDateTime"] = "0001-01-01T00:00:00Z"
	hosts := load(t, open(t, g, &sourcetest.Service{}, nil))
	if len(hosts[0].MAC) != 2 || hosts[0].Labels["model"] != "Surface" || hosts[0].From[0].Lag.Hours() != 8 || hosts[0].State != "" {
		t.Errorf("%+v", hosts[0])
	}
	if hosts[1].State != inventory.NeverOnline || !hosts[1].Seen().IsZero() {
		t.Errorf("%+v", hosts[1])
	}
}

func TestEntra(t *testing.T) {
	g := &graph{t: t, page: 9, devices: []map[string]any{
		{"id": "1", "displayName": "PC0", "approximateLastSignInDateTime": "2024-07-10T00:00:00Z", "accountEnabled": true},
		{"id": "2", "displayName": "PC1", "approximateLastSignInDateTime": nil, "accountEnabled": true},
		{"id": "3", "displayName": "PC2", "approximateLastSignInDateTime": "2023-07-10T00:00:00Z", "accountEnabled": false},
	}}
	hosts := load(t, open(t, g, &sourcetest.Service{}, func(c *intune.Config) { c.Entra = true }))
	if hosts[0].From[0].Source != "entra" || hosts[0].State != "" || hosts[1].State != inventory.NeverOnline || hosts[2].State != inventory.Retired {
		t.Errorf("%+v", hosts)
	}
}

func TestRefusals(t *testing.T) {
	_, err := inventory.Load(t.Context(), inventory.Options{}, open(t, newGraph(t, 1), &sourcetest.Service{Down: 1}, nil))
	if err == nil || !strings.Contains(err.Error(), "missing is the application permission DeviceManagementManagedDevices.Read.All") {
		t.Errorf("without the right: %v", err)
	}
	g := newGraph(t, 5)
	src := open(t, g, &sourcetest.Service{}, nil)
	g.url = "https://elsewhere.example"
	if _, err := inventory.Load(t.Context(), inventory.Options{}, src); err == nil || !strings.Contains(err.Error(), "another server") {
		t.Errorf("a link to somewhere else: %v", err)
	}
	for _, cfg := range []intune.Config{{}, {Secret: "env:X"}, {Secret: "env:X", Token: "env:Y"}, {Token: "env:Y", Graph: "http://graph.example"}} {
		if _, err := intune.New(cfg); err == nil {
			t.Errorf("%+v is accepted", cfg)
		}
	}
}
