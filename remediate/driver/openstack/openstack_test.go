package openstack_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/remediate"
	"unbrick/remediate/driver/drivertest"
	"unbrick/remediate/driver/openstack"
	"unbrick/remediate/driver/openstack/openstacktest"
	"unbrick/remediate/swap/swaptest"
)

const id = "7b0c1f3e-0000-4000-8000-000000000001"

// login has clouds.yaml name a cloud behind an address, with its password where it belongs.
func login(t *testing.T, url, password string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("clouds.yaml", fmt.Sprintf(`clouds:
  corp:
    auth: {auth_url: "%s/identity/v3", username: operator, user_domain_name: Default, project_name: fleet, project_domain_name: Default}
    region_name: RegionOne
`, url))
	write("secure.yaml", fmt.Sprintf(`clouds:
  corp:
    auth: {password: "%s"}
`, password))
	t.Setenv("OS_CLIENT_CONFIG_FILE", filepath.Join(dir, "clouds.yaml"))
	t.Setenv("OS_CLOUD", "")
}

// media serves images that hold their own address.
func media(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "missing") {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		fmt.Fprintf(w, "http://%s%s", r.Host, r.URL.Path)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func target() remediate.Target {
	return remediate.Target{Run: "r1", Attempt: 1, Host: inventory.Host{Name: "ws1"}, Route: inventory.Route{Driver: "openstack", Address: "corp/" + id}}
}

func newDriver() *openstack.Driver {
	return openstack.New(openstack.Options{Every: time.Millisecond, PerSecond: 1e6})
}

// TestDriver passes the suite, cut, throttled and refused at every request, for servers that
// start from images and from volumes.
func TestDriver(t *testing.T) {
	for name, volume := range map[string]bool{"Image": false, "Volume": true} {
		t.Run(name, func(t *testing.T) {
			drivertest.Run(t, func(t *testing.T) drivertest.Rig {
				c := openstacktest.New()
				c.AddServer(openstacktest.Server{ID: id, Name: "ws1", Volume: volume})
				line := swaptest.NewLine(t, swaptest.API{Server: c, Changes: openstacktest.Changes, Throttle: openstacktest.Throttle, Refuse: openstacktest.Refuse})
				login(t, line.URL, c.Password)
				before := c.View()
				return drivertest.Rig{
					Driver: newDriver(), Target: target(), Image: remediate.Image{URL: media(t) + "/i/x/rescue.iso"}, Refuses: true, Few: volume,
					Boots:   func() []string { return c.Boots(id) },
					Actions: c.Actions, Requests: line.Requests, Cut: line.Cut, Revive: line.Revive, Hang: line.Hang,
					Left: func() string {
						if is := c.View(); is != before {
							return "it was\n" + before + "and is\n" + is
						}
						return ""
					},
				}
			})
		})
	}
}
