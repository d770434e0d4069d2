package falcon_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/inventory/secret"
	"unbrick/remediate/probe/falcon"
)

// A console is as strict as CrowdStrike's: tokens by client credentials with status 201, ids
// by a filter in their query language, details of at most 5,000 ids by POST. Source: the
// collection "Hosts" at developer.crowdstrike.com/api-reference.
type console struct {
	t       *testing.T
	devices []map[string]any
	asked   int
}

func (c *console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/oauth2/token" {
		if r.ParseForm(); r.Form.Get("client_id") != "id" || r.Form.Get("client_secret") != "s3cret" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, `{"access_token":"tok","token_type":"bearer","expires_in":1799}`)
		return
	}
	if r.Header.Get("Authorization") != "Bearer tok" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	c.asked++
	out := []any{}
	switch r.Method + r.URL.Path {
	case "GET/devices/queries/devices/v1":
		for _, d := range c.devices {
			for term := range strings.SplitSeq(r.URL.Query().Get("filter"), ",") { // a comma is "or"
				name, ok := strings.CutPrefix(term, "hostname:'")
				if !ok {
					w.WriteHeader(http.StatusBadRequest)
					return
				}
				if strings.Contains(d["hostname"].(string), strings.TrimSuffix(name, "'")) { // parts match, case counts
					out = append(out, d["device_id"])
					break
				}
			}
		}
	case "POST/devices/entities/devices/v2":
		var body struct{ IDs []string }
		if json.NewDecoder(r.Body).Decode(&body) != nil || len(body.IDs) == 0 || len(body.IDs) > 5000 {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		for _, d := range c.devices {
			for _, id := range body.IDs {
				if d["device_id"] == id {
					out = append(out, d)
				}
			}
		}
	default:
		w.WriteHeader(http.StatusNotFound)
		return
	}
	json.NewEncoder(w).Encode(map[string]any{"resources": out, "errors": []any{}})
}

func TestSeenAfter(t *testing.T) {
	repaired := time.Date(2024, 7, 19, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) string { return repaired.Add(d).Format(time.RFC3339) }
	rec := func(id, serial, seen, reduced string) map[string]any {
		return map[string]any{"device_id": id, "hostname": "PC1", "serial_number": serial, "last_seen": seen, "reduced_functionality_mode": reduced}
	}
	for _, test := range []struct {
		name    string
		devices []map[string]any
		host    inventory.Host
		want    string
	}{
		{"after the repair", []map[string]any{rec("a", "S1", at(time.Minute), "no")}, inventory.Host{Name: "PC1", Serial: "s1"}, "was seen by the Falcon console at 2024-07-19T12:01:00Z"},
		{"the name with its domain", []map[string]any{rec("a", "S1", at(time.Minute), "no")}, inventory.Host{Name: "PC1.corp.example"}, "was seen"},
		{"before", []map[string]any{rec("a", "S1", at(-time.Second), "no")}, inventory.Host{Name: "PC1"}, ""},
		{"within the error of clocks", []map[string]any{rec("a", "S1", at(10*time.Second), "no")}, inventory.Host{Name: "PC1"}, ""},
		{"another machine of that name", []map[string]any{rec("a", "S2", at(time.Minute), "no")}, inventory.Host{Name: "PC1", Serial: "S1"}, ""},
		{"the record before it was installed anew", []map[string]any{rec("a", "S1", at(-time.Hour), "no"), rec("b", "S1", at(time.Minute), "no")}, inventory.Host{Name: "PC1", Serial: "S1"}, "12:01:00Z"},
		{"a sensor without its driver", []map[string]any{rec("a", "S1", at(time.Minute), "yes")}, inventory.Host{Name: "PC1"}, "with reduced functionality"},
		{"the name in another case", []map[string]any{rec("a", "S1", at(time.Minute), "no")}, inventory.Host{Name: "pc1"}, "was seen"},
		{"a longer name", []map[string]any{{"device_id": "a", "hostname": "PC12", "last_seen": at(time.Minute)}}, inventory.Host{Name: "PC1"}, ""},
		{"never seen", nil, inventory.Host{Name: "PC1"}, ""},
	} {
		server := httptest.NewServer(&console{t: t, devices: test.devices})
		t.Setenv("FALCON_TEST", "s3cret")
		c, err := falcon.New(falcon.Config{URL: server.URL, ClientID: "id", Secret: secret.Ref("env:FALCON_TEST")})
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.SeenAfter(t.Context(), test.host, repaired)
		server.Close()
		if err != nil || (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
			t.Errorf("%s: %q, %v; want %q", test.name, got, err, test.want)
		}
	}
}

func TestRefusals(t *testing.T) {
	k := &console{t: t}
	server := httptest.NewServer(k)
	defer server.Close()
	t.Setenv("FALCON_TEST", "wrong")
	c, err := falcon.New(falcon.Config{URL: server.URL, ClientID: "id", Secret: secret.Ref("env:FALCON_TEST")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.SeenAfter(t.Context(), inventory.Host{Name: "PC1"}, time.Now()); err == nil || !strings.Contains(err.Error(), "the account lacks a right") {
		t.Errorf("a wrong secret: %v", err)
	}
	if _, err := c.SeenAfter(t.Context(), inventory.Host{Name: "PC1']+x:['"}, time.Now()); err == nil || k.asked > 0 {
		t.Errorf("a name that would change the question: %v, asked %d times", err, k.asked)
	}
}
