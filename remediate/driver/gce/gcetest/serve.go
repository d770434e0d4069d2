package gcetest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

// refusal is an error in the API's form (reference, "Handling API errors").
type refusal struct {
	status          int
	reason, message string
}

func (e *refusal) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.status)
	reply(w, Object{"error": Object{"code": e.status, "message": e.message,
		"errors": []any{Object{"domain": "global", "reason": e.reason, "message": e.message}}}})
}

func reply(w http.ResponseWriter, v any) { _ = json.NewEncoder(w).Encode(v) }

func notFound(what string) *refusal {
	return &refusal{404, "notFound", fmt.Sprintf("The resource '%s' was not found", what)}
}

// Throttle answers as rate quotas do (cloud.google.com/compute/api-quota: 403, rateLimitExceeded).
func Throttle(w http.ResponseWriter, _ *http.Request) {
	(&refusal{403, "rateLimitExceeded", "Quota exceeded for quota metric 'Queries' and limit 'Queries per minute'"}).write(w)
}

// Refuse answers as IAM does.
func Refuse(w http.ResponseWriter, r *http.Request) {
	(&refusal{403, "forbidden", "Required 'compute.instances.get' permission for '" + r.URL.Path + "'"}).write(w)
}

const prefix = "/compute/v1/"

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.URL.Path == "/token" {
		s.giveToken(w, r)
		return
	}
	if r.Header.Get("Authorization") != "Bearer "+s.token || s.lives == 0 {
		(&refusal{401, "authError", "Request had invalid authentication credentials."}).write(w)
		return
	}
	s.lives = max(s.lives-1, -1)
	s.tick()
	path, ok := strings.CutPrefix(r.URL.Path, prefix+"projects/"+s.Project+"/")
	if !ok {
		notFound(r.URL.Path).write(w)
		return
	}
	v, err := s.route(r, strings.Split(path, "/"))
	if err != nil {
		err.write(w)
		return
	}
	reply(w, v)
}

// giveToken answers the grant of a service account (RFC 7523); the signature is not checked.
func (s *Server) giveToken(w http.ResponseWriter, r *http.Request) {
	if r.FormValue("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" || strings.Count(r.FormValue("assertion"), ".") != 2 {
		w.WriteHeader(http.StatusBadRequest)
		reply(w, Object{"error": "invalid_grant"})
		return
	}
	n, _ := strconv.Atoi(strings.TrimPrefix(s.token, "t"))
	s.token, s.lives = fmt.Sprint("t", n+1), -1
	reply(w, Object{"access_token": s.token, "token_type": "Bearer", "expires_in": 3600})
}

// route answers what a path below the project names.
func (s *Server) route(r *http.Request, p []string) (any, *refusal) {
	full := "projects/" + s.Project + "/" + strings.Join(p, "/")
	get := r.Method == http.MethodGet
	switch {
	case get && len(p) == 2 && p[0] == "aggregated" && p[1] == "instances":
		return s.aggregated(r)
	case get && len(p) == 3 && p[2] == "instances":
		return s.zoneList(r, p[1])
	case get && len(p) == 3 && p[2] == "operations":
		return s.listOperations(r)
	case get && len(p) == 4 && p[2] == "operations":
		return s.operation(p[3])
	case get && len(p) == 4 && p[2] == "instances":
		return s.found("compute.instances.get", s.instance(p[1], p[3]), full)
	case get && len(p) == 4 && p[2] == "disks":
		return s.found("compute.disks.get", s.disks[full], full)
	case get && len(p) == 3 && p[0] == "global" && p[1] == "snapshots":
		return s.found("compute.snapshots.get", s.snapshots[p[2]], full)
	case !get && len(p) == 5 && p[4] == "testIamPermissions":
		return s.tested(r, full)
	case !get && len(p) == 5 && p[2] == "operations" && p[4] == "wait":
		return s.wait(p[3])
	case !get && len(p) == 5 && p[2] == "instanceGroups" && p[4] == "listInstances":
		return s.members(p[1], p[3])
	case !get && len(p) == 5 && p[2] == "instances":
		return s.change(r, p[1], s.instance(p[1], p[3]), p[4], full)
	case !get && len(p) == 5 && p[2] == "disks" && p[4] == "createSnapshot":
		return s.change(r, p[1], s.disks[strings.TrimSuffix(full, "/createSnapshot")], p[4], full)
	}
	return nil, notFound(full)
}

// instance returns one by its name or its id.
func (s *Server) instance(zone, name string) Object {
	if i := s.instances[zone+"/"+name]; i != nil {
		return i
	}
	for key, i := range s.instances {
		if i["id"] == name && strings.HasPrefix(key, zone+"/") {
			return i
		}
	}
	return nil
}

// permit refuses what a permission is missing for, in IAM's words.
func (s *Server) permit(permission, of string) *refusal {
	if s.denied[permission] {
		return &refusal{403, "forbidden", fmt.Sprintf("Required '%s' permission for '%s'", permission, of)}
	}
	return nil
}

func (s *Server) found(permission string, o Object, path string) (any, *refusal) {
	if err := s.permit(permission, path); err != nil {
		return nil, err
	}
	if o == nil {
		return nil, notFound(path)
	}
	return o, nil
}

// uuid is what a requestId has to be; zero is none (reference, instances.stop, requestId).
var uuid = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

// change begins an operation, or finds the one that the same request began.
func (s *Server) change(r *http.Request, zone string, on Object, method, full string) (any, *refusal) {
	if err := s.permit("compute."+kindOf(full)+"."+method, full); err != nil {
		return nil, err
	}
	id := r.URL.Query().Get("requestId")
	if id != "" && (!uuid.MatchString(id) || strings.Trim(id, "0-") == "") {
		return nil, &refusal{400, "invalid", "Invalid value for field 'requestId'"}
	}
	if on == nil {
		return nil, notFound(full)
	}
	if op := s.byRequest[id]; id != "" && op != nil {
		return op.show(), nil
	}
	do, err := s.begin(r, zone, on, method)
	if err != nil {
		return nil, err
	}
	s.actions++
	op := &operation{name: fmt.Sprintf("operation-%d", len(s.ops)), zone: root + "projects/" + s.Project + "/zones/" + zone,
		kind: method, target: on["selfLink"].(string), left: takes, effect: do}
	if code := s.failures[method]; code != "" {
		delete(s.failures, method)
		op.effect = func() string {
			if method == "start" {
				on["status"] = "TERMINATED"
			}
			return code
		}
	}
	s.ops, s.live = append(s.ops, op), append(s.live, op)
	if id != "" {
		s.byRequest[id] = op
	}
	return op.show(), nil
}

func kindOf(path string) string {
	if strings.Contains(path, "/disks/") {
		return "disks"
	}
	return "instances"
}

// tested says which of the permissions that are asked for the account has (reference,
// instances.testIamPermissions: wildcards are not allowed).
func (s *Server) tested(r *http.Request, full string) (any, *refusal) {
	var asked struct {
		Permissions []string `json:"permissions"`
	}
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		return nil, &refusal{400, "parseError", "Parse Error"}
	}
	has := []any{}
	for _, p := range asked.Permissions {
		if !strings.HasPrefix(p, "compute."+kindOf(full)+".") || strings.Contains(p, "*") {
			return nil, &refusal{400, "badRequest", fmt.Sprintf("Permission %s is not valid for this resource.", p)}
		}
		if !s.denied[p] {
			has = append(has, p)
		}
	}
	if len(has) == 0 { // it is left out then
		return Object{}, nil
	}
	return Object{"permissions": has}, nil
}
