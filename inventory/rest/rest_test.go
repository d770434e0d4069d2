package rest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"unbrick/inventory/rest"
	"unbrick/inventory/secret"
)

const canary = "canary-7f1e"

func client(t *testing.T, h http.HandlerFunc, change func(*rest.Options)) *rest.Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	o := rest.Options{Name: "the CMDB", Base: s.URL, MaxWait: 20 * time.Millisecond}
	if change != nil {
		change(&o)
	}
	c, err := rest.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func ref(t *testing.T, text string) secret.Ref {
	t.Helper()
	name := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return secret.Ref("file:" + name)
}

// TestBriefly: whoever waits for an answer hears at once that there is none.
func TestBriefly(t *testing.T) {
	for _, status := range []int{500, 502, 503, 504, 0} {
		var n atomic.Int32
		c := client(t, func(w http.ResponseWriter, _ *http.Request) {
			n.Add(1)
			if status == 0 {
				panic(http.ErrAbortHandler) // the connection is cut
			}
			w.WriteHeader(status)
		}, nil)
		if _, err := c.Get(rest.Briefly(t.Context()), "/x", nil); err == nil || n.Load() != 1 {
			t.Errorf("status %d: asked %d times, error %v", status, n.Load(), err)
		}
	}
}

// TestRepeats counts how often each sort of request is sent when the service first answers so.
func TestRepeats(t *testing.T) {
	for _, test := range []struct {
		name     string
		status   int
		header   [2]string
		get, set int32
	}{
		{"busy", 429, [2]string{}, 2, 2},
		{"busy, and says until when", 429, [2]string{"X-RateLimit-RetryAfter", fmt.Sprint(time.Now().Add(time.Hour).Unix())}, 2, 2},
		{"refused unread", 503, [2]string{"Retry-After", "1"}, 2, 2},
		{"down", 503, [2]string{}, 2, 1},
		{"a gateway's answer", 502, [2]string{}, 2, 1},
		{"wrong", 400, [2]string{}, 1, 1},
		{"no right", 403, [2]string{}, 1, 1},
	} {
		var n atomic.Int32
		c := client(t, func(w http.ResponseWriter, r *http.Request) {
			if n.Add(1) == 1 {
				if test.header[0] != "" {
					w.Header().Set(test.header[0], test.header[1])
				}
				w.WriteHeader(test.status)
				fmt.Fprint(w, canary)
				return
			}
			fmt.Fprint(w, `{"ok":true}`)
		}, nil)
		for _, call := range []struct {
			want int32
			do   func() error
		}{
			{test.get, func() error { _, err := c.Get(t.Context(), "/x", nil); return err }},
			{test.get, func() error { _, err := c.Query(t.Context(), "/x", "q", nil); return err }},
			{test.set, func() error { _, err := c.Post(t.Context(), "/x", "q", nil); return err }},
		} {
			n.Store(0)
			err := call.do()
			if n.Load() != call.want || (err == nil) != (call.want == 2) {
				t.Errorf("%s: sent %d times, want %d; %v", test.name, n.Load(), call.want, err)
			}
			if err != nil && (strings.Contains(err.Error(), canary) || !strings.Contains(err.Error(), "the CMDB")) {
				t.Errorf("%s: %v", test.name, err)
			}
		}
	}
}

func TestLostAnswers(t *testing.T) {
	var n atomic.Int32
	c := client(t, func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) == 1 {
			conn, _, _ := http.NewResponseController(w).Hijack()
			conn.Close()
			return
		}
		fmt.Fprint(w, `{}`)
	}, nil)
	if _, err := c.Get(t.Context(), "/x", nil); err != nil {
		t.Errorf("a read whose answer was lost was not repeated: %v", err)
	}
	n.Store(0)
	if _, err := c.Post(t.Context(), "/x", 1, nil); err == nil || n.Load() != 1 {
		t.Errorf("a change whose answer was lost: sent %d times, %v", n.Load(), err)
	}
}

