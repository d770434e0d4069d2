package proxmoxtest

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A task is an operation that takes longer than a request.
type task struct {
	upid, node, kind string
	vmid             int
	due              int
	exit             string // empty while it is at work
	do               func() error
}

// taskTime is how many requests a task takes.
const taskTime = 2

// fork begins a task (PVE::RESTEnvironment, fork_worker), and returns its UPID.
func (s *Server) fork(v *VM, kind string, do func() error) string {
	n := len(s.tasks) + 1
	upid := fmt.Sprintf("UPID:%s:%08X:%08X:%08X:%s:%d:%s:", v.Node, n, n, 0x65000000+n, kind, v.ID, strings.SplitN(s.token, "=", 2)[0])
	s.tasks[upid] = &task{upid: upid, node: v.Node, kind: kind, vmid: v.ID, due: s.clock + taskTime, do: do}
	s.active = append(s.active, s.tasks[upid])
	return upid
}

// busy says whether a task holds the guest's lock file.
func (s *Server) busy(v *VM) bool {
	return slices.ContainsFunc(s.active, func(t *task) bool { return t.vmid == v.ID && t.exit == "" })
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tick()
	if r.Header.Get("Authorization") != "PVEAPIToken="+s.token {
		Fail(w, http.StatusUnauthorized, "invalid token value!\n")
		return
	}
	if err := r.ParseForm(); err != nil {
		Fail(w, http.StatusBadRequest, "Parameter verification failed.\n")
		return
	}
	data, err := s.route(r.Method, strings.TrimPrefix(r.URL.EscapedPath(), "/api2/json"), r.Form)
	if err == nil && r.Method != http.MethodGet {
		s.actions++
	}
	write(w, data, err)
}

var guestPath = regexp.MustCompile(`^/nodes/([^/]+)/qemu/([0-9]+)(/.*)$`)
var taskPath = regexp.MustCompile(`^/nodes/([^/]+)/tasks(/[^/]+/status)?$`)

// route answers one call of the API.
func (s *Server) route(method, path string, form url.Values) (any, error) {
	if path == "/cluster/resources" && method == http.MethodGet {
		return s.resources(form.Get("type"))
	}
	if path == "/access/permissions" && method == http.MethodGet {
		return s.permissions(form.Get("path"))
	}
	if m := taskPath.FindStringSubmatch(path); m != nil && method == http.MethodGet {
		return s.listTasks(m[1], m[2], form)
	}
	m := guestPath.FindStringSubmatch(path)
	if m == nil {
		return nil, &fault{status: http.StatusNotImplemented, text: fmt.Sprintf("Method '%s %s' not implemented\n", method, path)}
	}
	id, _ := strconv.Atoi(m[2])
	v := s.vms[id]
	if v == nil || v.Node != m[1] || v.Container { // PVE::QemuConfig, load_config
		return nil, failed("Configuration file 'nodes/%s/qemu-server/%d.conf' does not exist", m[1], id)
	}
	if m := rollbackPath.FindStringSubmatch(m[3]); m != nil && method == http.MethodPost {
		return s.rollback(v, m[1])
	}
	return s.guest(v, method+" "+m[3], form)
}

// privileges are what each call needs on /vms/ID, from the API viewer.
var privileges = map[string]string{
	"GET /config": "VM.Audit", "GET /pending": "VM.Audit", "GET /status/current": "VM.Audit", "GET /snapshot": "VM.Audit",
	"POST /status/stop": "VM.PowerMgmt", "POST /status/start": "VM.PowerMgmt", "POST /snapshot": "VM.Snapshot", "POST /config": "VM.Config.Disk",
}

func (s *Server) guest(v *VM, call string, form url.Values) (any, error) {
	privilege, ok := privileges[call]
	if !ok {
		return nil, &fault{status: http.StatusNotImplemented, text: "Method '" + call + "' not implemented\n"}
	}
	if err := s.allowed(fmt.Sprintf("/vms/%d", v.ID), privilege); err != nil {
		return nil, err
	}
	switch call {
	case "GET /config":
		if name := form.Get("snapshot"); name != "" {
			return v.configThen(name)
		}
		return s.config(v), nil
	case "GET /pending":
		return s.pending(v), nil
	case "GET /status/current":
		return s.current(v), nil
	case "GET /snapshot":
		return s.listSnapshots(v), nil
	case "POST /status/stop":
		return s.stop(v)
	case "POST /status/start":
		return s.start(v)
	case "POST /snapshot":
		return s.snapshot(v, form)
	}
	return s.configure(v, form)
}

