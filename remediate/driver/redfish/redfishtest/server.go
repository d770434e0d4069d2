package redfishtest

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
)

// A call is one request, read and understood.
type call struct {
	*http.Request
	parts []string // of the path, after /redfish/v1
	body  map[string]any
	raw   []byte
}

// A reply is what will be answered.
type reply struct {
	status int
	body   any
	header http.Header
}

func (r reply) write(w http.ResponseWriter) {
	h := w.Header()
	for k, v := range r.header {
		h[k] = v
	}
	h.Set("OData-Version", "4.0")
	if r.body == nil {
		w.WriteHeader(r.status)
		return
	}
	h.Set("Content-Type", "application/json;charset=utf-8")
	w.WriteHeader(r.status)
	json.NewEncoder(w).Encode(r.body)
}

func found(body map[string]any) reply { return reply{status: http.StatusOK, body: body} }

// refuse is an error as the standard has it, with one message.
func refuse(status int, id, message string) reply {
	return reply{status: status, body: map[string]any{"error": map[string]any{
		"code":    "Base.1.8.GeneralError",
		"message": "A general error has occurred. See ExtendedInfo for more information.",
		"@Message.ExtendedInfo": []any{map[string]any{
			"@odata.type": "#Message.v1_1_1.Message", "MessageId": id, "Message": message, "Severity": "Critical",
			"Resolution": "None.",
		}},
	}}}
}

func unauthorized() reply {
	r := refuse(http.StatusUnauthorized, "Base.1.8.NoValidSession", "There is no valid session established with the implementation.")
	r.header = http.Header{"Www-Authenticate": {`Basic realm="Redfish"`}}
	return r
}

func notFound() reply {
	return refuse(http.StatusNotFound, "Base.1.8.ResourceMissingAtURI", "The resource at the URI was not found.")
}

func notAllowed() reply {
	return refuse(http.StatusMethodNotAllowed, "Base.1.8.OperationNotAllowed", "The HTTP method is not allowed on this resource.")
}

// Handler returns the BMC as an HTTP handler, for those who have a listener of their own.
func (b *BMC) Handler() http.Handler { return http.HandlerFunc(b.serve) }

func (b *BMC) serve(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	select {
	case <-b.closed:
		b.mu.Unlock()
		panic(http.ErrAbortHandler)
	default:
	}
	b.busy.Add(1)
	b.mu.Unlock()
	defer b.busy.Done()

	c := read(r)
	cut := false
	if f, ok := b.request(b.operation(c)); ok {
		var done bool
		if done, cut = b.fail(f, w, r); done {
			return
		}
	}
	rep := unauthorized()
	if b.admitted(c) {
		rep = b.route(c)
	}
	if cut {
		panic(http.ErrAbortHandler)
	}
	rep.write(w)
}

func read(r *http.Request) call {
	c := call{Request: r}
	p := strings.Trim(path.Clean(r.URL.Path), "/")
	if rest, ok := strings.CutPrefix(p, "redfish/v1"); ok {
		c.parts = strings.FieldsFunc(rest, func(r rune) bool { return r == '/' })
	} else {
		c.parts = []string{"", p}
	}
	c.raw, _ = io.ReadAll(io.LimitReader(r.Body, 1<<20))
	json.Unmarshal(c.raw, &c.body) // what it lacks is refused where it is needed
	return c
}

// at says whether the path ends so, below a system or manager: /Systems/1/end...
func (c call) at(end ...string) bool {
	if len(c.parts) != 2+len(end) {
		return false
	}
	for i, e := range end {
		if e != "*" && c.parts[2+i] != e {
			return false
		}
	}
	return true
}

func (c call) text(name string) string {
	s, _ := c.body[name].(string)
	return s
}

// operation names what a request asks for: see Fault.On.
func (b *BMC) operation(c call) string {
	last := ""
	if len(c.parts) > 0 {
		last = c.parts[len(c.parts)-1]
	}
	get := c.Method == http.MethodGet || c.Method == http.MethodHead
	switch {
	case len(c.parts) == 0:
		return OpRoot
	case last == "Sessions" && c.Method == http.MethodPost:
		return OpLogin
	case c.parts[0] == "SessionService" && c.Method == http.MethodDelete:
		return OpLogout
	case last == "ComputerSystem.Reset":
		return OpReset
	case last == "VirtualMedia.InsertMedia", c.at("VirtualMedia", "*") && !get && c.text("Image") != "":
		return OpInsert
	case last == "VirtualMedia.EjectMedia", c.at("VirtualMedia", "*") && !get:
		return OpEject
	case !get && (c.at() || c.at("Attributes") || strings.HasSuffix(last, "ImportSystemConfiguration")):
		return OpOverride
	case c.at("VirtualMedia"), c.at("VirtualMedia", "*"):
		return OpMedia
	case len(c.parts) == 1:
		return OpSystems
	case c.parts[0] == "Systems":
		return OpSystem
	case c.parts[0] == "Managers":
		return OpManager
	}
	return OpRoot
}

