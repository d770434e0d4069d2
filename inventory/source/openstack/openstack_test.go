package openstack_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/inventory/source/openstack"
	"unbrick/inventory/sourcetest"
	"unbrick/remediate/driver/openstack/openstacktest"
)

type object = openstacktest.Object

func uuid(n int) string { return fmt.Sprintf("7b0c1f3e-0000-4000-8000-%012d", n) }

func newCloud(n int) *openstacktest.Cloud {
	c := openstacktest.New()
	for i := range n {
		c.AddServer(openstacktest.Server{ID: uuid(i), Name: fmt.Sprint("ws", i), More: object{"metadata": object{"tier": "critical"}}})
	}
	return c
}

// front throttles every other request that is no login, and from the n-th on refuses all.
func front(c http.Handler, throttle bool, down int64) http.Handler {
	var n atomic.Int64
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.URL.Path, "/servers") {
			c.ServeHTTP(w, r)
			return
		}
		switch i := n.Add(1); {
		case down > 0 && i >= down:
			openstacktest.Refuse(w, r)
		case throttle && i%2 == 1:
			openstacktest.Throttle(w, r)
		default:
			c.ServeHTTP(w, r)
		}
	})
}

// environment logs in as an openrc file has it.
func environment(t *testing.T, url, password string) {
	t.Helper()
	for k, v := range map[string]string{
		"OS_CLOUD": "", "OS_AUTH_URL": url + "/identity/v3", "OS_USERNAME": "operator", "OS_PASSWORD": password, "OS_USER_DOMAIN_NAME": "Default",
		"OS_PROJECT_NAME": "fleet", "OS_PROJECT_DOMAIN_NAME": "Default", "OS_REGION_NAME": "RegionOne", "OS_CACERT": "",
	} {
		t.Setenv(k, v)
	}
}

