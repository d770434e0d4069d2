package vault_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"unbrick/bitlocker"
	"unbrick/bitlocker/keytest"
	"unbrick/bitlocker/source/vault"
	"unbrick/inventory/secret"
)

// A server is as strict as the documentation of Vault says the real one is.
type server struct {
	*httptest.Server
	mu      sync.Mutex
	secrets map[string]kv     // by path below the mount
	tokens  map[string]string // to the capability on everything; "" is none
	logins  int
	reads   []string // of keys
	status  int      // of every answer, if not 0
	body    string
}

type kv struct {
	data    map[string]any
	custom  map[string]string
	deleted bool
}

func newServer(t *testing.T, keys ...keytest.Filing) *server {
	s := &server{secrets: map[string]kv{}, tokens: map[string]string{"good-token": "read list"}}
	for _, k := range keys {
		s.secrets["bitlocker/"+k.ID.String()] = kv{data: map[string]any{"recovery_key": k.Key.Reveal()}, custom: map[string]string{"host": k.Host}}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/auth/approle/login", s.login)
	mux.HandleFunc("POST /v1/sys/capabilities-self", s.authorised(s.capabilities))
	mux.HandleFunc("GET /v1/kv/data/{path...}", s.authorised(s.data))
	mux.HandleFunc("GET /v1/kv/metadata/{path...}", s.authorised(s.metadata))
	mux.HandleFunc("LIST /v1/kv/metadata/{path...}", s.authorised(s.list))
	mux.HandleFunc("/", s.authorised(func(w http.ResponseWriter, r *http.Request) {
		answer(w, http.StatusNotFound, map[string]any{"errors": []string{fmt.Sprintf("no handler for route %q", r.URL.Path)}})
	}))
	s.Server = httptest.NewTLSServer(mux)
	t.Cleanup(s.Close)
	return s
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func denied(w http.ResponseWriter) {
	answer(w, http.StatusForbidden, map[string]any{"errors": []string{"permission denied"}})
}

func (s *server) authorised(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.status != 0 {
			w.Header().Set("Location", "https://elsewhere.example/")
			w.WriteHeader(s.status)
			fmt.Fprint(w, s.body)
			return
		}
		if s.tokens[r.Header.Get("X-Vault-Token")] == "" || r.Header.Get("X-Vault-Request") != "true" {
			denied(w)
			return
		}
		h(w, r)
	}
}

func (s *server) login(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var req struct {
		Role   string `json:"role_id"`
		Secret string `json:"secret_id"`
	}
	if json.NewDecoder(r.Body).Decode(&req) != nil || req.Role != "unbrick" || req.Secret != "s3cret" {
		answer(w, http.StatusBadRequest, map[string]any{"errors": []string{"invalid role or secret ID"}})
		return
	}
	s.logins++
	token := fmt.Sprintf("role-token-%d", s.logins)
	s.tokens[token] = "read list"
	answer(w, http.StatusOK, map[string]any{"auth": map[string]any{"client_token": token, "lease_duration": 3600}})
}

func (s *server) capabilities(w http.ResponseWriter, r *http.Request) {
	var req struct{ Paths []string }
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		answer(w, http.StatusBadRequest, map[string]any{"errors": []string{err.Error()}})
		return
	}
	has := map[string][]string{}
	for _, p := range req.Paths {
		has[p] = strings.Fields(s.tokens[r.Header.Get("X-Vault-Token")])
	}
	answer(w, http.StatusOK, map[string]any{"data": has})
}

func (s *server) data(w http.ResponseWriter, r *http.Request) {
	k, ok := s.secrets[r.PathValue("path")]
	switch {
	case !ok:
		answer(w, http.StatusNotFound, map[string]any{"errors": []string{}})
	case k.deleted:
		answer(w, http.StatusNotFound, map[string]any{"data": map[string]any{"data": nil, "metadata": map[string]any{"deletion_time": "2024-07-19T04:09:00Z"}}})
	default:
		s.reads = append(s.reads, r.PathValue("path"))
		answer(w, http.StatusOK, map[string]any{"data": map[string]any{"data": k.data, "metadata": map[string]any{"custom_metadata": k.custom, "version": 1}}})
	}
}

func (s *server) metadata(w http.ResponseWriter, r *http.Request) {
	k, ok := s.secrets[r.PathValue("path")]
	if !ok {
		answer(w, http.StatusNotFound, map[string]any{"errors": []string{}})
		return
	}
	version := map[string]any{"created_time": "2024-07-01T04:09:00Z", "deletion_time": "2999-01-01T00:00:00Z", "destroyed": false}
	if k.deleted {
		version["deletion_time"] = "2024-07-19T04:09:00.123456Z"
	}
	answer(w, http.StatusOK, map[string]any{"data": map[string]any{"custom_metadata": k.custom, "current_version": 1, "versions": map[string]any{"1": version}}})
}

