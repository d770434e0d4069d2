package gce_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"unbrick/inventory"
	"unbrick/inventory/source/gce"
	"unbrick/inventory/sourcetest"
	"unbrick/remediate/driver/gce/gcetest"
)

type object = gcetest.Object

// newServer returns a project with n Windows instances in two zones.
func newServer(n int) *gcetest.Server {
	s := gcetest.New("corp-prod")
	for i := range n {
		s.AddInstance(gcetest.Instance{Zone: []string{"europe-west1-b", "europe-west1-c"}[min(i/2, 1)], Name: fmt.Sprint("ws", i),
			Attached: object{"licenses": []any{"https://x/projects/windows-cloud/global/licenses/windows-server-2022-dc"}},
			More:     object{"labels": object{"tier": "critical"}}})
	}
	return s
}

// front throttles every other request, and from the n-th on refuses all.
func front(s *gcetest.Server, throttle bool, down int64) http.Handler {
	var n atomic.Int64
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch i := n.Add(1); {
		case down > 0 && i >= down:
			gcetest.Refuse(w, r)
		case throttle && i%2 == 1:
			gcetest.Throttle(w, r)
		default:
			s.ServeHTTP(w, r)
		}
	})
}

func open(t *testing.T, h http.Handler, cfg gce.Config) *gce.Source {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	client, err := gce.Dial(gce.Connection{Endpoint: server.URL + "/compute/v1", Tokens: oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "t0"}), Tries: 3, Pause: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Projects = []string{"corp-prod"}
	s, err := gce.NewWith(cfg, client)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestDark: instances of a zone that does not answer are missing, and not gone.
func TestDark(t *testing.T) {
	for _, c := range []struct {
		zones []string
		want  string
	}{
		{nil, "ws2 ws3 ws4 zone europe-west1-b of project corp-prod does not answer"},
		{[]string{"europe-west1-c"}, "ws2 ws3 ws4"},
		{[]string{"europe-west1-b", "europe-west1-c"}, "ws2 ws3 ws4 zone europe-west1-b of project corp-prod does not answer"},
	} {
		server := newServer(5)
		server.Darken("europe-west1-b")
		var got []string
		for h, err := range open(t, server, gce.Config{Zones: c.zones}).Hosts(t.Context()) {
			var partial *inventory.PartialError
			switch {
			case errors.As(err, &partial):
				got = append(got, partial.Missing)
			case err != nil:
				t.Error(err)
			default:
				got = append(got, h.Name)
			}
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%q: %s, want %s", c.zones, s, c.want)
		}
	}
}

// TestTwins: a name is its instance's own in its zone alone.
func TestTwins(t *testing.T) {
	server := newServer(1)
	for _, zone := range []string{"europe-west1-b", "europe-west1-c"} {
		server.AddInstance(gcetest.Instance{Zone: zone, Name: "web"})
	}
	f, err := inventory.Load(t.Context(), inventory.Options{}, open(t, server, gce.Config{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range f.Hosts {
		if h.Name != "ws0" && h.Name != "web-"+h.Labels["instance"] {
			t.Errorf("%s, %v", h.Name, h.Labels)
		}
	}
	if len(f.Hosts) != 3 || f.Warnings.Total != 2 {
		t.Errorf("%d hosts, %d warnings", len(f.Hosts), f.Warnings.Total)
	}
}

func TestSource(t *testing.T) {
	sourcetest.Run(t, sourcetest.Case{
		Names: []string{"ws0", "ws1", "ws2", "ws3", "ws4"},
		Good:  func(t *testing.T) inventory.Source { return open(t, front(newServer(5), true, 0), gce.Config{}) },
		Bad: func(t *testing.T) inventory.Source {
			s := newServer(4)
			s.AddInstance(gcetest.Instance{Zone: "europe-west1-c", Name: "ws4", More: object{"labels": object{"tier": "odd"}}})
			return open(t, s, gce.Config{Fields: map[string]string{"tier": "tier"}})
		},
		Broken: func(t *testing.T) inventory.Source { return open(t, front(newServer(5), false, 2), gce.Config{}) },
	})
}

// What is asked for is what comes.
func TestConfig(t *testing.T) {
	s := newServer(4)
	s.AddInstance(gcetest.Instance{Zone: "us-east1-b", Name: "web", More: object{"status": "TERMINATED", "tags": object{"items": []any{"dmz"}}}})
	s.AddGroup("europe-west1-b", "pool", "ws1", "ws0")
	for _, c := range []struct {
		cfg  gce.Config
		want string
	}{
		{gce.Config{}, "ws0 ws1 ws2 ws3 web"}, {gce.Config{Windows: true, Zones: []string{"europe-west1-c"}}, "ws2 ws3"}, {gce.Config{Running: true}, "ws0 ws1 ws2 ws3"},
		{gce.Config{Tag: "dmz"}, "web"}, {gce.Config{Filter: "labels.tier=critical"}, "ws0 ws1 ws2 ws3"}, {gce.Config{Group: "europe-west1-b/pool"}, "ws0 ws1"},
		{gce.Config{Names: []string{"ws3", "nobody"}}, "ws3 !nobody"},
	} {
		var names []string
		for h, err := range open(t, s, c.cfg).Hosts(t.Context()) {
			switch {
			case err != nil && strings.Contains(err.Error(), `no instance "nobody"`):
				names = append(names, "!nobody")
			case err != nil:
				t.Fatal(err)
			default:
				names = append(names, h.Name)
			}
		}
		if strings.Join(names, " ") != c.want {
			t.Errorf("%+v: %q, want %q", c.cfg, names, c.want)
		}
	}
}

func TestFields(t *testing.T) {
	s := newServer(1)
	s.Set("europe-west1-b", "ws0", "networkInterfaces", []any{object{"networkIP": "10.1.2.3"}})
	f, err := inventory.Load(t.Context(), inventory.Options{}, open(t, s, gce.Config{Fields: map[string]string{"tier": "tier"}}))
	if err != nil || len(f.Hosts) != 1 {
		t.Fatalf("%+v, %v", f, err)
	}
	h := f.Hosts[0]
	if h.Site != "europe-west1-b" || h.Region != "europe-west1" || h.Address != "10.1.2.3" || h.Tier != inventory.Critical || h.Labels["power"] != "running" ||
		h.Labels["model"] != "n2-standard-4" || fmt.Sprint(h.Routes) != "[{gce corp-prod/europe-west1-b/ws0}]" {
		t.Errorf("%+v", h)
	}
}

// Check names the permission that is missing as Google does.
func TestCheck(t *testing.T) {
	s := newServer(1)
	if err := open(t, s, gce.Config{}).Check(t.Context()); err != nil {
		t.Error(err)
	}
	s.Deny("compute.instances.list", true)
	if err := open(t, s, gce.Config{}).Check(t.Context()); err == nil || !strings.Contains(err.Error(), "Required 'compute.instances.list' permission") {
		t.Error(err)
	}
}

// Credentials are found as Google's tools find them, and renewed when the API takes them no
// more. None of them is in an error.
func TestCredentials(t *testing.T) {
	s := newServer(5)
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	file := filepath.Join(t.TempDir(), "key.json")
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
	save := func(tokens string) {
		b, err := json.Marshal(object{"type": "service_account", "client_email": "unbrick@corp-prod.example", "private_key_id": "k1", "private_key": text, "token_uri": tokens})
		if err == nil {
			err = os.WriteFile(file, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", file)
	t.Setenv("GOOGLE_CLOUD_PROJECT", "corp-prod")
	save(server.URL + "/token")
	src, err := gce.New(gce.Config{Endpoint: server.URL + "/compute/v1"})
	if err != nil {
		t.Fatal(err)
	}
	count := func() (n int) {
		for _, err := range src.Hosts(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		return n
	}
	if n := count(); n != 5 {
		t.Errorf("%d hosts", n)
	}
	s.Lives(2) // the token ends in the middle of the list
	if n := count(); n != 5 {
		t.Errorf("%d hosts after the token ended", n)
	}
	save(server.URL + "/nowhere")
	if src, err = gce.New(gce.Config{Endpoint: server.URL + "/compute/v1"}); err != nil {
		t.Fatal(err)
	}
	err = src.Check(t.Context())
	if err == nil || !strings.Contains(err.Error(), "gcloud auth application-default login") || strings.Contains(err.Error(), "assertion") || strings.Contains(err.Error(), text[40:80]) {
		t.Error(err)
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", filepath.Join(t.TempDir(), "none"))
	src, _ = gce.New(gce.Config{Endpoint: server.URL + "/compute/v1"})
	if err := src.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "cannot log in to Google Cloud") {
		t.Error(err)
	}
}

func TestNew(t *testing.T) {
	t.Setenv("GOOGLE_CLOUD_PROJECT", "")
	t.Setenv("CLOUDSDK_CORE_PROJECT", "")
	for _, c := range []struct {
		cfg  gce.Config
		want string
	}{
		{gce.Config{}, "name one in projects:"}, {gce.Config{Projects: []string{"a/b"}}, "no id of a project"}, {gce.Config{Projects: []string{"corp-prod"}, Group: "pool"}, "ZONE/NAME"},
		{gce.Config{Projects: []string{"corp-prod"}, Fields: map[string]string{"teir": "x"}}, "no field"}, {gce.Config{Projects: []string{"corp-prod"}, Endpoint: "http://compute.example"}, "no address"},
	} {
		if _, err := gce.New(c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.cfg, err, c.want)
		}
	}
}