func TestOAuth(t *testing.T) {
	var logins, expired atomic.Int32
	h := func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/oauth2/token":
			r.ParseForm()
			if r.Form.Get("client_secret") != canary || r.Form.Get("grant_type") != "client_credentials" {
				w.WriteHeader(401)
				return
			}
			w.WriteHeader(201)
			json.NewEncoder(w).Encode(map[string]any{"access_token": fmt.Sprint("t", logins.Add(1)), "expires_in": 1799})
		case r.Header.Get("Authorization") != fmt.Sprint("Bearer t", logins.Load()) || expired.Add(-1) >= 0:
			w.WriteHeader(401)
		default:
			fmt.Fprint(w, `{"n":1}`)
		}
	}
	auth := &rest.OAuth{Path: "/oauth2/token", ClientID: "me", Secret: ref(t, canary)}
	c := client(t, h, func(o *rest.Options) { o.Auth = auth })
	for range 3 {
		if _, err := c.Get(t.Context(), "/x", nil); err != nil {
			t.Fatal(err)
		}
	}
	if logins.Load() != 1 {
		t.Errorf("%d logins for three requests", logins.Load())
	}
	expired.Store(1)
	if _, err := c.Get(t.Context(), "/x", nil); err != nil || logins.Load() != 2 {
		t.Errorf("a token that was refused: %v after %d logins, want a second one", err, logins.Load())
	}
	expired.Store(9)
	var status *rest.StatusError
	if _, err := c.Get(t.Context(), "/x", nil); !errors.As(err, &status) || status.Status != 401 || logins.Load() != 3 {
		t.Errorf("a service that refuses every token: %v after %d logins", err, logins.Load())
	}
	c = client(t, h, func(o *rest.Options) {
		o.Auth = &rest.OAuth{Path: "/oauth2/token", ClientID: "me", Secret: ref(t, "wrong-"+canary)}
	})
	if _, err := c.Get(t.Context(), "/x", nil); err == nil || strings.Contains(err.Error(), canary) || !strings.Contains(err.Error(), "application me") {
		t.Errorf("a wrong secret: %v", err)
	}
}

func TestCredentialsStay(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("the other server was asked, with %q", r.Header.Get("Authorization"))
	}))
	defer other.Close()
	c := client(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, http.StatusFound) },
		func(o *rest.Options) { o.Auth = rest.Token{Token: ref(t, canary)} })
	for _, path := range []string{"/x", other.URL + "/x"} {
		if _, err := c.Get(t.Context(), path, nil); err == nil || !strings.Contains(err.Error(), "points to another server") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestAnswersThatAreNone(t *testing.T) {
	text := "<html>" + canary
	c := client(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, text) }, func(o *rest.Options) { o.MaxBody = 100 })
	var v struct{}
	_, err := c.Get(t.Context(), "/x", &v)
	if err == nil || strings.Contains(err.Error(), canary) || !strings.Contains(err.Error(), "login page") {
		t.Errorf("a page for people: %v", err)
	}
	text = strings.Repeat("x", 101)
	if _, err := c.Get(t.Context(), "/x", &v); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("an endless answer: %v", err)
	}
}

func TestEndOfContext(t *testing.T) {
	c := client(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(429)
	},
		func(o *rest.Options) { o.MaxWait = time.Hour })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Get(ctx, "/x", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want the end of the context", err)
	}
}

func TestAddresses(t *testing.T) {
	for _, base := range []string{"", "http://cmdb.corp.example", "https://user:pw@cmdb", "https://cmdb?x=1", "ftp://cmdb"} {
		if _, err := rest.New(rest.Options{Name: "the CMDB", Base: base}); err == nil || strings.Contains(err.Error(), "pw") {
			t.Errorf("%q: %v", base, err)
		}
	}
}

// TestLinks: a link to the next page is followed on this server alone, over this connection's
// scheme.
func TestLinks(t *testing.T) {
	c := client(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `{}`) },
		func(o *rest.Options) {
			o.Base += "/netbox"
			o.Auth = rest.Token{Word: "Token", Token: ref(t, "nbt_x"), Words: map[string]string{"nbt_": "Bearer"}}
		})
	for link, good := range map[string]bool{
		"https://" + c.Host() + "/netbox/x?a=1": true, "http://" + c.Host() + "/netbox/x": true, "http://" + c.Host() + "/other/x": false,
		"http://" + c.Host() + ".evil.example/netbox/x": false, "http://u@" + c.Host() + "/netbox/x": false, "ftp://x": false, "x": false,
	} {
		if _, err := c.Get(t.Context(), link, nil); (err == nil) != good {
			t.Errorf("%s: %v", link, err)
		}
	}
}
