package amttest

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Namespaces.
const (
	nsSoap    = "http://www.w3.org/2003/05/soap-envelope"
	nsAddr    = "http://schemas.xmlsoap.org/ws/2004/08/addressing"
	nsWsman   = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"
	nsEnum    = "http://schemas.xmlsoap.org/ws/2004/09/enumeration"
	nsXfer    = "http://schemas.xmlsoap.org/ws/2004/09/transfer"
	nsID      = "http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd"
	cim       = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/"
	amt       = "http://intel.com/wbem/wscim/1/amt-schema/1/"
	ips       = "http://intel.com/wbem/wscim/1/ips-schema/1/"
	anonymous = nsAddr + "/role/anonymous"
)

// A node is an element of a request.
type node struct {
	XMLName xml.Name
	Attrs   []xml.Attr `xml:",any,attr"`
	Text    string     `xml:",chardata"`
	Nodes   []node     `xml:",any"`
}

// child returns the first child of that name, or nil.
func (n *node) child(space, local string) *node {
	if n == nil {
		return nil
	}
	for i := range n.Nodes {
		if n.Nodes[i].XMLName == (xml.Name{Space: space, Local: local}) {
			return &n.Nodes[i]
		}
	}
	return nil
}

func (n *node) text() string {
	if n == nil {
		return ""
	}
	return strings.TrimSpace(n.Text)
}

// selectors reads a SelectorSet that is a child of n.
func (n *node) selectors() map[string]string {
	all := map[string]string{}
	set := n.child(nsWsman, "SelectorSet")
	if set == nil {
		return all
	}
	for i := range set.Nodes {
		for _, at := range set.Nodes[i].Attrs {
			if at.Name.Local == "Name" {
				all[at.Value] = set.Nodes[i].text()
			}
		}
	}
	return all
}

// A message is a request, as far as WS-Management wants to know.
type message struct {
	action, resource, id string
	selectors            map[string]string
	body                 *node // the body's first element, or nil
	identify             bool
}

// A fault is a refusal.
type fault struct {
	status  int
	code    string // Sender or Receiver
	subcode string
	reason  string
}

func invalid(why string) *fault {
	return &fault{http.StatusBadRequest, "Sender", "f:InvalidRepresentation", "The XML content is not valid: " + why}
}

func denied() *fault {
	return &fault{http.StatusBadRequest, "Sender", "e:AccessDenied", "The sender was not authorized to access the resource."}
}

func unreachable() *fault {
	return &fault{http.StatusBadRequest, "Sender", "b:DestinationUnreachable", "No route can be determined to reach the destination role defined by the WSAddressing To."}
}

const maxEnvelope = 50 << 10

// parse reads an envelope. It is as strict as WS-Management (DSP0226) says a service must be
// about what it needs.
func parse(r io.Reader) (message, *fault) {
	var m message
	raw, err := io.ReadAll(io.LimitReader(r, maxEnvelope+1))
	if err != nil || len(raw) > maxEnvelope {
		return m, &fault{http.StatusBadRequest, "Sender", "e:EncodingLimit", "An internal encoding limit was exceeded in a request or would be violated if the message were processed."}
	}
	var env node
	if err := xml.Unmarshal(raw, &env); err != nil || env.XMLName != (xml.Name{Space: nsSoap, Local: "Envelope"}) {
		return m, &fault{http.StatusBadRequest, "Sender", "e:SchemaValidationError", "The supplied SOAP violates the corresponding XML schema definition."}
	}
	if body := env.child(nsSoap, "Body"); body != nil && len(body.Nodes) > 0 {
		m.body = &body.Nodes[0]
	}
	if m.body != nil && m.body.XMLName == (xml.Name{Space: nsID, Local: "Identify"}) {
		m.identify = true
		return m, nil
	}
	h := env.child(nsSoap, "Header")
	m.action = h.child(nsAddr, "Action").text()
	m.resource = h.child(nsWsman, "ResourceURI").text()
	m.id = h.child(nsAddr, "MessageID").text()
	m.selectors = h.selectors()
	reply := h.child(nsAddr, "ReplyTo").child(nsAddr, "Address").text()
	if m.action == "" || m.id == "" || h.child(nsAddr, "To").text() == "" || reply != anonymous {
		return m, &fault{http.StatusBadRequest, "Sender", "b:MessageInformationHeaderRequired", "A required message information header, To, MessageID, or Action, is not present."}
	}
	if m.resource == "" {
		return m, unreachable()
	}
	return m, nil
}

// class returns the name at the end of a resource's URI.
func (m message) class() string { return m.resource[strings.LastIndex(m.resource, "/")+1:] }

const envelope = `<?xml version="1.0" encoding="UTF-8"?><a:Envelope xmlns:a="` + nsSoap + `" xmlns:b="` + nsAddr +
	`" xmlns:c="` + nsWsman + `" xmlns:e="` + nsWsman + `" xmlns:f="` + nsXfer + `" xmlns:g="` + nsEnum +
	`" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">`

// write sends an answer. body is XML.
func write(w http.ResponseWriter, m message, action, resource, body string) {
	var b bytes.Buffer
	fmt.Fprintf(&b, `%s<a:Header><b:To>%s</b:To><b:RelatesTo>%s</b:RelatesTo><b:Action a:mustUnderstand="true">%s</b:Action><b:MessageID>uuid:00000000-8086-8086-8086-%s</b:MessageID>`,
		envelope, anonymous, escape(m.id), action, randomHex(6))
	if resource != "" {
		fmt.Fprintf(&b, `<c:ResourceURI>%s</c:ResourceURI>`, escape(resource))
	}
	fmt.Fprintf(&b, `</a:Header><a:Body>%s</a:Body></a:Envelope>`, body)
	send(w, http.StatusOK, b.Bytes())
}

// write sends a fault.
func (f *fault) write(w http.ResponseWriter, m message) {
	text := fmt.Sprintf(`%s<a:Header><b:To>%s</b:To><b:RelatesTo>%s</b:RelatesTo><b:Action a:mustUnderstand="true">%s/fault</b:Action><b:MessageID>uuid:00000000-8086-8086-8086-%s</b:MessageID></a:Header>`+
		`<a:Body><a:Fault><a:Code><a:Value>a:%s</a:Value><a:Subcode><a:Value>%s</a:Value></a:Subcode></a:Code><a:Reason><a:Text xml:lang="en-US">%s</a:Text></a:Reason><a:Detail></a:Detail></a:Fault></a:Body></a:Envelope>`,
		envelope, anonymous, escape(m.id), nsAddr, randomHex(6), f.code, f.subcode, escape(f.reason))
	send(w, f.status, []byte(text))
}

func send(w http.ResponseWriter, status int, raw []byte) {
	w.Header().Set("Content-Type", "application/soap+xml; charset=UTF-8")
	w.Header().Set("Server", "Intel(R) Active Management Technology")
	w.WriteHeader(status)
	_, _ = w.Write(raw)
}

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder does not fail
	return b.String()
}