func open(t *testing.T, h http.Handler, cfg openstack.Config) *openstack.Source {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	environment(t, server.URL, "s3cret")
	client, err := openstack.Dial(openstack.Connection{Tries: 3, Pause: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	s, err := openstack.NewWith(cfg, client)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSource(t *testing.T) {
	sourcetest.Run(t, sourcetest.Case{
		Names: []string{"ws0", "ws1", "ws2", "ws3", "ws4"},
		Good:  func(t *testing.T) inventory.Source { return open(t, front(newCloud(5), true, 0), openstack.Config{}) },
		Bad: func(t *testing.T) inventory.Source {
			c := newCloud(4)
			c.AddServer(openstacktest.Server{ID: uuid(8)}) // a name may be empty
			c.AddServer(openstacktest.Server{ID: uuid(9), Name: "ws4"})
			return open(t, c, openstack.Config{})
		},
		Broken: func(t *testing.T) inventory.Source { return open(t, front(newCloud(5), false, 2), openstack.Config{}) },
	})
}

// What is asked for is what comes.
func TestConfig(t *testing.T) {
	c := newCloud(2)
	c.AddImage(object{"id": "win", "name": "Windows", "status": "active", "os_type": "windows"})
	c.AddServer(openstacktest.Server{ID: uuid(7), Name: "sql", More: object{"image": object{"id": "win"}, "OS-EXT-AZ:availability_zone": "az2"}})
	c.AddServer(openstacktest.Server{ID: uuid(8), Name: "vol", Volume: true})
	c.AddVolume("v1", object{"bootable": "true", "volume_image_metadata": object{"os_type": "windows"}})
	c.AddServer(openstacktest.Server{ID: uuid(6), Name: "volwin", Volume: true, More: object{"os-extended-volumes:volumes_attached": []any{object{"id": "v0"}, object{"id": "v1"}}}})
	c.AddServer(openstacktest.Server{ID: uuid(9), Name: "off", More: object{"status": "SHUTOFF"}})
	c.AddServer(openstacktest.Server{ID: uuid(10), Name: "gone", More: object{"status": "SOFT_DELETED"}})
	for _, k := range []struct {
		cfg  openstack.Config
		want string
	}{
		{openstack.Config{}, "ws0 ws1 sql vol volwin off"}, {openstack.Config{Windows: true}, "sql volwin"}, {openstack.Config{Running: true}, "ws0 ws1 sql vol volwin"},
		{openstack.Config{Zone: "az2"}, "sql"}, {openstack.Config{Metadata: map[string]string{"tier": "critical"}}, "ws0 ws1"},
		{openstack.Config{Names: []string{"ws1", uuid(9), "nobody"}}, "ws1 off !nobody"},
	} {
		var names []string
		for h, err := range open(t, c, k.cfg).Hosts(t.Context()) {
			switch {
			case err != nil && strings.Contains(err.Error(), `no server "nobody"`):
				names = append(names, "!nobody")
			case err != nil:
				t.Fatal(err)
			default:
				names = append(names, h.Name)
			}
		}
		if strings.Join(names, " ") != k.want {
			t.Errorf("%+v: %q, want %q", k.cfg, names, k.want)
		}
	}
}

func TestFields(t *testing.T) {
	c := newCloud(1)
	c.Set(uuid(0), "addresses", object{"lan": []any{object{"addr": "203.0.113.9", "OS-EXT-IPS:type": "floating", "OS-EXT-IPS-MAC:mac_addr": "fa:16:3e:00:00:01"},
		object{"addr": "10.1.2.3", "OS-EXT-IPS:type": "fixed", "OS-EXT-IPS-MAC:mac_addr": "fa:16:3e:00:00:01"}}})
	f, err := inventory.Load(t.Context(), inventory.Options{}, open(t, c, openstack.Config{Fields: map[string]string{"tier": "tier"}}))
	if err != nil || len(f.Hosts) != 1 {
		t.Fatalf("%+v, %v", f, err)
	}
	h := f.Hosts[0]
	if h.UUID != uuid(0) || h.Site != "nova" || h.Region != "RegionOne" || h.Address != "10.1.2.3" || h.Tier != inventory.Critical || h.Labels["power"] != "active" ||
		h.Labels["model"] != "m1.large" || fmt.Sprint(h.MAC) != "[fa:16:3e:00:00:01]" || fmt.Sprint(h.Routes) != "[{openstack "+uuid(0)+"}]" {
		t.Errorf("%+v", h)
	}
}

// Check names the policy that forbids it; a token that has ended is renewed, and a password
// that no longer works is not repeated in the error.
func TestCheck(t *testing.T) {
	c := newCloud(5)
	s := open(t, c, openstack.Config{})
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
	c.Lives(1)
	n := 0
	for _, err := range s.Hosts(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 5 {
		t.Errorf("%d hosts after the token ended", n)
	}
	c.Deny("os_compute_api:servers:detail", true)
	if err := s.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "Policy doesn't allow os_compute_api:servers:detail") {
		t.Error(err)
	}
	c.Password = "an0ther"
	c.Lives(0)
	if err := s.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "the token has ended, and there is no other") || strings.Contains(err.Error(), "s3cret") {
		t.Error(err)
	}
}

func TestNew(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "clouds.yaml")
	if err := os.WriteFile(file, []byte("clouds: {corp: {auth: {auth_url: 'https://k/v3', username: u, password: p, project_name: x}}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	environment(t, "https://k", "p")
	t.Setenv("OS_CLIENT_CONFIG_FILE", file)
	if _, err := openstack.New(openstack.Config{Cloud: "corp"}); err != nil {
		t.Error(err)
	}
	// Credentials that are not there are told to whoever asks, not to who only reads a saved fleet.
	asked := func(cfg openstack.Config) error {
		t.Helper()
		source, err := openstack.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range source.Hosts(t.Context()) {
			if err == nil || err.Error() != source.Check(t.Context()).Error() {
				t.Errorf("hosts: %v", err)
			}
		}
		return source.Check(t.Context())
	}
	if err := asked(openstack.Config{Cloud: "crop"}); err == nil || !strings.Contains(err.Error(), "clouds.yaml") {
		t.Error(err)
	}
	if _, err := openstack.New(openstack.Config{Fields: map[string]string{"teir": "x"}}); err == nil || !strings.Contains(err.Error(), "no field") {
		t.Error(err)
	}
	t.Setenv("OS_AUTH_URL", "")
	if err := asked(openstack.Config{}); err == nil || !strings.Contains(err.Error(), "OS_AUTH_URL is not set") {
		t.Error(err)
	}
	t.Setenv("OS_AUTH_URL", "https://k")
	t.Setenv("OS_CACERT", filepath.Join(dir, "none"))
	if err := asked(openstack.Config{}); err == nil {
		t.Error("an authority that is not there was left out without a word")
	}
}
