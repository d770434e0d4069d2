package gcetest

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// zoneList lists the instances of one zone (reference, instances.list).
func (s *Server) zoneList(r *http.Request, zone string) (any, *refusal) {
	if err := s.permit("compute.instances.list", "projects/"+s.Project); err != nil {
		return nil, err
	}
	items := []any{}
	for _, key := range slices.Sorted(maps.Keys(s.instances)) {
		fits, err := matches(s.instances[key], r.FormValue("filter"))
		if err != nil {
			return nil, err
		}
		if fits && strings.HasPrefix(key, zone+"/") {
			items = append(items, s.instances[key])
		}
	}
	return Object{"items": items}, nil
}

// most is the cap on a page (reference, aggregatedList: 0 to 500).
const most = 500

// aggregated lists all instances by zone, a page at a time. Zones without any say so with a
// warning; those that do not answer are named, if asked for with returnPartialSuccess.
func (s *Server) aggregated(r *http.Request) (any, *refusal) {
	if err := s.permit("compute.instances.list", "projects/"+s.Project); err != nil {
		return nil, err
	}
	size, err := strconv.Atoi(r.FormValue("maxResults"))
	if r.FormValue("maxResults") != "" && (err != nil || size > most) {
		return nil, invalid("maxResults", r.FormValue("maxResults"))
	}
	if len(s.dark) > 0 && r.FormValue("returnPartialSuccess") != "true" {
		return nil, &refusal{503, "backendError", "Backend Error"}
	}
	from, _ := strconv.Atoi(strings.TrimPrefix(r.FormValue("pageToken"), "p"))
	items, keys := Object{"zones/nowhere-a": Object{"warning": Object{"code": "NO_RESULTS_ON_PAGE"}}}, slices.Sorted(maps.Keys(s.instances))
	if size <= 0 {
		size = most
	}
	size = min(size, 2) // a page may have fewer than it was asked for
	n := 0
	for at, key := range keys {
		zone, _, _ := strings.Cut(key, "/")
		fits, err := matches(s.instances[key], r.FormValue("filter"))
		if err != nil {
			return nil, err
		}
		if at < from || !fits || slices.Contains(s.dark, zone) {
			continue
		}
		if n == size {
			return Object{"items": items, "nextPageToken": fmt.Sprint("p", at)}, nil
		}
		scoped, ok := items["zones/"+zone].(Object)
		if !ok {
			scoped = Object{"instances": []any{}}
			items["zones/"+zone] = scoped
		}
		scoped["instances"] = append(scoped["instances"].([]any), s.instances[key])
		n++
	}
	var dark []any
	for _, z := range s.dark {
		dark = append(dark, fmt.Sprintf("%sprojects/%s/zones/%s", root, s.Project, z))
	}
	return Object{"items": items, "unreachables": dark}, nil
}

// matches knows filters of one clause: name=X, status=X, labels.K=X.
func matches(i Object, filter string) (bool, *refusal) {
	if filter == "" {
		return true, nil
	}
	key, value, ok := strings.Cut(filter, "=")
	value = strings.Trim(value, `"`)
	switch label, isLabel := strings.CutPrefix(key, "labels."); {
	case !ok:
		return false, invalid("filter", filter)
	case isLabel:
		labels, _ := i["labels"].(Object)
		return labels[label] == value, nil
	case key == "name" || key == "status":
		return i[key] == value, nil
	}
	return false, invalid("filter", filter)
}

// members lists an instance group (reference, instanceGroups.listInstances).
func (s *Server) members(zone, name string) (any, *refusal) {
	all, ok := s.groups[zone+"/"+name]
	if !ok {
		return nil, notFound("instanceGroups/" + name)
	}
	items := []any{}
	for _, m := range all {
		items = append(items, Object{"instance": fmt.Sprintf("%sprojects/%s/zones/%s/instances/%s", root, s.Project, zone, m), "status": "RUNNING"})
	}
	return Object{"items": items}, nil
}
