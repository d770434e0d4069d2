package lab

import (
	"fmt"
	"path/filepath"
	"strings"

	"unbrick/remediate/driver/openstack/openstacktest"
)

// newOpenStack plays a cloud whose servers boot the rescue image themselves, in Nova's rescue
// mode: there is no helper, and no snapshot.
func newOpenStack(dir, url string) (*cloud, error) {
	const name = "unbrick-lab"
	s := openstacktest.New()
	return &cloud{
		kind:    "openstack",
		source:  "cloud: " + name,
		handler: s,
		files: map[string]string{"clouds.yaml": fmt.Sprintf(`clouds:
  %s:
    auth: {auth_url: "%s/identity/v3", username: operator, password: "%s", user_domain_name: Default, project_name: fleet, project_domain_name: Default}
    region_name: RegionOne
`, name, url, s.Password)},
		env:       map[string]string{"OS_CLIENT_CONFIG_FILE": filepath.Join(dir, "clouds.yaml")},
		snapshots: func() int { return 0 },
		launch: func(h spec, address string, protected bool) (placed, error) {
			more := openstacktest.Object{"locked": protected, "addresses": openstacktest.Object{"corp": []any{openstacktest.Object{
				"OS-EXT-IPS-MAC:mac_addr": h.board.mac, "addr": address, "OS-EXT-IPS:type": "fixed"}}}}
			s.AddServer(openstacktest.Server{ID: h.UUID, Name: h.Name, Volume: h.number%2 == 1, More: more})
			return placed{address: name + "/" + h.UUID,
				look: func() sight { return lookOpenStack(s, h.UUID) }, shown: func() string { return showOpenStack(s, h.UUID) }}, nil
		},
	}, nil
}

func lookOpenStack(s *openstacktest.Cloud, id string) (t sight) {
	status, boots, last := s.Stands(id)
	t.runs, t.starts = status == "ACTIVE" || status == "RESCUE", boots
	if last != openstacktest.Disk {
		t.disc = last
	}
	return t
}

// showOpenStack is a server and what was made for it: an image has its id in its name.
func showOpenStack(s *openstacktest.Cloud, id string) (text string) {
	for line := range strings.Lines(s.View()) {
		if strings.Contains(line, id) {
			text += line
		}
	}
	return text
}
