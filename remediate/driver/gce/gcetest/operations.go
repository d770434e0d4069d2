package gcetest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// takes is how many requests pass until an operation is done.
const takes = 8

// An operation is a change under way (reference, zoneOperations).
type operation struct {
	name, zone, kind, target string
	left                     int
	effect                   func() string // at its end; returns the code of an error
	code                     string
}

func (o *operation) done() bool { return o.left <= 0 }

func (o *operation) show() Object {
	v := Object{"name": o.name, "operationType": o.kind, "targetLink": o.target, "selfLink": o.zone + "/operations/" + o.name, "zone": o.zone, "status": "RUNNING"}
	if o.done() {
		v["status"] = "DONE"
	}
	if o.code != "" {
		v["httpErrorStatusCode"] = 400
		v["error"] = Object{"errors": []any{Object{"code": o.code, "message": "it did not work: " + o.code}}}
	}
	return v
}

// tick lets time pass.
func (s *Server) tick() {
	ended := false
	s.live = slices.DeleteFunc(s.live, func(op *operation) bool {
		if op.left > 0 {
			if op.left--; op.left == 0 {
				op.code = op.effect()
			}
			return false
		}
		op.left, ended = -1, true
		return true
	})
	if ended { // what they did shows on disks too
		s.settle()
	}
}

// settle has the disks say who uses them.
func (s *Server) settle() {
	users := map[string][]any{} // by disk
	for _, i := range s.instances {
		for _, k := range i["disks"].([]any) {
			if source, ok := k.(Object)["source"].(string); ok {
				source = source[strings.Index(source, "projects/"):]
				users[source] = append(users[source], i["selfLink"])
			}
		}
	}
	for link, d := range s.disks {
		d["users"] = users[link]
	}
}

// operation answers at once (reference, zoneOperations.get).
func (s *Server) operation(name string) (any, *refusal) {
	i := slices.IndexFunc(s.ops, func(o *operation) bool { return o.name == name })
	if i < 0 {
		return nil, notFound(name)
	}
	return s.ops[i].show(), nil
}

// wait returns when the operation is done, or before (reference, zoneOperations.wait: it makes
// no promise, and callers ask again).
func (s *Server) wait(name string) (any, *refusal) {
	for range takes / 2 {
		s.tick()
	}
	return s.operation(name)
}

// listOperations knows one filter: what is not done of one resource.
func (s *Server) listOperations(r *http.Request) (any, *refusal) {
	if err := s.permit("compute.zoneOperations.list", "projects/"+s.Project); err != nil {
		return nil, err
	}
	target, ok := strings.CutPrefix(r.FormValue("filter"), `targetLink="`)
	target, ok2 := strings.CutSuffix(target, `" AND status!="DONE"`)
	if !ok || !ok2 {
		return nil, &refusal{400, "invalid", "Invalid value for field 'filter'"}
	}
	items := []any{}
	for _, op := range s.live {
		if op.target == target && !op.done() {
			items = append(items, op.show())
		}
	}
	return Object{"items": items}, nil
}

func hung(i Object, link string) Object {
	for _, k := range i["disks"].([]any) {
		if source, _ := k.(Object)["source"].(string); strings.HasSuffix(source, link) {
			return k.(Object)
		}
	}
	return nil
}

// begin checks a request and returns what its operation does at its end.
func (s *Server) begin(r *http.Request, zone string, on Object, method string) (func() string, *refusal) {
	for _, op := range s.live { // one change of an instance at a time: resourceNotReady
		if op.target == on["selfLink"] && !op.done() {
			return nil, &refusal{400, "resourceNotReady", fmt.Sprintf("The resource '%s' is not ready", on["name"])}
		}
	}
	status, _ := on["status"].(string)
	switch method {
	case "stop":
		return s.stop(r, on, status)
	case "start":
		return s.start(on, status)
	case "attachDisk":
		return s.attach(r, on, status)
	case "detachDisk":
		return s.detach(r, on, status)
	case "setDiskAutoDelete":
		for _, k := range on["disks"].([]any) {
			if k.(Object)["deviceName"] == r.FormValue("deviceName") {
				return func() string { k.(Object)["autoDelete"] = r.FormValue("autoDelete") == "true"; return "" }, nil
			}
		}
		return nil, invalid("deviceName", r.FormValue("deviceName"))
	case "createSnapshot":
		return s.createSnapshot(r, on)
	}
	return nil, notFound(method)
}

func invalid(field, value string) *refusal {
	return &refusal{400, "invalid", fmt.Sprintf("Invalid value for field '%s': '%s'", field, value)}
}

// stop: local SSDs need discardLocalSsd (reference, instances.stop); it goes over STOPPING
// (docs/instances/instance-life-cycle). What is off already stays so.
func (s *Server) stop(r *http.Request, on Object, status string) (func() string, *refusal) {
	if status == "SUSPENDED" {
		return nil, &refusal{400, "invalidResourceUsage", "Instance is suspended"}
	}
	for _, k := range on["disks"].([]any) {
		if k.(Object)["type"] == "SCRATCH" && r.FormValue("discardLocalSsd") != "true" {
			return nil, &refusal{400, "invalid", "VM has a Local SSD attached but an undefined value for `discard-local-ssd`"}
		}
	}
	if status == "RUNNING" {
		on["status"] = "STOPPING"
	}
	return func() string {
		on["status"], on["lastStopTimestamp"] = "TERMINATED", s.now()
		return ""
	}, nil
}

