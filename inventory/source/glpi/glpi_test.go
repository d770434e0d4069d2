package glpi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"unbrick/inventory"
	"unbrick/inventory/secret"
	"unbrick/inventory/source/glpi"
	"unbrick/inventory/sourcetest"
)

type object = map[string]any

// A server answers as apirest.php does. Source of each check: apirest.md in GLPI's source.
type server struct {
	t         *testing.T
	lists     map[string][]object
	most      int // what Accept-Range says
	lives     int // requests of one session
	left      int
	opened    int
	closed    int
	asked     int
	down      int
	forbidden bool
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.Trim(strings.TrimPrefix(r.URL.Path, "/apirest.php"), "/")
	if r.Header.Get("App-Token") != "app" { // "App-Token: … you should pass this parameter in all of your api calls"
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if path == "initSession" {
		if r.Header.Get("Authorization") != "user_token abc" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		s.opened++
		s.left = s.lives
		fmt.Fprintf(w, `{"session_token":"s%d"}`, s.opened)
		return
	}
	// "Except initSession … all others require" the session's token.
	if r.Header.Get("Session-Token") != fmt.Sprint("s", s.opened) || r.Header.Get("Authorization") != "" || s.lives > 0 && s.left <= 0 && path != "killSession" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	s.left--
	if path == "killSession" {
		s.closed++
		fmt.Fprint(w, "true")
		return
	}
	if s.asked++; s.down > 0 && s.asked >= s.down {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	s.list(w, r, s.lists[path])
}

// list is "Get all items": range a-b, 206 with Content-Range and Accept-Range while there is
// more, 400 beyond the end or for more than the server's maximum.
func (s *server) list(w http.ResponseWriter, r *http.Request, all []object) {
	var from, to int
	if _, err := fmt.Sscanf(r.URL.Query().Get("range"), "%d-%d", &from, &to); err != nil || from > len(all) || to-from >= s.most {
		s.t.Errorf("asked for %s", r.URL.RawQuery)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	end := min(to+1, len(all))
	w.Header().Set("Content-Range", fmt.Sprintf("%d-%d/%d", from, end-1, len(all)))
	w.Header().Set("Accept-Range", fmt.Sprint("Computer ", s.most))
	if end < len(all) {
		w.WriteHeader(http.StatusPartialContent)
	}
	json.NewEncoder(w).Encode(all[from:end])
}

func newServer(t *testing.T, n int) *server {
	s := &server{t: t, most: 990, lists: map[string][]object{"NetworkPort": {}, "Computer": {}}}
	for i := range n {
		s.lists["Computer"] = append(s.lists["Computer"], object{"id": i + 1, "name": fmt.Sprint("PC", i), "serial": fmt.Sprint("S10", i), "is_template": 0, "is_deleted": 0, "locations_id": 0})
	}
	return s
}

func open(t *testing.T, s *server, change func(*glpi.Config)) *glpi.Source {
	t.Helper()
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	cfg := glpi.Config{URL: h.URL + "/apirest.php", Token: secret.Ref(sourcetest.Secretly(t, "abc")), AppToken: secret.Ref(sourcetest.Secretly(t, "app")), Page: 2}
	if change != nil {
		change(&cfg)
	}
	src, err := glpi.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

func TestSource(t *testing.T) {
	sourcetest.Run(t, sourcetest.Case{
		Names: []string{"PC0", "PC1", "PC2", "PC3", "PC4"},
		Good: func(t *testing.T) inventory.Source {
			s := newServer(t, 5)
			s.lives = 2
			return open(t, s, nil)
		},
		Bad: func(t *testing.T) inventory.Source {
			s := newServer(t, 6)
			s.lists["Computer"][4]["name"], s.lists["Computer"][5]["name"] = "two words", "PC4"
			return open(t, s, nil)
		},
		Broken: func(t *testing.T) inventory.Source {
			s := newServer(t, 5)
			s.down = 3
			return open(t, s, nil)
		},
	})
}

func TestFields(t *testing.T) {
	s := newServer(t, 5)
	c := s.lists["Computer"]
	c[0]["uuid"], c[0]["locations_id"], c[0]["states_id"], c[0]["computermodels_id"], c[0]["last_inventory_update"] =
		"4201F465-2759-A9FB-11BC-CDB864681F4B", "Sydney &#38; Co", "Production", "&nbsp;", "2024-07-19 04:30:00"
	c[1]["states_id"], c[2]["states_id"] = "Ausgemustert", "In stock"
	c[3]["is_template"], c[4]["is_deleted"] = 1, "1"
	s.lists["NetworkPort"] = []object{{"id": 1, "itemtype": "Computer", "items_id": 1, "mac": "52:54:00:12:34:56"}, {"id": 2, "itemtype": "Printer", "items_id": 1, "mac": "52:54:00:12:34:57"},
		{"id": 3, "itemtype": "Computer", "items_id": "1", "mac": ""}}
	f, err := inventory.Load(t.Context(), inventory.Options{}, open(t, s, func(c *glpi.Config) { c.Retired = []string{"ausgemustert"} }))
	if err != nil || len(f.Hosts) != 3 {
		t.Fatalf("%+v, %v", f, err)
	}
	h := f.Hosts[0]
	if h.Site != "Sydney & Co" || h.UUID != "4201f465-2759-a9fb-11bc-cdb864681f4b" || fmt.Sprint(h.MAC) != "[52:54:00:12:34:56]" || h.State != "" || h.Labels["model"] != "" || h.Seen().Minute() != 30 {
		t.Errorf("%+v", h)
	}
	if f.Hosts[1].State != inventory.Retired || f.Hosts[2].State != inventory.InStock {
		t.Errorf("%+v", f.Hosts[1:])
	}
	if s.opened != 1 || s.closed != 1 {
		t.Errorf("%d sessions opened, %d closed", s.opened, s.closed)
	}
}

func TestRefusal(t *testing.T) {
	src := open(t, newServer(t, 1), func(c *glpi.Config) { c.Token = secret.Ref(sourcetest.Secretly(t, "canary-4")) })
	if _, err := inventory.Load(t.Context(), inventory.Options{}, src); err == nil || !strings.Contains(err.Error(), "credentials") || strings.Contains(err.Error(), "canary") {
		t.Errorf("got %v", err)
	}
	if _, err := glpi.New(glpi.Config{URL: "https://glpi.example"}); err == nil {
		t.Error("nobody to log in as")
	}
}
