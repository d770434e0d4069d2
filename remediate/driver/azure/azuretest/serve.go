package azuretest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

type object = map[string]any

// A reply is what is answered.
type reply struct {
	status int
	body   any
	work   *work // that was begun
	by     polled
}

// How an operation is asked for ("Track asynchronous Azure operations"): a resource provider
// names one address or the other, or both.
type polled int

const (
	byOperation polled = 1 << iota
	byLocation
)

func (a *reply) write(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("x-ms-request-id", "00000000-0000-4000-8000-000000000001")
	if a.work != nil {
		at := "http://" + r.Host + "/subscriptions/" + Subscription + "/providers/Microsoft.Compute/locations/westeurope/operations/" + a.work.name + "?api-version=" + r.URL.Query().Get("api-version")
		if a.by&byOperation != 0 {
			h.Set("Azure-AsyncOperation", at)
		}
		if a.by&byLocation != 0 {
			h.Set("Location", at+"&monitor=true")
		}
	}
	w.WriteHeader(a.status)
	if a.body != nil {
		_ = json.NewEncoder(w).Encode(a.body) // a client that went away is no fault of the server's
	}
}

// answer finds what a request is for.
func (c *Cloud) answer(r *http.Request) (*reply, *Fault) {
	if !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ") {
		return nil, fault(401, "AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing.")
	}
	if r.URL.Query().Get("api-version") == "" { // "Azure Resource Manager overview": each request names one
		return nil, fault(400, "MissingApiVersionParameter", "The api-version query parameter (?api-version=) is required for all requests.")
	}
	p := strings.Split(strings.Trim(strings.ToLower(r.URL.Path), "/"), "/")
	if len(p) < 3 || p[0] != "subscriptions" || p[1] != strings.ToLower(Subscription) {
		return nil, fault(404, "SubscriptionNotFound", "The subscription could not be found.")
	}
	if scope, ok := strings.CutSuffix(strings.ToLower(r.URL.Path), "/providers/microsoft.authorization/permissions"); ok {
		return c.permissions(r, scope)
	}
	switch path := strings.Join(p[2:], "/"); {
	case path == "providers/microsoft.network/networkinterfaces":
		return c.listCards(r, "")
	case len(p) == 7 && p[5] == "microsoft.network" && p[6] == "networkinterfaces":
		return c.listCards(r, p[3])
	case path == "providers/microsoft.compute/virtualmachines":
		return c.list(r, "")
	case path == "providers/microsoft.authorization/locks":
		return c.listLocks(r)
	case path == "resources":
		return c.listTagged(r)
	case strings.HasPrefix(path, "providers/microsoft.compute/locations/"):
		return c.poll(p[len(p)-1], r)
	case len(p) == 7 && p[6] == "virtualmachines":
		return c.list(r, p[3])
	case len(p) < 8 || p[2] != "resourcegroups" || p[5] != "microsoft.compute":
		return nil, fault(404, "InvalidResourceType", "The resource type could not be found.")
	case p[6] == "virtualmachines":
		return c.machineCall(r, p[3], p[7], strings.Join(p[8:], "/"))
	case p[6] == "disks" || p[6] == "snapshots":
		return c.diskCall(r, p[6], p[3], p[7])
	}
	return nil, fault(404, "InvalidResourceType", "The resource type could not be found.")
}

// poll says how an operation goes.
func (c *Cloud) poll(name string, r *http.Request) (*reply, *Fault) {
	i := slices.IndexFunc(c.works, func(w *work) bool { return w.name == name })
	if i < 0 || name == "-" {
		return nil, fault(404, "NotFound", "The operation could not be found.")
	}
	w := c.works[i]
	monitor := r.URL.Query().Get("monitor") != ""
	switch {
	case monitor && !w.done:
		return &reply{status: 202, work: w, by: byLocation}, nil
	case monitor && w.err != nil:
		return nil, w.err
	case monitor:
		return &reply{status: 200, body: object{}}, nil
	case !w.done:
		return &reply{status: 200, body: object{"name": name, "status": "InProgress"}}, nil
	case w.err != nil:
		return &reply{status: 200, body: object{"name": name, "status": "Failed", "error": object{"code": w.err.Code, "message": w.err.Message}}}, nil
	}
	return &reply{status: 200, body: object{"name": name, "status": "Succeeded"}}, nil
}

// locked says whether a lock forbids a change ("Lock your resources to protect your
// infrastructure": a read-only lock forbids POST too).
func (c *Cloud) locked(id string, deletes bool) *Fault {
	for _, l := range c.locks {
		scope := strings.ToLower(l.Scope)
		if strings.HasPrefix(strings.ToLower(id)+"/", strings.TrimSuffix(scope, "/")+"/") && (l.Level == "ReadOnly" || deletes) {
			return fault(409, "ScopeLocked", "The scope '%s' cannot perform write operation because following scope(s) are locked: '%s'. Please remove the lock and try again.", id, l.Scope)
		}
	}
	return nil
}

// page cuts a list ("nextLink" in every list of the reference).
func (c *Cloud) page(r *http.Request, all []object) (*reply, *Fault) {
	q := r.URL.Query()
	skip, _ := strconv.Atoi(q.Get("$skiptoken"))
	end := min(skip+max(c.Page, 2), len(all))
	if skip < 0 || skip > len(all) {
		return nil, fault(400, "InvalidParameter", "The skip token is not valid.")
	}
	body := object{"value": all[skip:end]}
	if end < len(all) {
		q.Set("$skiptoken", strconv.Itoa(end))
		body["nextLink"] = (&url.URL{Scheme: "http", Host: r.Host, Path: r.URL.Path, RawQuery: q.Encode()}).String()
	}
	return &reply{status: 200, body: body}, nil
}

// list lists machines. How they stand is told only to who asks for it ("Virtual Machines - List
// All": $expand).
func (c *Cloud) list(r *http.Request, group string) (*reply, *Fault) {
	all := []object{}
	for _, m := range c.machines {
		if group == "" || strings.EqualFold(m.Group, group) {
			all = append(all, c.show(m, strings.EqualFold(r.URL.Query().Get("$expand"), "instanceView")))
		}
	}
	return c.page(r, all)
}

func (c *Cloud) listLocks(r *http.Request) (*reply, *Fault) {
	all := []object{}
	for _, l := range c.locks {
		all = append(all, object{"id": l.Scope + "/providers/Microsoft.Authorization/locks/" + l.Name, "name": l.Name, "properties": object{"level": l.Level}})
	}
	return c.page(r, all)
}

// listTagged lists by tag ("Resources - List": $filter).
func (c *Cloud) listTagged(r *http.Request) (*reply, *Fault) {
	var name, value string
	filter := r.URL.Query().Get("$filter")
	if n, _ := fmt.Sscanf(strings.ReplaceAll(filter, "'", ""), "tagName eq %s and tagValue eq %s", &name, &value); n == 0 {
		return nil, fault(400, "InvalidFilterInQueryString", "Invalid $filter '%s' specified in the query string.", filter)
	}
	all := []object{}
	for _, m := range c.machines {
		if v, ok := m.Tags[name]; ok && (value == "" || v == value) {
			all = append(all, object{"id": m.id(), "name": m.Name, "type": "Microsoft.Compute/virtualMachines"})
		}
	}
	return c.page(r, all)
}

// decode reads a body, and refuses what this server does not know.
func decode(r *http.Request, into any) *Fault {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fault(http.StatusBadRequest, "BadRequest", "The request body is not understood: %v", err)
	}
	return nil
}
