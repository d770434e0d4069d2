// Package vspheretest plays a vCenter: VMware's own simulator (vcsim, govmomi/simulator) with
// more of the strictness of a real one. It imports nothing of ours.
//
// What it adds, and where that is from ("API" is the vSphere Web Services API Reference, whose
// text govmomi's vim25/types has; what is marked "unchecked" is known from practice alone):
//
//   - A change takes several looks to be seen: its task runs until then (API, TaskInfo.state). Time
//     passes by requests, not by the clock.
//   - One change at a time on one machine; another is refused with TaskInProgress (API, fault of
//     ReconfigVM_Task and PowerOnVM_Task).
//   - A VMDK that a running machine has open can be had by no other that runs, unless both share it
//     as multi-writer: its file is locked (docs.vmware.com GUID-82154846-411F-4BA9-A18A-23B61BD4F9A2,
//     on lock files). A machine that is off may list it, and then does not start. The words of
//     the fault are unchecked.
//   - A disk on a datastore that the ESXi host of the machine does not have cannot be added, nor an
//     image that is not there be put into a drive (API, fault FileNotFound; unchecked).
//   - Nothing is read without a session (API, fault NotAuthenticated).
//   - A disk that is hung up without a storage policy has none, whatever it had (unchecked).
//   - A device is known by its key, and no place has two (API, fault InvalidDeviceSpec).
//   - The size of a disk that is added is read from its file; a disk that goes is struck out of the
//     order in which the machine boots (unchecked): what a driver has to reckon with.
package vspheretest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"

	pbm "github.com/vmware/govmomi/pbm/simulator"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// User and Password log in.
const (
	User     = "unbrick@vsphere.local"
	Password = "s3cret"
)

// A Server is one vCenter, with two ESXi hosts in data center DC0 and one datastore that both
// have. It is an http.Handler, safe for concurrent use.
type Server struct {
	// Looks is how often properties are read until a change is seen.
	Looks int
	// Client asks the simulator, past all that is strict: to make things.
	Client *vim25.Client

	model   *simulator.Model
	service *simulator.Service

	mu      sync.Mutex
	pending map[types.ManagedObjectReference]*change
	actions int
	booted  map[string][]string           // by VMDK
	files   map[string]*types.VirtualDisk // as they were made
	allowed []string                      // privileges; nil: all
	policy  map[string]string             // of disks, by "vm-1:2000"
}

// New makes one. Close it.
func New() (*Server, error) {
	m := simulator.VPX()
	m.Host, m.Cluster, m.Machine, m.Portgroup = 2, 0, 0, 0
	m.Autostart = false
	if err := m.Create(); err != nil {
		m.Remove()
		return nil, fmt.Errorf("cannot make a vCenter: %w", err)
	}
	s := &Server{Looks: 2, model: m, service: m.Service, pending: map[types.ManagedObjectReference]*change{}, booted: map[string][]string{}, files: map[string]*types.VirtualDisk{}, policy: map[string]string{}}
	s.service.RegisterSDK(s.registry(), vim25.Path+"/vimService")
	s.service.RegisterSDK(pbm.New())
	s.service.ServeMux.HandleFunc("/folder/", s.service.ServeDatastore)
	s.service.Listen = &url.URL{Scheme: "http", Host: "vc.test", User: url.UserPassword(User, Password)}
	c, err := vim25.NewClient(context.Background(), s.service)
	if err != nil {
		s.Close()
		return nil, err
	}
	s.Client = c
	return s, nil
}

// Close removes its files.
func (s *Server) Close() { s.model.Remove() }

func (s *Server) registry() *simulator.Registry { return s.service.Context.Map }

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	method := Method(r)
	if r.Method == http.MethodPost && r.URL.Path == vim25.Path && method != "RetrieveServiceContent" && method != "Login" && !s.knows(r) {
		fail(w, "NotAuthenticated", `<object type="Folder">group-d1</object><privilegeId>System.View</privilegeId>`)
		return
	}
	switch method {
	case "RetrievePropertiesEx", "ContinueRetrievePropertiesEx":
		s.tick()
	case "ReconfigVM_Task", "PowerOnVM_Task", "PowerOffVM_Task", "CloneVM_Task":
		s.begin(w, r)
		return
	case "PbmQueryAssociatedProfile":
		s.policyOf(w, r)
		return
	case "HasPrivilegeOnEntity":
		if s.privileges(w, r) {
			return
		}
	}
	s.service.ServeMux.ServeHTTP(w, r)
}

