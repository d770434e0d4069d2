package openstacktest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

func (c *Cloud) nova(w http.ResponseWriter, r *http.Request, p []string) *refusal {
	switch {
	case r.Method == http.MethodGet && p[1] == "servers" && (len(p) == 2 || len(p) == 3 && p[2] == "detail"):
		return c.list(w, r)
	case r.Method == http.MethodGet && p[1] == "flavors":
		return c.flavors(w, p)
	case len(p) >= 3 && p[1] == "servers" && c.find(p[2]) == nil:
		return notFound("Instance", p[2])
	case r.Method == http.MethodGet && len(p) == 3 && p[1] == "servers":
		if err := c.permit("os_compute_api:servers:show"); err != nil {
			return err
		}
		reply(w, Object{"server": c.find(p[2]).show(r)})
		return nil
	case r.Method == http.MethodPost && len(p) == 4 && p[3] == "action":
		return c.action(w, r, c.find(p[2]))
	}
	return notFound("Path", r.URL.Path)
}

// show leaves out what older microversions do not know: locked is new in 2.9; the flavor is
// inside the server from 2.47 on, and its id before (nova, REST API version history).
func (s *server) show(r *http.Request) Object {
	o := maps.Clone(s.Object)
	if minor(r) < 9 {
		delete(o, "locked")
	}
	if minor(r) < 47 {
		o["flavor"] = Object{"id": flavorID, "links": []any{}}
	}
	o["OS-EXT-STS:vm_state"] = s.vm
	return o
}

const flavorID = "4"

// flavors are one (api-ref, "List Flavors With Details").
func (c *Cloud) flavors(w http.ResponseWriter, p []string) *refusal {
	flavor := Object{"id": flavorID, "name": "m1.large", "ram": 8192, "disk": 80, "vcpus": 4, "swap": "", "rxtx_factor": 1.0, "OS-FLV-EXT-DATA:ephemeral": 0, "OS-FLV-DISABLED:disabled": false, "os-flavor-access:is_public": true, "links": []any{}}
	switch {
	case len(p) == 2 || p[2] == "detail":
		reply(w, Object{"flavors": []any{flavor}})
	case p[2] == flavorID:
		reply(w, Object{"flavor": flavor})
	default:
		return &refusal{404, "itemNotFound", "Flavor " + p[2] + " could not be found."}
	}
	return nil
}

// most is the cap on a page ([api] max_limit).
const most = 2

// list pages by the UUID of the last server (api-ref, "Pagination": servers_links). Without
// "detail" a server is its id and name. A name is a regular expression, which need not be all of
// the name (api-ref, "List Servers").
func (c *Cloud) list(w http.ResponseWriter, r *http.Request) *refusal {
	if err := c.permit("os_compute_api:servers:detail"); err != nil {
		return err
	}
	q := r.URL.Query()
	name, err := regexp.Compile(q.Get("name"))
	if err != nil {
		return &refusal{400, "badRequest", "Invalid input for query parameters name."}
	}
	size := most
	if n, err := strconv.Atoi(q.Get("limit")); err == nil && n > 0 {
		size = min(n, most)
	} else if q.Has("limit") && q.Get("limit") != "0" {
		return &refusal{400, "badRequest", "Invalid input for query parameters limit."}
	}
	items, links, started := []any{}, []any{}, q.Get("marker") == ""
	for _, s := range c.servers {
		if !started {
			started = s.Object["id"] == q.Get("marker")
			continue
		}
		if z := q.Get("availability_zone"); z != "" && s.Object["OS-EXT-AZ:availability_zone"] != z || !name.MatchString(s.Object["name"].(string)) {
			continue
		}
		if len(items) == size {
			q.Set("marker", items[size-1].(Object)["id"].(string))
			links = append(links, Object{"rel": "next", "href": "http://" + r.Host + r.URL.Path + "?" + q.Encode()})
			break
		}
		if strings.HasSuffix(r.URL.Path, "/detail") {
			items = append(items, s.show(r))
		} else {
			items = append(items, Object{"id": s.Object["id"], "name": s.Object["name"], "links": []any{}})
		}
	}
	if !started {
		return &refusal{400, "badRequest", "marker [" + q.Get("marker") + "] not found"}
	}
	reply(w, Object{"servers": items, "servers_links": links})
	return nil
}

// takes is how many requests pass until a task ends.
const takes = 3

// An act is one of the actions: the states that it is for, its task, and its policy (nova,
// nova/compute/api.py, check_instance_state).
type act struct {
	from         []string
	task, policy string
}

