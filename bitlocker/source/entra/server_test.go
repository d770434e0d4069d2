package entra_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
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
	"unbrick/bitlocker/source/entra"
	"unbrick/inventory/secret"
)

// A graph is a Graph and a login as strict as the reference says the real ones are.
type graph struct {
	*httptest.Server
	mu       sync.Mutex
	keys     []keytest.Filing
	page     int      // keys and devices to a page
	roles    []string // in the next token
	scope    string   // of a person's token, instead of roles
	tokens   map[string]bool
	logins   int
	reads    int                     // of keys, as the audit log has them
	refuse   []int                   // status of the next answers, before anything else
	after    string                  // Retry-After beside them
	answer   func(key string) string // instead of the usual answer to $select=key
	next     string                  // instead of the usual next page
	loginErr string
}

func newGraph(t *testing.T, keys ...keytest.Filing) *graph {
	g := &graph{keys: keys, page: 2, tokens: map[string]bool{}, roles: []string{"BitlockerKey.Read.All", "Device.Read.All"}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /contoso.example/oauth2/v2.0/token", g.login)
	mux.HandleFunc("GET /v1.0/informationProtection/bitlocker/recoveryKeys", g.api("BitlockerKey.Read", g.list))
	mux.HandleFunc("GET /v1.0/informationProtection/bitlocker/recoveryKeys/{id}", g.api("BitlockerKey.Read", g.get))
	mux.HandleFunc("GET /v1.0/devices", g.api("Device.Read.All", g.devices))
	mux.HandleFunc("GET /v1.0/{device}", g.api("Device.Read.All", g.device))
	g.Server = httptest.NewServer(mux)
	t.Cleanup(g.Close)
	return g
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func fail(w http.ResponseWriter, status int, code string) {
	reply(w, status, map[string]any{"error": map[string]any{"code": code, "message": "in words"}})
}

func (g *graph) login(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.loginErr != "" || r.FormValue("client_secret") != "s3cret" || r.FormValue("scope") != g.URL+"/.default" || r.FormValue("grant_type") != "client_credentials" {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, g.loginErr)
		return
	}
	g.logins++
	reply(w, http.StatusOK, map[string]any{"token_type": "Bearer", "expires_in": 3599, "access_token": g.token()})
}

// token makes a token that is good.
func (g *graph) token() string {
	claims, _ := json.Marshal(map[string]any{"roles": g.roles, "scp": g.scope, "n": len(g.tokens)})
	token := "e30." + base64.RawURLEncoding.EncodeToString(claims) + ".sig"
	g.tokens[token] = true
	return token
}

// api checks what every request needs.
func (g *graph) api(permission string, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		defer g.mu.Unlock()
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		switch {
		case len(g.refuse) > 0:
			status := g.refuse[0]
			g.refuse = g.refuse[1:]
			if g.after != "" {
				w.Header().Set("Retry-After", g.after)
			}
			fail(w, status, "TooManyRequests")
		case !g.tokens[token]:
			fail(w, http.StatusUnauthorized, "InvalidAuthenticationToken")
		case !strings.HasPrefix(r.UserAgent(), "unbrick/") || r.Header.Get("ocp-client-name") != "unbrick" || r.Header.Get("ocp-client-version") == "":
			fail(w, http.StatusBadRequest, "BadRequest")
		case !strings.Contains(strings.Join(g.roles, " ")+" "+g.scope, permission):
			fail(w, http.StatusForbidden, "authorization_error")
		default:
			h(w, r)
		}
	}
}

func deviceID(host string) string { return fmt.Sprintf("dev-%x", host) }

func (g *graph) list(w http.ResponseWriter, r *http.Request) {
	var all []any
	for i, k := range g.keys {
		if f := r.URL.Query().Get("$filter"); f == "" || f == "deviceId eq '"+deviceID(k.Host)+"'" {
			all = append(all, g.metadata(k, i))
		}
	}
	g.paged(w, r, all)
}

