package ansible_test

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"unbrick/inventory/source/ansible"
	"unbrick/remediate/lab/testenv"
)

// TestAgainstAnsible: what ansible-inventory says of a file, we say too.
func TestAgainstAnsible(t *testing.T) {
	testenv.Need(t, "ansible-inventory") // ansible-core
	const odd = `
[b]
h[1:9:4] unbrick_site="a # b" # the comment
h20 unbrick_site='it is' unbrick_region=x
[a]
h20
h1 unbrick_tier=low
[top:children]
b
a
[a:vars]
unbrick_country=FR
unbrick_timezone = Europe/Paris
[b:vars]
unbrick_country=DE
[top:vars]
unbrick_country=US
unbrick_opens=09:00
[zz]
h[a:c].x.example:5986
`
	for name, text := range map[string]string{"ini": strings.Replace(ini, " ; not a comment here is an error", "", 1), "odd": odd, "yaml.yml": strings.ReplaceAll(yml, "!vault ", "")} {
		text = strings.Replace(text, "[au:children]\nau\n", "", 1) // Ansible refuses a file with a circle
		path := file(t, name, text)
		out, err := exec.Command("ansible-inventory", "-i", path, "--list").Output()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var theirs struct {
			Meta struct {
				Vars map[string]map[string]any `json:"hostvars"`
			} `json:"_meta"`
		}
		if err := json.Unmarshal(out, &theirs); err != nil {
			t.Fatal(err)
		}
		ours := load(t, ansible.Source{Path: path})
		if len(ours) < 5 {
			t.Errorf("%s: %d hosts", name, len(ours))
		}
		seen := 0
		for host, vars := range theirs.Meta.Vars {
			h, ok := ours[host]
			if !ok {
				t.Errorf("%s: no host %s", name, host)
				continue
			}
			seen++
			tier := h.Tier.String()
			for field, got := range map[string]string{"unbrick_site": h.Site, "unbrick_country": h.Country, "unbrick_timezone": h.TimeZone, "unbrick_opens": h.Opens,
				"unbrick_region": h.Region, "unbrick_tier": tier, "ansible_host": h.Address} {
				want, ok := vars[field].(string)
				if ok && got != want || !ok && got != "" && field != "unbrick_tier" && (field != "ansible_host" || vars["unbrick_address"] == nil) {
					t.Errorf("%s: %s of %s is %q, Ansible has %v", name, field, host, got, vars[field])
				}
			}
		}
		if seen < 5 {
			t.Errorf("%s: only %d hosts to compare", name, seen)
		}
	}
}