// start: an instance that is off; without a disk to boot there is nothing to start (docs/troubleshooting/vm-startup).
func (s *Server) start(on Object, status string) (func() string, *refusal) {
	if status == "RUNNING" {
		return func() string { return "" }, nil
	}
	if status != "TERMINATED" {
		return nil, &refusal{400, "resourceNotReady", "The resource is not ready"}
	}
	boot := bootOf(on)
	if boot == nil {
		return nil, &refusal{400, "invalid", "Instance has no boot disk"}
	}
	on["status"] = "STAGING"
	return func() string {
		on["status"], on["lastStartTimestamp"] = "RUNNING", s.now()
		source := boot["source"].(string)
		s.events = append(s.events, source[strings.LastIndexByte(source, '/')+1:]+" started")
		return ""
	}, nil
}

func bootOf(on Object) Object {
	for _, k := range on["disks"].([]any) {
		if k.(Object)["boot"] == true {
			return k.(Object)
		}
	}
	return nil
}

// attach: a disk in the zone, by a deviceName that is free, as boot disk only of an instance
// that is off and has none; a disk that is in use refuses (RESOURCE_IN_USE_BY_ANOTHER_RESOURCE,
// docs/disks/attach-disks).
func (s *Server) attach(r *http.Request, on Object, status string) (func() string, *refusal) {
	var body Object
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		return nil, &refusal{400, "parseError", "Parse Error"}
	}
	for field, value := range (Object{"type": "PERSISTENT", "mode": "READ_WRITE"}) { // reference, instances.attachDisk
		if body[field] == nil {
			body[field] = value
		}
	}
	source, _ := body["source"].(string)
	source = source[max(strings.Index(source, "projects/"), 0):]
	d, boot := s.disks[source], body["boot"] == true
	name, _ := body["deviceName"].(string)
	_, zone, _ := strings.Cut(on["zone"].(string), "/zones/")
	switch {
	case d == nil:
		return nil, notFound(source)
	case !strings.Contains(source, "/zones/"+zone+"/") && !strings.Contains(source, "/regions/"+regionOf(zone)+"/"):
		return nil, invalid("disk.source", source)
	case body["type"] != "PERSISTENT" || body["mode"] != "READ_WRITE" && body["mode"] != "READ_ONLY":
		return nil, invalid("mode", fmt.Sprint(body["mode"]))
	case boot && (status != "TERMINATED" || bootOf(on) != nil):
		return nil, &refusal{400, "invalidResourceUsage", "a boot disk is attached to an instance that is off and has none"}
	case status != "TERMINATED" && status != "RUNNING":
		return nil, &refusal{400, "resourceNotReady", "The resource is not ready"}
	}
	k := told(d, Object{"type": "PERSISTENT", "mode": body["mode"], "source": root + source, "deviceName": name, "boot": boot, "autoDelete": body["autoDelete"] == true && !s.ignores, "interface": "SCSI"})
	if body["interface"] != nil {
		k["interface"] = body["interface"]
	}
	return func() string { return s.hang(on, k, source) }, nil
}

// hang ends an attach: it may be too late for it.
func (s *Server) hang(on, k Object, source string) string {
	used := map[float64]bool{0: k["boot"] != true}
	for _, i := range s.instances {
		if hung(i, source) != nil {
			return "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE"
		}
	}
	for _, o := range on["disks"].([]any) {
		used[o.(Object)["index"].(float64)] = true
		if o.(Object)["deviceName"] == k["deviceName"] {
			return "INVALID_FIELD_VALUE"
		}
	}
	k["index"] = float64(0)
	for used[k["index"].(float64)] {
		k["index"] = k["index"].(float64) + 1
	}
	if k["boot"] == true {
		on["disks"] = append([]any{k}, on["disks"].([]any)...)
	} else {
		on["disks"] = append(on["disks"].([]any), k)
		s.events = append(s.events, fmt.Sprintf("%s on %s", source[strings.LastIndexByte(source, '/')+1:], on["name"]))
	}
	s.disks[source]["lastAttachTimestamp"] = s.now()
	return ""
}

// detach: the boot disk only of an instance that is off (docs/disks/detach-reattach-boot-disk).
func (s *Server) detach(r *http.Request, on Object, status string) (func() string, *refusal) {
	for _, v := range on["disks"].([]any) {
		k := v.(Object)
		if k["deviceName"] != r.FormValue("deviceName") {
			continue
		}
		if k["boot"] == true && status != "TERMINATED" {
			return nil, &refusal{400, "invalid", "Invalid resource usage: 'The boot disk can be detached only when the instance is stopped'"}
		}
		return func() string {
			on["disks"] = slices.DeleteFunc(slices.Clone(on["disks"].([]any)), func(o any) bool { return o.(Object)["deviceName"] == k["deviceName"] })
			source := k["source"].(string)
			s.disks[source[len(root):]]["lastDetachTimestamp"] = s.now()
			return ""
		}, nil
	}
	return nil, &refusal{400, "invalid", "No attached disk found with device name '" + r.FormValue("deviceName") + "'"}
}

// createSnapshot: a name is taken once (409 alreadyExists).
func (s *Server) createSnapshot(r *http.Request, on Object) (func() string, *refusal) {
	var body Object
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		return nil, &refusal{400, "parseError", "Parse Error"}
	}
	name, _ := body["name"].(string)
	if s.snapshots[name] != nil {
		return nil, &refusal{409, "alreadyExists", fmt.Sprintf("The resource 'projects/%s/global/snapshots/%s' already exists", s.Project, name)}
	}
	shot := overlay(body, Object{"status": "CREATING", "sourceDisk": on["selfLink"]})
	s.snapshots[name] = shot
	return func() string { shot["status"] = "READY"; return "" }, nil
}
