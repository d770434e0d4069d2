package amttest_test

import (
	"crypto/md5"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"

	"unbrick/remediate/driver/amt/amttest"
)

// A caller speaks HTTP digest authentication by its own code.
type caller struct {
	t            *testing.T
	url          string
	realm, nonce string
	count        int
	password     string
}

func newCaller(t *testing.T, a *amttest.AMT) *caller {
	return &caller{t: t, url: "https://" + a.Addr() + "/wsman", password: password}
}

var challenge = regexp.MustCompile(`^Digest realm="(Digest:[0-9A-F]{32})", nonce="([0-9A-F]{32})",stale="(true|false)",qop="auth"$`)

// post sends a body, with the credentials if a challenge was met.
func (c *caller) post(body string) (status int, answer string) {
	c.t.Helper()
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true,
	}}
	r, err := http.NewRequestWithContext(c.t.Context(), "POST", c.url, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/soap+xml;charset=UTF-8")
	if c.nonce != "" {
		nc := fmt.Sprintf("%08x", c.count)
		h := hash(hash(user, c.realm, c.password), c.nonce, nc, "abc", "auth", hash("POST", "/wsman"))
		r.Header.Set("Authorization", fmt.Sprintf(`Digest username="%s", realm="%s", nonce="%s", uri="/wsman", qop=auth, nc=%s, cnonce="abc", response="%s"`,
			user, c.realm, c.nonce, nc, h))
	}
	resp, err := client.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	if resp.StatusCode == http.StatusUnauthorized {
		m := challenge.FindStringSubmatch(resp.Header.Get("WWW-Authenticate"))
		if m == nil {
			c.t.Fatalf("a challenge that firmware does not send: %q", resp.Header.Get("WWW-Authenticate"))
		}
		c.realm, c.nonce = m[1], m[2]
		return resp.StatusCode, m[3]
	}
	return resp.StatusCode, string(raw)
}

func hash(parts ...string) string {
	sum := md5.Sum([]byte(strings.Join(parts, ":")))
	return hex.EncodeToString(sum[:])
}

const identify = `<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:i="http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd"><s:Body><i:Identify/></s:Body></s:Envelope>`

// TestDigest checks who is let in: each value of a nonce's counter is good once.
func TestDigest(t *testing.T) {
	c := newCaller(t, start(t, amttest.Options{NonceUses: 2}))
	steps := []struct {
		name   string
		count  int
		status int
		stale  string
	}{
		{"without credentials", 0, 401, "false"},
		{"first", 1, 200, ""},
		{"the same again", 1, 401, "true"},
		{"with the new nonce", 1, 200, ""},
		{"second", 2, 200, ""},
		{"used too often", 3, 401, "true"},
	}
	for _, s := range steps {
		c.count = s.count
		if status, text := c.post(identify); status != s.status || status == 401 && text != s.stale {
			t.Fatalf("%s: %d %s", s.name, status, text)
		}
	}
	c.password, c.count = "wrong", 1
	if status, stale := c.post(identify); status != 401 || stale != "false" {
		t.Errorf("a wrong password: %d, stale %s", status, stale)
	}
}

// request returns an envelope.
func request(action, resource, body string) string {
	return `<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing" xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"><s:Header><a:Action>` +
		action + `</a:Action><a:To>/wsman</a:To><w:ResourceURI>` + resource + `</w:ResourceURI><a:MessageID>1</a:MessageID><a:ReplyTo><a:Address>http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:Address></a:ReplyTo></s:Header><s:Body>` +
		body + `</s:Body></s:Envelope>`
}

func get(resource string) string {
	return request("http://schemas.xmlsoap.org/ws/2004/09/transfer/Get", resource, "")
}

func put(fields string) string {
	return request("http://schemas.xmlsoap.org/ws/2004/09/transfer/Put", amt+"AMT_BootSettingData",
		`<h:AMT_BootSettingData xmlns:h="`+amt+`AMT_BootSettingData"><h:InstanceID>Intel(r) AMT:BootSettingData 0</h:InstanceID>`+fields+`</h:AMT_BootSettingData>`)
}

func order(source string) string {
	return request(cim+"CIM_BootConfigSetting/ChangeBootOrder", cim+"CIM_BootConfigSetting",
		`<p:ChangeBootOrder_INPUT xmlns:p="`+cim+`CIM_BootConfigSetting"><p:Source><a:Address>x</a:Address><a:ReferenceParameters><w:SelectorSet><w:Selector Name="InstanceID">`+
			source+`</w:Selector></w:SelectorSet></a:ReferenceParameters></p:Source></p:ChangeBootOrder_INPUT>`)
}

