package winrmtest

import (
	"crypto/rand"
	"encoding/xml"
	"fmt"
	"html"
	"net/http"
	"sort"
	"strconv"
	"strings"
	"time"
)

const (
	actionTransfer = "http://schemas.xmlsoap.org/ws/2004/09/transfer/"
	actionShell    = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell/"
	resourceShell  = actionShell + "cmd"
	resourceWMI    = "http://schemas.microsoft.com/wbem/wsman/1/wmi/root/cimv2/"
)

// An envelope is a request.
type envelope struct {
	XMLName xml.Name `xml:"http://www.w3.org/2003/05/soap-envelope Envelope"`
	Header  struct {
		To        string  `xml:"To"`
		ReplyTo   string  `xml:"ReplyTo>Address"`
		Max       int     `xml:"MaxEnvelopeSize"`
		MessageID string  `xml:"MessageID"`
		Action    string  `xml:"Action"`
		Resource  string  `xml:"ResourceURI"`
		Timeout   string  `xml:"OperationTimeout"`
		Selectors []named `xml:"SelectorSet>Selector"`
		Options   []named `xml:"OptionSet>Option"`
	} `xml:"http://www.w3.org/2003/05/soap-envelope Header"`
	Body struct {
		Shell *struct {
			Input  string `xml:"InputStreams"`
			Output string `xml:"OutputStreams"`
			Idle   string `xml:"IdleTimeOut"`
		} `xml:"http://schemas.microsoft.com/wbem/wsman/1/windows/shell Shell"`
		CommandLine *struct {
			Any []struct {
				XMLName xml.Name
				Text    string `xml:",chardata"`
				Inner   []struct {
					XMLName xml.Name
				} `xml:",any"`
			} `xml:",any"`
		} `xml:"http://schemas.microsoft.com/wbem/wsman/1/windows/shell CommandLine"`
		Receive *struct {
			Stream struct {
				Command string `xml:"CommandId,attr"`
			} `xml:"DesiredStream"`
		} `xml:"http://schemas.microsoft.com/wbem/wsman/1/windows/shell Receive"`
		Send *struct {
			Stream struct {
				Command string `xml:"CommandId,attr"`
				Name    string `xml:"Name,attr"`
				End     string `xml:"End,attr"`
				Text    string `xml:",chardata"`
			} `xml:"Stream"`
		} `xml:"http://schemas.microsoft.com/wbem/wsman/1/windows/shell Send"`
		Signal *struct {
			Command string `xml:"CommandId,attr"`
			Code    string `xml:"Code"`
		} `xml:"http://schemas.microsoft.com/wbem/wsman/1/windows/shell Signal"`
	} `xml:"http://www.w3.org/2003/05/soap-envelope Body"`
}

type named struct {
	Name string `xml:"Name,attr"`
	Text string `xml:",chardata"`
}

func (e *envelope) selector(name string) string { return find(e.Header.Selectors, name) }
func (e *envelope) option(name string) string   { return find(e.Header.Options, name) }

func find(all []named, name string) string {
	for _, n := range all {
		if n.Name == name {
			return strings.TrimSpace(n.Text)
		}
	}
	return ""
}

// A refusal is a SOAP fault.
type refusal struct{ code, sub, reason string }

func (r *refusal) Error() string { return r.reason }

// Faults of Windows, by their numbers.
var (
	errTimedOut  = &refusal{"2150858793", "w:TimedOut", "The WS-Management service cannot complete the operation within the time specified in OperationTimeout."}
	errNoShell   = &refusal{"2150858843", "w:InvalidSelectors", "The request for the Windows Remote Shell failed because the shell was not found on the server."}
	errShells    = &refusal{"2150859174", "w:QuotaLimit", "This user has exceeded the maximum number of concurrent shells allowed for this plugin."}
	errTooLarge  = &refusal{"2150858811", "w:EncodingLimit", "The size of the request exceeds the quota of the WS-Management service."}
	errSchema    = &refusal{"2150858817", "w:SchemaValidationError", "The SOAP XML in the message does not match the corresponding XML schema definition."}
	errAction    = &refusal{"2150858764", "a:ActionNotSupported", "The action is not supported by the service."}
	errNoCommand = &refusal{"2150858752", "w:InvalidSelectors", "The WS-Management service has no such command."}
	errNoClass   = &refusal{"2150858752", "w:InvalidResourceURI", "The WS-Management service has no such class."}
	errPipe      = &refusal{"2147942509", "w:InternalError", "The pipe has been ended."}
)

