package amttest

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// ReturnValues of methods.
const (
	returnFailed     = 2
	returnParameter  = 5
	returnTransition = 4097 // invalid state transition
)

// serve answers one request.
func (a *AMT) serve(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	select {
	case <-a.closed:
		a.mu.Unlock()
		panic(http.ErrAbortHandler)
	default:
	}
	a.busy.Add(1)
	a.mu.Unlock()
	defer a.busy.Done()
	switch {
	case r.URL.Path != "/wsman":
		http.NotFound(w, r)
		return
	case r.Method != http.MethodPost:
		http.Error(w, "POST is what WS-Management takes", http.StatusMethodNotAllowed)
		return
	}
	challenge := a.authenticate(r)
	m, bad := message{}, (*fault)(nil)
	op := OpChallenge
	if challenge == "" {
		m, bad = parse(r.Body)
		op = opOf(m, bad)
	}
	f, ordered := a.meet(op)
	if ordered {
		if done, cut := a.fail(f, w, r, m); done {
			return
		} else if cut {
			w = &lost{header: http.Header{}}
			defer panic(http.ErrAbortHandler)
		}
	}
	switch {
	case challenge != "":
		w.Header().Set("WWW-Authenticate", challenge)
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, "<html><body>Log on failed. Incorrect user name or password, or user account temporarily locked.</body></html>")
	case !strings.HasPrefix(r.Header.Get("Content-Type"), "application/soap+xml"):
		http.Error(w, "application/soap+xml is what WS-Management takes", http.StatusUnsupportedMediaType)
	case bad != nil:
		bad.write(w, m)
	default:
		a.answer(w, m)
	}
}

// lost is where an answer goes that never arrives.
type lost struct{ header http.Header }

func (l *lost) Header() http.Header         { return l.header }
func (l *lost) Write(b []byte) (int, error) { return len(b), nil }
func (l *lost) WriteHeader(int)             {}