// admitted says whether a request may be served: what is public, or has good credentials.
func (b *BMC) admitted(c call) bool {
	public := len(c.parts) == 0 || c.parts[0] == "" ||
		c.Method == http.MethodPost && len(c.parts) == 2 && c.parts[1] == "Sessions"
	if public {
		return true
	}
	if token := c.Header.Get("X-Auth-Token"); token != "" {
		b.mu.Lock()
		defer b.mu.Unlock()
		_, ok := b.sessions[token]
		return ok
	}
	user, password, ok := c.BasicAuth()
	return ok && b.knows(user, password)
}

func (b *BMC) knows(user, password string) bool {
	u := subtle.ConstantTimeCompare([]byte(user), []byte(b.opt.User))
	p := subtle.ConstantTimeCompare([]byte(password), []byte(b.opt.Password))
	return u&p == 1 && b.opt.User != ""
}

func (b *BMC) route(c call) reply {
	if len(c.parts) == 0 {
		return b.root()
	}
	switch c.parts[0] {
	case "":
		if c.parts[1] == "redfish" {
			return found(map[string]any{"v1": "/redfish/v1/"})
		}
	case "SessionService":
		return b.sessionService(c)
	case "Systems":
		return b.systems(c)
	case "Managers":
		return b.managers(c)
	case "Chassis":
		if len(c.parts) == 1 {
			return found(collection("/redfish/v1/Chassis", "#ChassisCollection.ChassisCollection", nil))
		}
	case "TaskService":
		return b.tasks(c)
	case "Dell":
		if b.model.BootAttribute { // the firmware is old
			return b.screenshot(c)
		}
	}
	return notFound()
}

// screenshot is an action of Dell's. Its place: dell/iDRAC-Redfish-Scripting.
func (b *BMC) screenshot(c call) reply {
	if c.parts[len(c.parts)-1] != "DellLCService.ExportServerScreenShot" || b.opt.Screen == nil {
		return notFound()
	}
	if c.Method != http.MethodPost || c.text("FileType") != "ServerScreenShot" {
		return refuse(http.StatusBadRequest, "IDRAC.2.8.SYS409", "Unable to complete the operation because the value entered for FileType is not valid.")
	}
	return found(map[string]any{"ServerScreenShotFile": base64.StdEncoding.EncodeToString(b.opt.Screen())})
}

func link(path string) map[string]any { return map[string]any{"@odata.id": path} }

func collection(at, kind string, members []string) map[string]any {
	links := []any{}
	for _, m := range members {
		links = append(links, link(at+"/"+m))
	}
	return map[string]any{
		"@odata.id": at, "@odata.type": kind, "Name": path.Base(at), "Members": links, "Members@odata.count": len(links),
	}
}

func (b *BMC) root() reply {
	return found(map[string]any{
		"@odata.id": "/redfish/v1/", "@odata.type": "#ServiceRoot.v1_6_0.ServiceRoot",
		"Id": "RootService", "Name": "Root Service", "RedfishVersion": "1.11.0", "UUID": b.opt.UUID,
		"Product": b.model.Generation, "Vendor": b.model.Manufacturer,
		"Systems": link("/redfish/v1/Systems"), "Managers": link("/redfish/v1/Managers"), "Chassis": link("/redfish/v1/Chassis"),
		"SessionService": link("/redfish/v1/SessionService"),
		"Links":          map[string]any{"Sessions": link("/redfish/v1/SessionService/Sessions")},
	})
}