func (s *server) list(w http.ResponseWriter, r *http.Request) {
	var names []string
	for path := range s.secrets {
		if name, ok := strings.CutPrefix(path, r.PathValue("path")+"/"); ok {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		answer(w, http.StatusNotFound, map[string]any{"errors": []string{}})
		return
	}
	slices.Sort(names)
	answer(w, http.StatusOK, map[string]any{"data": map[string]any{"keys": names}})
}

// set changes the server while nobody asks it.
func (s *server) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// open returns the vault, by token unless change says otherwise.
func (s *server) open(t *testing.T, change func(*vault.Config)) *vault.Vault {
	t.Helper()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := vault.Config{URL: s.URL, CA: ca, Mount: "kv", Token: ref(t, "good-token")}
	if change != nil {
		change(&cfg)
	}
	v, err := vault.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close() })
	return v
}

func ref(t *testing.T, text string) secret.Ref {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return secret.Ref("file:" + path)
}

func byRole(t *testing.T, secretID string) func(*vault.Config) {
	return func(c *vault.Config) {
		c.Token, c.AppRole = "", &vault.AppRole{RoleID: "unbrick", SecretID: ref(t, secretID)}
	}
}

func filing() keytest.Filing {
	r := rand.NewPCG(5, 5)
	return keytest.Filing{ID: keytest.NewKeyID(r), Host: "PC1", Key: keytest.NewKey(r)}
}

func TestSuite(t *testing.T) {
	for name, change := range map[string]func(*vault.Config){"token": nil, "AppRole": byRole(t, "s3cret")} {
		t.Run(name, func(t *testing.T) {
			keytest.Run(t, func(t *testing.T, keys []keytest.Filing) bitlocker.Source {
				return newServer(t, keys...).open(t, change)
			})
		})
	}
}

var _ bitlocker.Prober = (*vault.Vault)(nil)

func TestExpiredTokenOfARole(t *testing.T) {
	k := filing()
	s := newServer(t, k)
	v := s.open(t, byRole(t, "s3cret"))
	for i := range 2 {
		if key, err := v.Lookup(t.Context(), bitlocker.Query{ID: k.ID}); err != nil || !key.Equal(k.Key) {
			t.Fatalf("lookup %d: %v", i, err)
		}
		s.set(func() { delete(s.tokens, "role-token-1") })
	}
	if s.logins != 2 {
		t.Errorf("%d logins, want 2: the first token was revoked", s.logins)
	}
}

func TestRefusals(t *testing.T) {
	k := filing()
	for name, test := range map[string]struct {
		change func(*vault.Config)
		status int
		body   string
		want   string
	}{
		"wrong token":     {func(c *vault.Config) { c.Token = ref(t, "stale") }, 0, "", "expired, is wrong, or its policy"},
		"wrong secret id": {byRole(t, "wrong"), 0, "", "cannot log in by AppRole: vault refuses the request"},
		"wrong mount":     {func(c *vault.Config) { c.Mount = "secret" }, 0, "", `no key-value store (version 2) at "secret"`},
		"sealed":          {nil, 503, `{"errors":["Vault is sealed"]}`, "sealed"},
		"quota":           {nil, 429, `{"errors":["request path: rate limit quota exceeded"]}`, "too often"},
		"standby":         {nil, 307, "", "name the active node"},
		"DR standby":      {nil, 472, "", "name the active one"},
		"a proxy's 404":   {nil, 404, "<html>not found</html>", "check the mount"},
		"an echo":         {nil, 500, k.Key.Reveal(), "status 500"},
		"not JSON":        {nil, 200, `{"data":"` + k.Key.Reveal() + `"}`, "not the JSON expected"},
		"other authority": {func(c *vault.Config) { c.CA = "" }, 0, "", "cannot reach vault: tls: failed to verify"},
		"no token file":   {func(c *vault.Config) { c.Token = "file:/nonexistent" }, 0, "", "cannot read secret"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, k)
			s.set(func() { s.status, s.body = test.status, test.body })
			v := s.open(t, test.change)
			_, err := v.Lookup(t.Context(), bitlocker.Query{ID: k.ID})
			_, indexErr := v.Index(t.Context(), "")
			for _, err := range []error{err, indexErr} {
				if err == nil || !strings.Contains(err.Error(), test.want) || errors.Is(err, bitlocker.ErrNoKey) || keytest.Leaks(k.Key, err.Error()) {
					t.Errorf("error %v, want %s, and not that there is none", err, test.want)
				}
			}
		})
	}
}

