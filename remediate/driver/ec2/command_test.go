package ec2_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"unbrick/remediate/driver/ec2"
	"unbrick/remediate/driver/ec2/ec2test"
)

// A commandRig is a fake with helpers, whose requests can be interfered with.
type commandRig struct {
	*ec2test.Server
	around func(w http.ResponseWriter, r *http.Request, action string, next http.Handler)
}

func newCommandRig(t *testing.T) *commandRig {
	r := &commandRig{Server: ec2test.New(where)}
	r.Shell = func(id, script string) (string, string, int) { return "ran " + script + " on " + id, "", 0 }
	login(t, r.Server)
	return r
}

func (r *commandRig) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	action := strings.TrimPrefix(req.Header.Get("X-Amz-Target"), "AmazonSSM.")
	if r.around == nil {
		r.Server.ServeHTTP(w, req)
		return
	}
	r.around(w, req, action, r.Server)
}

func (r *commandRig) commands(t *testing.T, helpers ...string) *ec2.Commands {
	t.Helper()
	s := httptest.NewServer(r)
	t.Cleanup(s.Close)
	c, err := ec2.NewCommands(t.Context(), ec2.CommandOptions{Helpers: helpers, Region: where, Endpoint: s.URL, Every: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (r *commandRig) managed(in ec2test.Instance) string {
	id := helper(r.Server, in)
	r.Manage(id, ec2test.Node{Platform: "Linux", Ping: "Online"})
	return id
}

// TestCommandHelpers: each helper is told, with what stands against commands on it.
func TestCommandHelpers(t *testing.T) {
	r := newCommandRig(t)
	r.PageCap = 5
	want := map[string]string{}
	for range 12 {
		want[r.managed(ec2test.Instance{})] = ""
	}
	want[helper(r.Server, ec2test.Instance{})] = "AmazonSSMManagedInstanceCore"
	want[r.managed(ec2test.Instance{State: "stopped"})] = "does not run"
	want[r.managed(ec2test.Instance{Platform: "windows"})] = "runs Windows"
	want[r.managed(ec2test.Instance{Architecture: "arm64"})] = "arm64"
	lost, mac := helper(r.Server, ec2test.Instance{}), helper(r.Server, ec2test.Instance{})
	r.Manage(lost, ec2test.Node{Platform: "Linux", Ping: "ConnectionLost"})
	r.Manage(mac, ec2test.Node{Platform: "MacOS", Ping: "Online"})
	want[lost], want[mac] = "not online (ConnectionLost since 2023", "runs MacOS"
	helper(r.Server, ec2test.Instance{State: "terminated"})
	r.managed(ec2test.Instance{Tags: map[string]string{"Name": "another"}})
	all, err := r.commands(t).Helpers(t.Context())
	if err != nil || len(all) != len(want) {
		t.Fatalf("%d helpers, not %d: %v", len(all), len(want), err)
	}
	for _, h := range all {
		if not, ok := want[h.ID]; !ok || (not == "") != (h.Not == "") || !strings.Contains(h.Not, not) || h.Name != "unbrick-helper" || h.Zone != where+"a" || h.Region != where {
			t.Errorf("%+v, want %q", h, not)
		}
	}
	_, err = r.commands(t, "nobody", "tag:Role=none").Helpers(t.Context())
	if err == nil || !strings.Contains(err.Error(), "nobody, tag:Role=none") {
		t.Error(err)
	}
}

// TestCommandRuns: a script runs once, whatever becomes of requests and replies.
func TestCommandRuns(t *testing.T) {
	for name, c := range map[string]struct {
		change func(r *commandRig)
		want   string // in the error; none: it ran
		sent   int
	}{
		"plain": {func(*commandRig) {}, "", 1},
		"the reply to SendCommand is lost": {first("SendCommand", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			next.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		}), "", 1},
		"SendCommand fails after it was heard": {first("SendCommand", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			next.ServeHTTP(httptest.NewRecorder(), r)
			w.WriteHeader(http.StatusBadGateway)
		}), "", 1},
		"SendCommand was not heard": {first("SendCommand", func(http.ResponseWriter, *http.Request, http.Handler) {
			panic(http.ErrAbortHandler)
		}), "no such command", 0},
		"throttled":           {first("SendCommand", refused(http.StatusBadRequest, "ThrottlingException")), "", 1},
		"reads are throttled": {first("GetCommandInvocation", refused(http.StatusBadRequest, "ThrottlingException")), "", 1},
		"reads fail":          {first("GetCommandInvocation", refused(http.StatusInternalServerError, "InternalServerError")), "", 1},
		"no right to send":    {denied("SendCommand"), "the right ssm:SendCommand is missing", 0},
		"no right to look":    {denied("GetCommandInvocation"), "the right ssm:GetCommandInvocation is missing", 1},
		"the agent went away": {func(r *commandRig) {
			r.Manage(r.Instances()[0], ec2test.Node{Platform: "Linux", Ping: "ConnectionLost"})
		}, "not in a valid state", 0},
		"wrong key":             {func(r *commandRig) { r.Secret = "another" }, "does not take these credentials", 0},
		"it fails":              {func(r *commandRig) { r.Shell = says("out", "bad\x1b[2J luck\n", 3) }, "Failed (exit code 3)\nbad [2J luck", 1},
		"it fails, and says so": {func(r *commandRig) { r.Shell = says("only here", "", 1) }, "only here", 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := newCommandRig(t)
			id := r.managed(ec2test.Instance{})
			c.change(r)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			out, err := r.commands(t).Run(ctx, id, "unbrick enrolment 12345678", "a script")
			if c.want == "" && (err != nil || out != "ran a script on "+id) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%q, %v", out, err)
			}
			if n := len(r.Commands()); n != c.sent {
				t.Errorf("%d commands, not %d", n, c.sent)
			}
		})
	}
}

// first interferes with the first request for an action.
func first(action string, do func(http.ResponseWriter, *http.Request, http.Handler)) func(*commandRig) {
	return func(r *commandRig) {
		var done atomic.Bool
		r.around = func(w http.ResponseWriter, req *http.Request, is string, next http.Handler) {
			if is == action && !done.Swap(true) {
				do(w, req, next)
				return
			}
			next.ServeHTTP(w, req)
		}
	}
}

// refused answers as Systems Manager does that does not do it now.
func refused(status int, code string) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"__type":%q,"message":"Rate exceeded"}`, code)
	}
}

func denied(action string) func(*commandRig) {
	return func(r *commandRig) { r.Denied = map[string]bool{action: true} }
}

func says(stdout, stderr string, code int) ec2test.Shell {
	return func(string, string) (string, string, int) { return stdout, stderr, code }
}

// TestCommandInterrupted: who is interrupted is told that the script goes on.
func TestCommandInterrupted(t *testing.T) {
	r := newCommandRig(t)
	hold := make(chan struct{})
	defer close(hold)
	ctx, cancel := context.WithCancelCause(t.Context())
	r.Shell = func(string, string) (string, string, int) { cancel(io.EOF); <-hold; return "", "", 0 }
	_, err := r.commands(t).Run(ctx, r.managed(ec2test.Instance{}), "r", "s")
	if err == nil || !strings.Contains(err.Error(), io.EOF.Error()) {
		t.Error(err)
	}
}