// answer does what one message asks for.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, l *login, message []byte) {
	var e envelope
	op, err := parse(message, &e)
	k := s.meet(op)
	if s.before(w, r, k) {
		return
	}
	var body string
	if err == nil {
		body, err = s.do(r, op, &e)
	}
	s.after(k)
	status, action := http.StatusOK, e.Header.Action+"Response"
	if err != nil {
		f := err.(*refusal)
		status, action = http.StatusInternalServerError, "http://schemas.dmtf.org/wbem/wsman/1/wsman/fault"
		body = fmt.Sprintf(`<s:Fault><s:Code><s:Value>s:Sender</s:Value><s:Subcode><s:Value>%s</s:Value></s:Subcode></s:Code>`+
			`<s:Reason><s:Text xml:lang="en-US">%s </s:Text></s:Reason><s:Detail><f:WSManFault `+
			`xmlns:f="http://schemas.microsoft.com/wbem/wsman/1/wsmanfault" Code="%s" Machine="host1"><f:Message>%s</f:Message></f:WSManFault></s:Detail></s:Fault>`,
			f.sub, html.EscapeString(f.reason), f.code, html.EscapeString(f.reason))
	}
	s.write(w, l, status, `<s:Envelope xml:lang="en-US" xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing" `+
		`xmlns:x="http://schemas.xmlsoap.org/ws/2004/09/transfer" xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd" `+
		`xmlns:rsp="http://schemas.microsoft.com/wbem/wsman/1/windows/shell"><s:Header><a:Action>`+html.EscapeString(action)+`</a:Action><a:MessageID>uuid:`+rand.Text()+
		`</a:MessageID><a:To>http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:To><a:RelatesTo>`+html.EscapeString(e.Header.MessageID)+
		`</a:RelatesTo></s:Header><s:Body>`+body+`</s:Body></s:Envelope>`, k == InPlain)
}

// parse reads a message as strictly as Windows, and says what it is for.
func parse(message []byte, e *envelope) (Op, error) {
	if len(message) > maxEnvelope {
		return "", errTooLarge
	}
	if err := xml.Unmarshal(message, e); err != nil {
		return "", errSchema
	}
	h := &e.Header
	if h.To == "" || h.ReplyTo == "" || h.MessageID == "" || h.Max < 8192 || h.Max > maxEnvelope {
		return "", errSchema
	}
	if _, err := timeout(h.Timeout); err != nil {
		return "", errSchema
	}
	if h.Action == actionTransfer+"Get" && strings.HasPrefix(h.Resource, resourceWMI) {
		return Get, nil
	}
	ops := map[string]Op{
		actionTransfer + "Create": Create, actionTransfer + "Delete": Delete, actionShell + "Command": Execute,
		actionShell + "Send": Send, actionShell + "Receive": Receive, actionShell + "Signal": Signal,
	}
	op, ok := ops[h.Action]
	if !ok || h.Resource != resourceShell {
		return "", errAction
	}
	b := &e.Body
	if op == Create && b.Shell == nil || op == Execute && b.CommandLine == nil || op == Send && b.Send == nil ||
		op == Receive && b.Receive == nil || op == Signal && b.Signal == nil {
		return op, errSchema
	}
	return op, nil
}

// timeout reads an xs:duration of seconds or minutes.
func timeout(text string) (time.Duration, error) {
	if text == "" {
		return time.Minute, nil
	}
	digits, unit := strings.TrimPrefix(text, "PT"), time.Second
	if strings.HasSuffix(digits, "M") {
		unit = time.Minute
	}
	f, err := strconv.ParseFloat(strings.TrimRight(digits, "SM"), 64)
	if err != nil || !strings.HasPrefix(text, "PT") || f < 0.5 {
		return 0, errSchema
	}
	return time.Duration(f * float64(unit)), nil
}

// get answers for an instance of a WMI class.
func (s *Server) get(e *envelope) (string, error) {
	class := strings.TrimPrefix(e.Header.Resource, resourceWMI)
	var properties map[string]any
	if s.opt.WMI != nil {
		properties = s.opt.WMI(class)
	}
	if properties == nil {
		return "", errNoClass
	}
	names := []string{}
	for n := range properties {
		names = append(names, n)
	}
	sort.Strings(names)
	var b strings.Builder
	for _, n := range names {
		v := html.EscapeString(fmt.Sprint(properties[n]))
		if t, ok := properties[n].(time.Time); ok {
			v = "<cim:Datetime>" + t.Format(time.RFC3339) + "</cim:Datetime>"
		}
		fmt.Fprintf(&b, "<p:%s>%s</p:%s>", n, v, n)
	}
	return fmt.Sprintf(`<p:%s xmlns:p="%s%s" xmlns:cim="http://schemas.dmtf.org/wbem/wscim/1/common">%s</p:%s>`, class, resourceWMI, class, b.String(), class), nil
}