// knows says whether a request is of a session that has not ended: vcsim lets others read.
func (s *Server) knows(r *http.Request) bool {
	c, err := r.Cookie(soap.SessionCookieName)
	if err != nil {
		return false
	}
	res, err := methods.SessionIsActive(r.Context(), s.Client, &types.SessionIsActive{This: *s.Client.ServiceContent.SessionManager, SessionID: c.Value, UserName: User})
	return err == nil && res.Returnval
}

// Allow has every account have these privileges alone.
func (s *Server) Allow(privileges ...string) { s.mu.Lock(); s.allowed = privileges; s.mu.Unlock() }

var keyOf = regexp.MustCompile(`<key>([^<]+)</key>`)

// policyOf answers which storage policy a disk has: vcsim knows of none.
func (s *Server) policyOf(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := io.ReadAll(r.Body)
	m := keyOf.FindSubmatch(b)
	if err != nil || m == nil {
		http.Error(w, "what was that?", http.StatusBadRequest)
		return
	}
	inner := ""
	if p := s.policy[string(m[1])]; p != "" {
		inner = "<returnval><uniqueId>" + p + "</uniqueId></returnval>"
	}
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	fmt.Fprintf(w, envelope, `<PbmQueryAssociatedProfileResponse xmlns="urn:pbm">`+inner+`</PbmQueryAssociatedProfileResponse>`)
}

// privileges answers which of them the account has: vcsim grants all.
func (s *Server) privileges(w http.ResponseWriter, r *http.Request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.allowed == nil {
		return false
	}
	b, err := io.ReadAll(r.Body)
	call, bad := simulator.UnmarshalBody(types.TypeFunc(), b)
	if err != nil || bad != nil {
		http.Error(w, "what was that?", http.StatusBadRequest)
		return true
	}
	var answer strings.Builder
	for _, p := range call.Body.(*types.HasPrivilegeOnEntity).PrivId {
		fmt.Fprintf(&answer, "<returnval>%t</returnval>", slices.Contains(s.allowed, p))
	}
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	fmt.Fprintf(w, envelope, `<HasPrivilegeOnEntityResponse xmlns="urn:vim25">`+answer.String()+`</HasPrivilegeOnEntityResponse>`)
	return true
}

// Quiet keeps vcsim from logging every method and object that it does not have.
func Quiet() { log.SetOutput(io.Discard) }

var inBody = regexp.MustCompile(`<(?:\w+:)?Body[^>]*>\s*<(?:\w+:)?(\w+)`)

// Method returns the name of the method that a SOAP request calls; of others, that of HTTP. The
// body can still be read.
func Method(r *http.Request) string {
	if r.Method != http.MethodPost {
		return r.Method
	}
	b, err := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(b))
	if m := inBody.FindSubmatch(b); err == nil && m != nil {
		return string(m[1])
	}
	return r.Method
}

// Changes says whether a request is there to change something, if only a session.
func Changes(r *http.Request) bool {
	m := Method(r)
	return strings.HasSuffix(m, "_Task") && m != "SearchDatastore_Task" || m == "Login" || m == "Logout" || m == http.MethodPut
}

// Throttle answers as the proxy in front of a vCenter that has too much to do.
func Throttle(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "upstream connect error or disconnect/reset before headers", http.StatusServiceUnavailable)
}

// Refuse answers that a privilege is missing.
func Refuse(w http.ResponseWriter, _ *http.Request) {
	fail(w, "NoPermission", `<object type="VirtualMachine">vm-1</object><privilegeId>VirtualMachine.Config.RemoveDisk</privilegeId>`)
}

const envelope = `<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>%s</soapenv:Body></soapenv:Envelope>`

// fail answers with a fault.
func fail(w http.ResponseWriter, fault, inner string) {
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	w.WriteHeader(http.StatusInternalServerError)
	fmt.Fprintf(w, envelope, fmt.Sprintf(`<soapenv:Fault><faultcode>ServerFaultCode</faultcode><faultstring>%s</faultstring><detail><%sFault xmlns="urn:vim25" xsi:type="%s">%s</%sFault></detail></soapenv:Fault>`, fault, fault, fault, inner, fault))
}

// Actions is how often a change of a machine was begun.
func (s *Server) Actions() int { s.mu.Lock(); defer s.mu.Unlock(); return s.actions }

// What a VMDK is used for.
const (
	Started = "started" // a machine was powered on with it
	Hung    = "hung"    // it was hung on a machine that runs
)

// Booted returns what became of a VMDK, in order.
func (s *Server) Booted(vmdk string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.booted[vmdk]...)
}