func acts() map[string]act {
	return map[string]act{
		"rescue":   {[]string{"active", "stopped", "error"}, "rescuing", "os_compute_api:os-rescue"},
		"unrescue": {[]string{"rescued"}, "unrescuing", "os_compute_api:os-unrescue"},
		"os-stop":  {[]string{"active", "error"}, "powering-off", "os_compute_api:servers:stop"},
		"os-start": {[]string{"stopped"}, "powering-on", "os_compute_api:servers:start"},
		"reboot":   {[]string{"active", "stopped", "paused", "suspended", "error"}, "rebooting_hard", "os_compute_api:servers:reboot"},
	}
}

func (c *Cloud) action(w http.ResponseWriter, r *http.Request, s *server) *refusal {
	var body map[string]json.RawMessage
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil || len(body) != 1 {
		return &refusal{400, "badRequest", "There is no such action"}
	}
	for name, args := range body {
		if name == "lock" || name == "unlock" { // of whoever owns it, in any state
			if err := c.permit("os_compute_api:os-lock-server:" + name); err != nil {
				return err
			}
			s.Object["locked"] = name == "lock"
			c.actions++
			break
		}
		a, ok := acts()[name]
		if !ok {
			return &refusal{400, "badRequest", "There is no such action: " + name}
		}
		if err := c.check(name, a, s); err != nil {
			return err
		}
		end, err := c.begin(r, name, args, s)
		if err != nil {
			return err
		}
		if fault := c.fails[name]; fault != "" {
			delete(c.fails, name)
			end = func() { s.fail(fault) }
		}
		c.actions++
		s.Object["OS-EXT-STS:task_state"], s.left, s.end = a.task, takes, end
		delete(s.Object, "fault")
		if name == "rescue" { // it answers 200 for the sake of old clients (nova, rescue.py)
			reply(w, Object{"adminPass": "not-for-us"})
			return nil
		}
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// check is what Nova's decorators do, in their order: policy, vTPM, lock, state, task.
func (c *Cloud) check(name string, a act, s *server) *refusal {
	id := s.Object["id"]
	switch {
	case c.permit(a.policy) != nil:
		return c.permit(a.policy)
	case name == "rescue" && s.tpm: // nova, reject_vtpm_instances
		return &refusal{409, "conflictingRequest", fmt.Sprintf("Operation 'rescue' not supported for vTPM-enabled instance (%s).", id)}
	case s.Object["locked"] == true:
		return &refusal{409, "conflictingRequest", fmt.Sprintf("Instance %s is locked", id)}
	case !slices.Contains(a.from, s.vm):
		return &refusal{409, "conflictingRequest", fmt.Sprintf("Cannot '%s' instance %s while it is in vm_state %s", name, id, s.vm)}
	case s.left > 0 && name != "reboot":
		return &refusal{409, "conflictingRequest", fmt.Sprintf("Cannot '%s' instance %s while it is in task_state %s", name, id, s.Object["OS-EXT-STS:task_state"])}
	}
	return nil
}

// begin returns what an action does at its end.
func (c *Cloud) begin(r *http.Request, name string, args json.RawMessage, s *server) (func(), *refusal) {
	if name == "reboot" && !strings.Contains(string(args), "HARD") && s.vm != "active" {
		return nil, &refusal{409, "conflictingRequest", "a soft reboot is for servers that are active"}
	}
	if name == "os-stop" {
		return func() { s.be("stopped", "SHUTOFF") }, nil
	}
	if name != "rescue" {
		return func() { s.be("active", "ACTIVE"); s.boots = append(s.boots, Disk) }, nil
	}
	var body struct {
		Ref string `json:"rescue_image_ref"`
	}
	_ = json.Unmarshal(args, &body)
	image := c.image(body.Ref)
	volume := s.Object["image"] == ""
	switch {
	case image == nil: // without one it would boot the server's own image: that is of no use here
		return nil, &refusal{400, "badRequest", fmt.Sprintf("Requested rescue image '%s' is not supported", body.Ref)}
	case volume && minor(r) < 87: // nova, rescue.py and API version history, 2.87
		return nil, &refusal{400, "badRequest", fmt.Sprintf("Instance %s cannot be rescued: Cannot rescue a volume-backed instance", s.Object["id"])}
	case volume && !c.BFV:
		return nil, &refusal{400, "badRequest", fmt.Sprintf("Instance %s cannot be rescued: Host unable to rescue a volume-backed instance", s.Object["id"])}
	}
	return func() {
		stable := image.Object["hw_rescue_device"] != nil || image.Object["hw_rescue_bus"] != nil // doc/source/user/rescue.rst
		if image.Object["status"] != "active" || volume && !stable {
			s.fail("the rescue image cannot be used")
			return
		}
		s.be("rescued", "RESCUE")
		s.boots = append(s.boots, string(image.data))
	}, nil
}

func (s *server) fail(fault string) {
	s.be("error", "ERROR")
	s.Object["fault"] = Object{"code": 500, "message": fault}
}