// allowed answers as PVE::RPCEnvironment's check does: with path and privilege.
func (s *Server) allowed(path, privilege string) error {
	if s.missing[path+" "+privilege] {
		return &fault{status: http.StatusForbidden, text: fmt.Sprintf("Permission check failed (%s, %s)\n", path, privilege)}
	}
	return nil
}

// resources leaves out what the token may not see, without a word (API viewer,
// /cluster/resources). It may be asked for one kind.
func (s *Server) resources(kind string) (any, error) {
	if !slices.Contains([]string{"", "vm", "storage", "node", "sdn"}, kind) {
		return nil, invalid("type", "value '"+kind+"' does not have a value in the enumeration 'vm, storage, node, sdn'")
	}
	all := []map[string]any{}
	for _, v := range s.vms {
		if kind != "" && kind != "vm" || s.missing[fmt.Sprintf("/vms/%d VM.Audit", v.ID)] {
			continue
		}
		row := map[string]any{"type": "qemu", "id": fmt.Sprintf("qemu/%d", v.ID), "vmid": v.ID, "name": v.Name, "node": v.Node, "status": v.shown, "template": 0}
		if v.Container {
			row["type"] = "lxc"
		}
		if v.Template {
			row["template"] = 1
		}
		for key, value := range map[string]string{"tags": v.Tags, "pool": v.Pool, "hastate": v.HA} {
			if value != "" {
				row[key] = value
			}
		}
		all = append(all, row)
	}
	for _, st := range s.storages {
		for _, node := range st.Nodes {
			if kind != "" && kind != "storage" || s.missing["/storage/"+st.ID+" Datastore.Audit"] {
				continue
			}
			shared := 0
			if st.Shared {
				shared = 1
			}
			all = append(all, map[string]any{"type": "storage", "id": "storage/" + node + "/" + st.ID, "storage": st.ID, "node": node, "shared": shared, "status": "available", "plugintype": cmp.Or(st.Kind, "lvmthin")})
		}
	}
	return all, nil
}

// listTasks answers for the tasks that are at work, or for one (API viewer,
// /nodes/{node}/tasks).
func (s *Server) listTasks(node, one string, form url.Values) (any, error) {
	if one != "" {
		upid, _ := url.PathUnescape(strings.TrimSuffix(strings.TrimPrefix(one, "/"), "/status"))
		t := s.tasks[upid]
		if t == nil || t.node != node {
			return nil, failed("no such task")
		}
		row := map[string]any{"upid": t.upid, "node": t.node, "type": t.kind, "id": strconv.Itoa(t.vmid), "status": "running"}
		if t.exit != "" {
			row["status"], row["exitstatus"] = "stopped", strings.TrimSpace(t.exit)
		}
		return row, nil
	}
	if form.Get("source") != "active" {
		return nil, &fault{status: http.StatusNotImplemented, text: "the archive of tasks is not here\n"}
	}
	list := []map[string]any{}
	for _, t := range s.active {
		if t.node != node || form.Get("vmid") != "" && form.Get("vmid") != strconv.Itoa(t.vmid) {
			continue
		}
		row := map[string]any{"upid": t.upid, "node": t.node, "type": t.kind, "id": strconv.Itoa(t.vmid)}
		if t.exit != "" {
			row["endtime"], row["status"] = 1700000000+t.due, strings.TrimSpace(t.exit)
		}
		list = append(list, row)
	}
	return list, nil
}

// permissions are those of the token itself, which it may always see (API viewer,
// /access/permissions). Of a path without any, the path is not there.
func (s *Server) permissions(path string) (any, error) {
	if !strings.HasPrefix(path, "/") {
		return nil, &fault{status: http.StatusNotImplemented, text: "the whole tree is not here\n"}
	}
	has := map[string]int{}
	for _, p := range []string{"VM.Audit", "VM.PowerMgmt", "VM.Config.Disk", "VM.Snapshot", "VM.Snapshot.Rollback", "Datastore.Audit"} {
		if !s.missing[path+" "+p] {
			has[p] = 1
		}
	}
	if len(has) == 0 {
		return map[string]any{}, nil
	}
	return map[string]any{path: has}, nil
}
