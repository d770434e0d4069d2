package redfishtest_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"unbrick/remediate/driver/redfish/redfishtest"
	"unbrick/remediate/lab/testenv"
)

const image = "http://192.0.2.7:8080/abc/rescue.iso"

// A host writes down what it is told.
type host chan string

func (h host) Start(b redfishtest.Boot) { h <- "start " + b.Device + " " + b.Image }
func (h host) Stop()                    { h <- "stop" }

func (h host) next(t *testing.T) string {
	t.Helper()
	select {
	case s := <-h:
		return s
	case <-time.After(10 * time.Second):
		t.Fatal("the host was told nothing")
		return ""
	}
}

func start(t *testing.T, o redfishtest.Options) (*redfishtest.BMC, host) {
	t.Helper()
	h := make(host, 100)
	o.User, o.Password, o.Host = "admin", "secret", h
	b, err := redfishtest.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b, h
}

// do sends one request with Basic credentials, and returns the status (0: no answer) and body.
func do(t *testing.T, b *redfishtest.BMC, method, path, body string) (int, map[string]any) {
	t.Helper()
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(t.Context(), method, b.URL()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("admin", "secret")
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	raw, _ := io.ReadAll(resp.Body)
	var v map[string]any
	json.Unmarshal(raw, &v)
	return resp.StatusCode, v
}

func TestBootOnce(t *testing.T) {
	var kinds []string
	b, h := start(t, redfishtest.Options{Record: func(a redfishtest.Action) { kinds = append(kinds, a.Kind+" "+a.Detail) }})
	steps := []struct{ method, path, body string }{
		{"POST", "/redfish/v1/Systems/1/VirtualMedia/CD1/Actions/VirtualMedia.InsertMedia", `{"Image":"` + image + `"}`},
		{"PATCH", "/redfish/v1/Systems/1", `{"Boot":{"BootSourceOverrideTarget":"Cd","BootSourceOverrideEnabled":"Once"}}`},
		{"POST", "/redfish/v1/Systems/1/Actions/ComputerSystem.Reset", `{"ResetType":"ForceRestart"}`},
	}
	for _, s := range steps {
		if code, v := do(t, b, s.method, s.path, s.body); code != 204 {
			t.Fatalf("%s %s: %d %v", s.method, s.path, code, v)
		}
	}
	if got := []string{h.next(t), h.next(t)}; !slices.Equal(got, []string{"stop", "start Cd " + image}) {
		t.Errorf("the host was told %q", got)
	}
	if boot := b.Reboot(); boot.Device != redfishtest.Hdd {
		t.Errorf("the override held for a second start: %v", boot)
	}
	want := []string{"insert CD1 " + image, "override Cd once", "power reset", "boot cd " + image, "boot hdd"}
	if !slices.Equal(kinds, want) {
		t.Errorf("recorded %q, want %q", kinds, want)
	}
}

func TestRefusals(t *testing.T) {
	const insert = "/redfish/v1/Systems/1/VirtualMedia/CD1/Actions/VirtualMedia.InsertMedia"
	b, _ := start(t, redfishtest.Options{FetchOnInsert: true})
	for _, image := range []string{"", "http://192.0.2.7/a.iso?t=1", "http://192.0.2.7/a.img", "ftp://192.0.2.7/a.iso", "a.iso", "http://127.0.0.1:1/a.iso"} {
		if code, _ := do(t, b, "POST", insert, `{"Image":"`+image+`"}`); code < 400 {
			t.Errorf("image %q: %d", image, code)
		}
	}
	b.SetMedia("CD1", image)
	if code, _ := do(t, b, "POST", insert, `{"Image":"`+image+`"}`); code != 400 {
		t.Errorf("a slot that is full took another image: %d", code)
	}
}

func TestFaults(t *testing.T) {
	const reset = "/redfish/v1/Systems/1/Actions/ComputerSystem.Reset"
	for _, c := range []struct {
		kind redfishtest.Kind
		code int
		done bool
	}{
		{redfishtest.LostRequest, 0, false},
		{redfishtest.LostReply, 0, true},
		{redfishtest.Busy, 503, false},
		{redfishtest.Internal, 500, false},
		{redfishtest.Unauthorized, 401, false},
		{redfishtest.Slow, 204, true},
	} {
		b, _ := start(t, redfishtest.Options{})
		b.Order(redfishtest.Fault{Kind: c.kind, On: redfishtest.OpReset})
		code, _ := do(t, b, "POST", reset, `{"ResetType":"ForceOff"}`)
		if done := b.State().Power == "Off"; code != c.code || done != c.done {
			t.Errorf("%s: answered %d, done %v; want %d, %v", c.kind, code, done, c.code, c.done)
		}
		if len(b.Pending()) != 0 {
			t.Errorf("%s: the fault was not used up", c.kind)
		}
	}
}

func TestHangEndsWithTheBMC(t *testing.T) {
	b, _ := start(t, redfishtest.Options{Faults: []redfishtest.Fault{{Kind: redfishtest.Hang}}})
	answered := make(chan int)
	go func() {
		code, _ := do(t, b, "GET", "/redfish/v1", "")
		answered <- code
	}()
	for len(b.Requests()) == 0 {
		time.Sleep(time.Millisecond)
	}
	b.Close()
	if code := <-answered; code != 0 {
		t.Errorf("a BMC that hangs answered %d", code)
	}
}

// TestRedfishtool lets a client that nobody here wrote drive the models that differ most in
// what it looks at.
func TestRedfishtool(t *testing.T) {
	testenv.Need(t, "redfishtool")
	for _, m := range []redfishtest.Model{redfishtest.Generic(), redfishtest.IDRAC8(), redfishtest.ILO5(), redfishtest.OpenBMC()} {
		t.Run(m.Name, func(t *testing.T) {
			t.Parallel()
			b, h := start(t, redfishtest.Options{Model: m, Serial: "SN123", UUID: "4c4c4544-0000-1000-8000-000000000001"})
			if got := tool(t, b, m, "Systems", "-I", m.SystemID, "get"); got["SerialNumber"] != "SN123" || got["PowerState"] != "On" {
				t.Errorf("Systems get: %v", got)
			}
			place, id := "Systems", m.SystemID
			if m.Slots[0].Manager {
				place, id = "Managers", m.ManagerID
			}
			media := tool(t, b, m, "raw", "GET", "/redfish/v1/"+place+"/"+id+"/VirtualMedia")
			if n, _ := media["Members@odata.count"].(float64); n < 1 {
				t.Errorf("virtual media: %v", media)
			}
			if m.ResetInfo { // it does not read that
				return
			}
			tool(t, b, m, "Systems", "-I", m.SystemID, "reset", "ForceOff")
			if got := h.next(t); got != "stop" || b.State().Power != "Off" {
				t.Errorf("ForceOff: the host was told %q, power is %s", got, b.State().Power)
			}
			if n := b.State().Sessions; n != 0 {
				t.Errorf("%d sessions are left", n)
			}
		})
	}
}

func tool(t *testing.T, b *redfishtest.BMC, m redfishtest.Model, args ...string) map[string]any {
	t.Helper()
	auth := "Session"
	if m.NoSessions {
		auth = "Basic"
	}
	args = append([]string{"-r", strings.TrimPrefix(b.URL(), "https://"), "-u", "admin", "-p", "secret", "-S", "Always", "-A", auth}, args...)
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "redfishtool", args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("redfishtool %q: %v\n%s%s", args, err, &out, &errs)
	}
	var v map[string]any
	json.Unmarshal(out.Bytes(), &v)
	return v
}
