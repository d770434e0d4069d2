package gce

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"

	api "unbrick/inventory/source/gce"
)

// An address names an instance, as a route has it: PROJECT/ZONE/NAME, or the link that gcloud
// prints with --uri (https://…/projects/PROJECT/zones/ZONE/instances/NAME). NAME may be the
// numeric id.
type address struct{ project, zone, name string }

var part = regexp.MustCompile(`^[a-z0-9][a-z0-9.:_-]*$`)

func parseAddress(text string) (address, error) {
	words := strings.Split(strings.Trim(api.Partial(text), "/"), "/")
	if len(words) == 6 && words[0] == "projects" && words[2] == "zones" && words[4] == "instances" {
		words = []string{words[1], words[3], words[5]}
	}
	if len(words) != 3 || !part.MatchString(words[0]) || !part.MatchString(words[1]) || !part.MatchString(words[2]) {
		return address{}, fmt.Errorf("%q is no address of an instance of Compute Engine\nwrite PROJECT/ZONE/NAME", text)
	}
	return address{words[0], words[1], words[2]}, nil
}

// in returns the path of something in the instance's zone.
func (a address) in(kind, name string) string {
	return fmt.Sprintf("projects/%s/zones/%s/%s/%s", url.PathEscape(a.project), url.PathEscape(a.zone), kind, url.PathEscape(name))
}

func (a address) String() string { return a.project + "/" + a.zone + "/" + a.name }