func (b *BMC) sessionService(c call) reply {
	const all = "/redfish/v1/SessionService/Sessions"
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case len(c.parts) == 1 && c.Method == http.MethodGet:
		return found(map[string]any{
			"@odata.id": "/redfish/v1/SessionService", "@odata.type": "#SessionService.v1_1_6.SessionService",
			"Id": "SessionService", "Name": "Session Service", "ServiceEnabled": !b.model.NoSessions,
			"SessionTimeout": 1800, "Sessions": link(all),
		})
	case len(c.parts) == 2 && c.Method == http.MethodPost:
		return b.login(c)
	case len(c.parts) == 2:
		var ids []string
		for _, id := range b.sessions {
			ids = append(ids, id)
		}
		return found(collection(all, "#SessionCollection.SessionCollection", ids))
	case len(c.parts) == 3:
		for token, id := range b.sessions {
			if id != c.parts[2] {
				continue
			}
			if c.Method == http.MethodDelete {
				delete(b.sessions, token)
			}
			return found(b.session(id))
		}
	}
	return notFound()
}

func (b *BMC) session(id string) map[string]any {
	return map[string]any{
		"@odata.id": "/redfish/v1/SessionService/Sessions/" + id, "@odata.type": "#Session.v1_3_0.Session",
		"Id": id, "Name": "User Session", "UserName": b.opt.User,
	}
}

// login makes a session. The caller holds mu.
func (b *BMC) login(c call) reply {
	if b.model.NoSessions {
		return notAllowed()
	}
	if !b.knows(c.text("UserName"), c.text("Password")) {
		return unauthorized()
	}
	limit := b.model.MaxSessions
	if limit == 0 {
		limit = 8
	}
	if len(b.sessions) >= limit {
		return b.tableFull()
	}
	b.lastID++
	id, token := itoa(b.lastID), rand.Text()
	b.sessions[token] = id
	return reply{status: http.StatusCreated, body: b.session(id), header: http.Header{
		"X-Auth-Token": {token}, "Location": {"/redfish/v1/SessionService/Sessions/" + id},
	}}
}

// FillSessions takes every place in the session table, as a monitoring system that forgets
// to log out does.
func (b *BMC) FillSessions() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range max(b.model.MaxSessions, 8) {
		b.lastID++
		b.sessions[rand.Text()] = itoa(b.lastID)
	}
}

func (b *BMC) tableFull() reply {
	id := b.model.FullMessage
	if id == "" {
		id = "Base.1.8.SessionLimitExceeded"
	}
	return refuse(http.StatusServiceUnavailable, id, "The maximum number of user sessions is reached.")
}

// etag is the entity tag of everything: it changes with every change. The caller holds mu.
func (b *BMC) etag(c call) string {
	if b.model.ETag == NoETag {
		return ""
	}
	tag := fmt.Sprintf("%08x", b.version)
	if strings.Contains(c.Header.Get("Accept-Encoding"), "gzip") {
		tag += "-gzip"
	}
	if b.model.ETag == WeakETag {
		return `W/"` + tag + `"`
	}
	return `"` + tag + `"`
}

// precondition checks If-Match on a change. The caller holds mu.
func (b *BMC) precondition(c call) (reply, bool) {
	match := c.Header.Get("If-Match")
	switch {
	case b.model.ETag == NoETag, match == "*":
		return reply{}, true
	case match == "" && b.model.ETag == RequiredETag:
		return refuse(http.StatusPreconditionRequired, "Base.1.8.PreconditionRequired", "A precondition header was not provided."), false
	case match == "", match == fmt.Sprintf(`"%08x"`, b.version):
		return reply{}, true
	}
	return refuse(http.StatusPreconditionFailed, "Base.1.8.PreconditionFailed", "The ETag supplied did not match the current ETag."), false
}

// tagged adds the entity tag to an answer. The caller holds mu.
func (b *BMC) tagged(c call, body map[string]any) reply {
	r := found(body)
	if tag := b.etag(c); tag != "" {
		body["@odata.etag"] = tag
		r.header = http.Header{"Etag": {tag}}
	}
	return r
}

// done answers a change that was made.
func (b *BMC) done() reply {
	if b.model.Accepts {
		return reply{status: http.StatusAccepted}
	}
	return reply{status: http.StatusNoContent}
}

// inPOST refuses a change while the host is in POST. The caller holds mu.
func (b *BMC) inPOST() (reply, bool) {
	if b.postRefusals == 0 || b.power != "On" {
		return reply{}, false
	}
	b.postRefusals--
	return refuse(http.StatusBadRequest, "iLO.2.14.UnableToModifyDuringSystemPOST", "The value cannot be changed while the system is in POST."), true
}
