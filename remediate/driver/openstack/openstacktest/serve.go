package openstacktest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// A refusal is an error in the form of Nova and Keystone: {"forbidden": {"code": 403, …}}.
type refusal struct {
	status        int
	name, message string
}

func (e *refusal) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.status)
	reply(w, Object{e.name: Object{"code": e.status, "message": e.message}})
}

func reply(w http.ResponseWriter, v any) { _ = json.NewEncoder(w).Encode(v) }

func notFound(what, id string) *refusal {
	return &refusal{404, "itemNotFound", fmt.Sprintf("%s %s could not be found.", what, id)}
}

// Throttle answers as a cloud behind a rate limit does (api-ref, 429).
func Throttle(w http.ResponseWriter, _ *http.Request) {
	(&refusal{429, "overLimit", "This request was rate-limited."}).write(w)
}

// Refuse answers as oslo.policy has it.
func Refuse(w http.ResponseWriter, _ *http.Request) {
	(&refusal{403, "forbidden", "Policy doesn't allow os_compute_api:servers:show to be performed."}).write(w)
}

// permit refuses what a policy forbids.
func (c *Cloud) permit(policy string) *refusal {
	if c.denied[policy] {
		return &refusal{403, "forbidden", "Policy doesn't allow " + policy + " to be performed."}
	}
	return nil
}

// ServeHTTP implements http.Handler.
func (c *Cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	service, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if service == "identity" {
		c.keystone(w, r)
		return
	}
	if path == "" || path == "v2.1/" && r.Method == http.MethodGet { // versions need no token (api-ref, "List all major versions")
		c.versions(w, r, service)
		return
	}
	if r.Header.Get("X-Auth-Token") != fmt.Sprint("token", c.token) || c.token == 0 || c.lives == 0 {
		(&refusal{401, "error", "The request you have made requires authentication."}).write(w)
		return
	}
	c.lives = max(c.lives-1, -1)
	c.tick()
	var err *refusal
	if service == "image" {
		err = c.glance(w, r, strings.Split(path, "/"))
	} else if id, ok := strings.CutPrefix(path, "v3/volumes/"); service == "volume" && ok {
		if c.volumes[id] == nil {
			err = notFound("Volume", id)
		} else {
			reply(w, Object{"volume": c.volumes[id]})
		}
	} else if err = c.microversion(r); err == nil {
		err = c.nova(w, r, strings.Split(path, "/"))
	}
	if err != nil {
		err.write(w)
	}
}

// keystone gives out tokens for a password, scoped to a project (api-ref, identity v3,
// "Password authentication with scoped authorization").
func (c *Cloud) keystone(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		reply(w, Object{"version": Object{"id": "v3.14", "status": "stable", "links": []any{Object{"rel": "self", "href": "http://" + r.Host + "/identity/v3/"}}}})
		return
	}
	var body struct {
		Auth struct {
			Identity struct {
				Password struct {
					User struct {
						Name, Password string
						Domain         struct{ Name string }
					}
				}
			}
			Scope struct {
				Project struct {
					Name   string
					Domain struct{ Name string }
				}
			}
		}
	}
	_ = json.NewDecoder(r.Body).Decode(&body)
	u, p := body.Auth.Identity.Password.User, body.Auth.Scope.Project
	if u.Name != "operator" || u.Password != c.Password || u.Domain.Name != "Default" || p.Name != "fleet" || p.Domain.Name != "Default" {
		(&refusal{401, "error", "The request you have made requires authentication."}).write(w)
		return
	}
	c.token++
	c.lives = -1
	endpoint := func(kind, path string) Object {
		return Object{"type": kind, "name": kind, "endpoints": []any{Object{"id": kind, "interface": "public", "region": "RegionOne", "region_id": "RegionOne", "url": "http://" + r.Host + path}}}
	}
	w.Header().Set("X-Subject-Token", fmt.Sprint("token", c.token))
	w.WriteHeader(http.StatusCreated)
	reply(w, Object{"token": Object{"expires_at": "2036-07-19T04:09:00.000000Z", "issued_at": "2024-07-19T04:09:00.000000Z", "methods": []any{"password"},
		"user":    Object{"id": "b7", "name": u.Name, "domain": Object{"id": "default", "name": "Default"}, "password_expires_at": nil},
		"project": Object{"id": "c8", "name": p.Name, "domain": Object{"id": "default", "name": "Default"}}, "is_domain": false, "roles": []any{Object{"id": "d9", "name": "member"}},
		"catalog": []any{endpoint("compute", "/compute/v2.1/"), endpoint("image", "/image/"), endpoint("block-storage", "/volume/v3/")}}})
}

// versions tells what a service speaks.
func (c *Cloud) versions(w http.ResponseWriter, r *http.Request, service string) {
	if service == "image" {
		reply(w, Object{"versions": []any{Object{"id": "v2.9", "status": "CURRENT", "links": []any{Object{"rel": "self", "href": "http://" + r.Host + "/image/v2/"}}}}})
		return
	}
	v := Object{"id": "v2.1", "status": "CURRENT", "version": c.Max, "min_version": "2.1", "links": []any{Object{"rel": "self", "href": "http://" + r.Host + "/compute/v2.1/"}}}
	if r.URL.Path == "/compute/v2.1/" {
		reply(w, Object{"version": v})
		return
	}
	reply(w, Object{"versions": []any{v}})
}

// microversion refuses what this Nova does not speak (api-ref, "Microversions": 406).
func (c *Cloud) microversion(r *http.Request) *refusal {
	if asked := minor(r); asked > number(c.Max) {
		return &refusal{406, "computeFault", fmt.Sprintf("Version 2.%d is not supported by the API. Minimum is 2.1 and maximum is %s.", asked, c.Max)}
	}
	return nil
}

// minor returns the microversion of a request: 2.1 if it names none.
func minor(r *http.Request) int {
	if v, ok := strings.CutPrefix(r.Header.Get("OpenStack-API-Version"), "compute "); ok {
		return number(v)
	}
	if v := r.Header.Get("X-OpenStack-Nova-API-Version"); v != "" {
		return number(v)
	}
	return 1
}

func number(version string) int {
	n, _ := strconv.Atoi(strings.TrimPrefix(version, "2."))
	return n
}