// TestRefusals sends what firmware refuses, after what it takes.
func TestRefusals(t *testing.T) {
	const (
		faulty  = "<a:Fault>"
		failed  = "<h:ReturnValue>2<"
		unknown = "<h:ReturnValue>5<"
		done    = "<h:ReturnValue>0<"
	)
	for name, c := range map[string]struct {
		opt   amttest.Options
		first string // is taken
		send  string
		want  string
	}{
		"no XML":                   {send: "hello", want: "SchemaValidationError"},
		"no message id":            {send: strings.Replace(get(cim+"CIM_BootService"), "<a:MessageID>1</a:MessageID>", "", 1), want: "MessageInformationHeaderRequired"},
		"an unknown class":         {send: get(cim + "CIM_Toaster"), want: "DestinationUnreachable"},
		"a class of another place": {send: get(amt + "CIM_BootService"), want: "DestinationUnreachable"},
		"which one":                {send: get(cim + "CIM_BootSourceSetting"), want: "InvalidSelectors"},
		"an unknown method":        {send: request(cim+"CIM_BootService/Dance", cim+"CIM_BootService", `<p:Dance_INPUT xmlns:p="`+cim+`CIM_BootService"/>`), want: "ActionNotSupported"},
		"a pull of nothing":        {send: request("http://schemas.xmlsoap.org/ws/2004/09/enumeration/Pull", cim+"CIM_BootService", ""), want: "InvalidEnumerationContext"},
		"parameters that break off": {send: put(`<h:UefiBootParametersArray>hoABAA==</h:UefiBootParametersArray><h:UefiBootNumberOfParams>1</h:UefiBootNumberOfParams>`),
			want: "InvalidRepresentation"},
		"parameters that are not counted": {send: put(`<h:UefiBootParametersArray>hoAUAAEAAAAB</h:UefiBootParametersArray><h:UefiBootNumberOfParams>2</h:UefiBootNumberOfParams>`),
			want: "InvalidRepresentation"},
		"parameters before AMT 15": {opt: amttest.Options{Version: "12.0.45"}, send: put(`<h:UefiBootParametersArray>hoAUAAEAAAAB</h:UefiBootParametersArray><h:UefiBootNumberOfParams>1</h:UefiBootNumberOfParams>`),
			want: "InvalidRepresentation"},
		"parameters after the source": {first: order(amttest.SourceHTTPS), send: put(`<h:UefiBootParametersArray>hoAUAAEAAAAB</h:UefiBootParametersArray><h:UefiBootNumberOfParams>1</h:UefiBootNumberOfParams>`),
			want: "InvalidRepresentation"},
		"a source beside the setup":     {first: put(`<h:BIOSSetup>true</h:BIOSSetup>`), send: order(amttest.SourcePXE), want: failed},
		"an unknown source":             {send: order("Intel(r) AMT: Force Tape Boot"), want: unknown},
		"HTTPS before AMT 15":           {opt: amttest.Options{Version: "14.1.0"}, send: order(amttest.SourceHTTPS), want: unknown},
		"WinRE without Secure Boot":     {send: order(amttest.SourceWinRE), want: failed},
		"a source without consent":      {opt: amttest.Options{ClientControl: true}, send: order(amttest.SourcePXE), want: "AccessDenied"},
		"no source without consent":     {opt: amttest.Options{ClientControl: true}, send: order(""), want: done},
		"a source with consent":         {opt: amttest.Options{ClientControl: true, Consented: true}, send: order(amttest.SourcePXE), want: done},
		"a source when all is asked":    {opt: amttest.Options{AskConsent: true}, send: order(amttest.SourcePXE), want: "AccessDenied"},
		"the method of another element": {send: strings.Replace(order(""), "ChangeBootOrder_INPUT xmlns", "ChangeOrder_INPUT xmlns", 1), want: faulty},
	} {
		t.Run(name, func(t *testing.T) {
			c2 := newCaller(t, start(t, c.opt))
			c2.post("")
			if c2.count++; c.first != "" {
				if status, text := c2.post(c.first); status != 200 || strings.Contains(text, failed) {
					t.Fatalf("%d %s", status, text)
				}
				c2.count++
			}
			status, text := c2.post(c.send)
			want := c.want
			if want == faulty {
				want = "Fault" // or a document that cannot be read
			}
			if !strings.Contains(text, want) || (status == 200) != strings.Contains(c.want, "ReturnValue") {
				t.Errorf("want %s, got %d %s", c.want, status, text)
			}
		})
	}
}

// TestOther asks for what is not WS-Management.
func TestOther(t *testing.T) {
	a := start(t, amttest.Options{})
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	for path, want := range map[string]int{"/wsman": 405, "/index.htm": 404} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+a.Addr()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("GET %s: %d", path, resp.StatusCode)
		}
	}
}

// A diary is a host that writes down what it is told.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) Start(b amttest.Boot) { d.add("start " + b.Source) }
func (d *diary) Stop()                { d.add("stop") }
func (d *diary) add(s string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, s)
}

// TestCrash has the host start anew by itself: what was set for one start is used up by it, and
// the host is told in order.
func TestCrash(t *testing.T) {
	d := &diary{}
	a := start(t, amttest.Options{Host: d})
	c := newCaller(t, a)
	c.post("")
	for _, body := range []string{order(amttest.SourcePXE), request(cim+"CIM_BootService/SetBootConfigRole", cim+"CIM_BootService",
		`<p:SetBootConfigRole_INPUT xmlns:p="`+cim+`CIM_BootService"><p:BootConfigSetting><a:ReferenceParameters><w:SelectorSet><w:Selector Name="InstanceID">Intel(r) AMT: Boot Configuration 0</w:Selector></w:SelectorSet></a:ReferenceParameters></p:BootConfigSetting><p:Role>1</p:Role></p:SetBootConfigRole_INPUT>`)} {
		c.count++
		if status, text := c.post(body); status != 200 {
			t.Fatal(text)
		}
	}
	a.Reset()
	a.Reset()
	a.Close() // waits until the host was told
	if got := strings.Join(d.lines, ", "); got != "stop, start network, stop, start disk" {
		t.Errorf("the host was told: %s", got)
	}
}