func TestSecrets(t *testing.T) {
	k := filing()
	path := "bitlocker/" + k.ID.String()
	for name, test := range map[string]struct {
		secret kv
		want   string // of the error, which says that there is none; empty: the key
	}{
		"in the field":  {kv{data: map[string]any{"recovery_key": k.Key.Reveal()}}, ""},
		"damaged":       {kv{data: map[string]any{"recovery_key": k.Key.Reveal()[1:]}}, "the one there cannot be used"},
		"another field": {kv{data: map[string]any{"key": k.Key.Reveal()}}, `no text in its field "recovery_key"`},
		"a number":      {kv{data: map[string]any{"recovery_key": 4.9e47}}, `no text in its field "recovery_key"`},
		"deleted":       {kv{deleted: true}, "undelete it"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			s.secrets[path] = test.secret
			key, err := s.open(t, nil).Lookup(t.Context(), bitlocker.Query{ID: k.ID, Host: "PC1"})
			switch {
			case test.want == "" && (err != nil || !key.Equal(k.Key)):
				t.Errorf("not the key: %v", err)
			case test.want != "" && (!errors.Is(err, bitlocker.ErrNoKey) || keytest.Leaks(k.Key, err.Error())):
				t.Errorf("error %v, want one wrapping ErrNoKey", err)
			case test.want != "" && !strings.Contains(err.Error(), test.want):
				t.Errorf("error %v, want %s", err, test.want)
			}
		})
	}
	t.Run("the host is checked before the key is read", func(t *testing.T) {
		s := newServer(t, k)
		_, err := s.open(t, nil).Lookup(t.Context(), bitlocker.Query{ID: k.ID, Host: "PC2"})
		var wrong *bitlocker.WrongHostError
		if !errors.As(err, &wrong) || len(s.reads) > 0 {
			t.Errorf("error %v, and %d keys were read", err, len(s.reads))
		}
	})
	t.Run("the host in the secret counts too", func(t *testing.T) {
		s := newServer(t)
		s.secrets[path] = kv{data: map[string]any{"recovery_key": k.Key.Reveal(), "host": "PC1"}}
		_, err := s.open(t, nil).Lookup(t.Context(), bitlocker.Query{ID: k.ID, Host: "PC2"})
		var wrong *bitlocker.WrongHostError
		if !errors.As(err, &wrong) {
			t.Errorf("error %v, want a *WrongHostError", err)
		}
	})
	t.Run("an id in lower case", func(t *testing.T) {
		s := newServer(t)
		s.secrets[strings.ToLower(path)] = kv{data: map[string]any{"recovery_key": k.Key.Reveal()}}
		if key, err := s.open(t, nil).Lookup(t.Context(), bitlocker.Query{ID: k.ID}); err != nil || !key.Equal(k.Key) {
			t.Errorf("not the key: %v", err)
		}
	})
	t.Run("the index knows what was deleted", func(t *testing.T) {
		s := newServer(t)
		s.secrets[path] = kv{deleted: true, custom: map[string]string{"host": "PC1"}}
		entries, err := s.open(t, nil).Index(t.Context(), "PC1")
		if err != nil || len(entries) != 1 || entries[0].Reason == "" || entries[0].Created.IsZero() {
			t.Errorf("index %+v, %v; want one entry that cannot be used, and why", entries, err)
		}
	})
	t.Run("keys under no host", func(t *testing.T) {
		s := newServer(t)
		s.secrets[path] = kv{data: map[string]any{"recovery_key": k.Key.Reveal()}}
		s.secrets["bitlocker/README"] = kv{}
		v := s.open(t, nil)
		if entries, err := v.Index(t.Context(), ""); err != nil || len(entries) != 1 || entries[0].Host != "" {
			t.Errorf("index %v, %v", entries, err)
		}
		if entries, err := v.Index(t.Context(), "PC1"); err == nil {
			t.Errorf("index %v; it cannot know whether the key is of PC1", entries)
		}
		if len(s.reads) > 0 {
			t.Error("an index read a key")
		}
	})
}

func TestProbe(t *testing.T) {
	s := newServer(t)
	s.tokens["reader"], s.tokens["root"] = "read", "root"
	for token, want := range map[string]string{
		"good-token": "", "root": "", "reader": "the policy of this account lacks: list on kv/metadata/bitlocker/", "gone": "expired",
	} {
		err := s.open(t, func(c *vault.Config) { c.Token = ref(t, token) }).Probe(t.Context())
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", token, err, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.open(t, nil).Probe(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
}

func TestNew(t *testing.T) {
	for name, test := range map[string]struct {
		cfg  vault.Config
		want string
	}{
		"no address":  {vault.Config{Token: "env:T"}, "write its address"},
		"in clear":    {vault.Config{URL: "http://vault.corp.example:8200", Token: "env:T"}, "begin with https"},
		"no login":    {vault.Config{URL: "https://v:8200"}, "a token or an AppRole"},
		"both logins": {vault.Config{URL: "https://v:8200", Token: "env:T", AppRole: &vault.AppRole{RoleID: "x"}}, "not both"},
		"no role":     {vault.Config{URL: "https://v:8200", AppRole: &vault.AppRole{}}, "no role id"},
		"no CA":       {vault.Config{URL: "https://v:8200", Token: "env:T", CA: "/nonexistent"}, "no such file"},
	} {
		if _, err := vault.New(test.cfg); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want %q", name, err, test.want)
		}
	}
	if _, err := vault.New(vault.Config{URL: "http://127.0.0.1:8200", Token: "env:T"}); err != nil {
		t.Errorf("an agent on this host: %v", err)
	}
}