// metadata has the volume type in the three forms that have been seen.
func (g *graph) metadata(k keytest.Filing, i int) map[string]any {
	return map[string]any{"id": strings.ToLower(k.ID.String()), "createdDateTime": "2024-07-01T04:09:00Z",
		"volumeType": []any{1, "1", "operatingSystemVolume"}[i%3], "deviceId": deviceID(k.Host)}
}

func (g *graph) get(w http.ResponseWriter, r *http.Request) {
	i := slices.IndexFunc(g.keys, func(k keytest.Filing) bool { return strings.ToLower(k.ID.String()) == r.PathValue("id") })
	selects, asked := r.URL.Query()["$select"]
	full := strings.Contains(strings.Join(g.roles, " ")+" "+g.scope, "BitlockerKey.Read.All")
	switch {
	case asked && slices.Contains(strings.Split(selects[0], ","), "key") && !full:
		fail(w, http.StatusForbidden, "authorization_error")
	case i < 0:
		fail(w, http.StatusNotFound, "Request_ResourceNotFound")
	case asked && selects[0] == "key":
		g.reads++
		if g.answer != nil {
			fmt.Fprint(w, g.answer(g.keys[i].Key.Reveal()))
			return
		}
		m := g.metadata(g.keys[i], i)
		m["key"] = g.keys[i].Key.Reveal()
		reply(w, http.StatusOK, map[string]any{"@odata.context": "c", "value": m})
	default: // with key among other properties, everything is returned but the key
		reply(w, http.StatusOK, g.metadata(g.keys[i], i))
	}
}

func (g *graph) devices(w http.ResponseWriter, r *http.Request) {
	var all []any
	seen := map[string]bool{}
	for _, k := range g.keys {
		prefix, _ := strings.CutPrefix(r.URL.Query().Get("$filter"), "startswith(displayName,'")
		prefix, _ = strings.CutSuffix(prefix, "')")
		if !seen[k.Host] && strings.HasPrefix(strings.ToLower(k.Host), strings.ToLower(prefix)) {
			all = append(all, map[string]any{"deviceId": deviceID(k.Host), "displayName": k.Host})
		}
		seen[k.Host] = true
	}
	g.paged(w, r, all)
}

func (g *graph) device(w http.ResponseWriter, r *http.Request) {
	for _, k := range g.keys {
		if r.PathValue("device") == "devices(deviceId='"+deviceID(k.Host)+"')" && k.Host != "" {
			reply(w, http.StatusOK, map[string]any{"deviceId": deviceID(k.Host), "displayName": k.Host})
			return
		}
	}
	fail(w, http.StatusNotFound, "Request_ResourceNotFound")
}

func (g *graph) paged(w http.ResponseWriter, r *http.Request, all []any) {
	from := 0
	_, _ = fmt.Sscan(r.URL.Query().Get("$skiptoken"), &from)
	to := min(from+g.page, len(all))
	body := map[string]any{"value": append([]any{}, all[from:to]...)}
	if to < len(all) {
		q := r.URL.Query()
		q.Set("$skiptoken", fmt.Sprint(to))
		body["@odata.nextLink"] = g.URL + r.URL.Path + "?" + q.Encode()
		if g.next != "" {
			body["@odata.nextLink"] = g.next
		}
	}
	reply(w, http.StatusOK, body)
}

// set changes the server while nobody asks it.
func (g *graph) set(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f()
}

func (g *graph) open(t *testing.T, change func(*entra.Config)) *entra.Tenant {
	t.Helper()
	cfg := entra.Config{Tenant: "contoso.example", ClientID: "app", Secret: ref(t, "s3cret"), Graph: g.URL, Authority: g.URL, Start: 1000, Most: 1000}
	if change != nil {
		change(&cfg)
	}
	tenant, err := entra.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tenant.Close() })
	return tenant
}

func ref(t *testing.T, text string) secret.Ref {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return secret.Ref("file:" + path)
}

var _ interface {
	bitlocker.Indexer
	bitlocker.Prober
} = (*entra.Tenant)(nil)