// answer does what a message asks.
func (a *AMT) answer(w http.ResponseWriter, m message) {
	if m.identify {
		write(w, m, nsID+"/IdentifyResponse", "", fmt.Sprintf(
			`<i:IdentifyResponse xmlns:i="%s"><i:ProtocolVersion>%s</i:ProtocolVersion><i:ProductVendor>Intel(r)</i:ProductVendor><i:ProductVersion>AMT %s</i:ProductVersion></i:IdentifyResponse>`,
			nsID, nsWsman, a.opt.Version))
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	class := m.class()
	all := a.instances(class)
	namespace := map[string]string{"CIM": cim, "AMT": amt, "IPS": ips}[class[:min(3, len(class))]]
	if all == nil || m.resource != namespace+class {
		unreachable().write(w, m)
		return
	}
	action, body, f := "", "", (*fault)(nil)
	switch m.action {
	case nsXfer + "/Get":
		action = nsXfer + "/GetResponse"
		body, f = get(m, all)
	case nsXfer + "/Put":
		action = nsXfer + "/PutResponse"
		body, f = a.change(m, class)
	case nsEnum + "/Enumerate":
		action = nsEnum + "/EnumerateResponse"
		body = a.enumerate(m, all)
	case nsEnum + "/Pull":
		action = nsEnum + "/PullResponse"
		body, f = a.pull(m)
	default:
		action = m.action + "Response"
		body, f = a.invoke(m, class)
	}
	if f != nil {
		f.write(w, m)
		return
	}
	write(w, m, action, m.resource, body)
}

func get(m message, all []instance) (string, *fault) {
	for _, i := range all {
		if i.matches(m.selectors) && (len(all) == 1 || len(m.selectors) > 0) {
			return i.xml(), nil
		}
	}
	return "", &fault{http.StatusBadRequest, "Sender", "c:InvalidSelectors", "The Selectors for the resource are not valid."}
}

// change takes a Put. The caller holds mu.
func (a *AMT) change(m message, class string) (string, *fault) {
	if class != "AMT_BootSettingData" {
		return "", &fault{http.StatusBadRequest, "Sender", "b:ActionNotSupported", "The action is not supported by the service."}
	}
	if m.body == nil || m.body.XMLName.Local != class || m.body.XMLName.Space != m.resource {
		return "", invalid("the instance is missing")
	}
	values := map[string]string{}
	for i := range m.body.Nodes {
		values[m.body.Nodes[i].XMLName.Local] = m.body.Nodes[i].text()
	}
	if values["InstanceID"] != bootData {
		return "", invalid("InstanceID")
	}
	if f := a.put(values); f != nil {
		return "", f
	}
	return a.bootSettings().xml(), nil
}

// An enumeration is one that was begun and not pulled to its end.
type enumeration struct {
	class string
	items []string
}

// enumerate begins one. The caller holds mu.
func (a *AMT) enumerate(m message, all []instance) string {
	e := &enumeration{class: m.class()}
	mode := m.body.child(nsWsman, "EnumerationMode").text()
	for _, i := range all {
		switch mode {
		case "EnumerateEPR":
			e.items = append(e.items, i.epr())
		case "EnumerateObjectAndEPR":
			e.items = append(e.items, `<c:Item>`+i.xml()+i.epr()+`</c:Item>`)
		default:
			e.items = append(e.items, i.xml())
		}
	}
	id := randomHex(4) + "-0000-0000-0000-000000000000"
	a.contexts[id] = e
	return fmt.Sprintf(`<g:EnumerateResponse><g:EnumerationContext>%s</g:EnumerationContext></g:EnumerateResponse>`, id)
}

// pull returns items of an enumeration. The caller holds mu.
func (a *AMT) pull(m message) (string, *fault) {
	id := m.body.child(nsEnum, "EnumerationContext").text()
	e := a.contexts[id]
	if e == nil || e.class != m.class() {
		return "", &fault{http.StatusBadRequest, "Receiver", "g:InvalidEnumerationContext", "The supplied enumeration context is invalid."}
	}
	n, err := strconv.Atoi(m.body.child(nsEnum, "MaxElements").text())
	if err != nil || n < 1 {
		n = 1
	}
	if a.opt.PullLimit > 0 {
		n = min(n, a.opt.PullLimit)
	}
	n = min(n, len(e.items))
	body := `<g:PullResponse>`
	if n < len(e.items) {
		body += `<g:EnumerationContext>` + id + `</g:EnumerationContext>`
	}
	body += `<g:Items>` + strings.Join(e.items[:n], "") + `</g:Items>`
	e.items = e.items[n:]
	if len(e.items) == 0 {
		delete(a.contexts, id)
		body += `<g:EndOfSequence></g:EndOfSequence>`
	}
	return body + `</g:PullResponse>`, nil
}

// invoke calls a method. The caller holds mu.
func (a *AMT) invoke(m message, class string) (string, *fault) {
	method, ok := strings.CutPrefix(m.action, m.resource+"/")
	if !ok || m.body == nil || m.body.XMLName.Local != method+"_INPUT" || m.body.XMLName.Space != m.resource {
		return "", &fault{http.StatusBadRequest, "Sender", "b:ActionNotSupported", "The action is not supported by the service."}
	}
	target := func(name string) map[string]string {
		return m.body.child(m.resource, name).child(nsAddr, "ReferenceParameters").selectors()
	}
	value, f := 0, (*fault)(nil)
	switch class + "." + method {
	case "CIM_PowerManagementService.RequestPowerStateChange":
		state, err := strconv.Atoi(m.body.child(m.resource, "PowerState").text())
		if value = returnParameter; err == nil && target("ManagedElement")["Name"] == "ManagedSystem" {
			value = a.request(state)
		}
	case "CIM_BootService.SetBootConfigRole":
		value, f = a.setRole(target("BootConfigSetting")["InstanceID"], m.body.child(m.resource, "Role").text())
	case "CIM_BootConfigSetting.ChangeBootOrder":
		value, f = a.order(target("Source")["InstanceID"])
	default:
		f = &fault{http.StatusBadRequest, "Sender", "b:ActionNotSupported", "The action is not supported by the service."}
	}
	if f != nil {
		return "", f
	}
	return fmt.Sprintf(`<h:%s_OUTPUT xmlns:h="%s"><h:ReturnValue>%d</h:ReturnValue></h:%s_OUTPUT>`, method, m.resource, value, method), nil
}
