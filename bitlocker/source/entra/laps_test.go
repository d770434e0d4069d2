package entra_test

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"unicode/utf16"

	"unbrick/bitlocker/keytest"
	"unbrick/bitlocker/laps"
	"unbrick/bitlocker/source/entra"
)

var _ laps.Source = (*entra.Tenant)(nil)

// withPasswords adds what Windows LAPS has backed up of PC1: today's password and the one before.
func withPasswords(g *graph) {
	encode := func(s string) string {
		var b []byte
		for _, u := range utf16.Encode([]rune(s)) {
			b = binary.LittleEndian.AppendUint16(b, u)
		}
		return base64.StdEncoding.EncodeToString(b)
	}
	mux := http.NewServeMux()
	mux.Handle("/", g.Config.Handler)
	mux.HandleFunc("GET /v1.0/directory/deviceLocalCredentials/{id}", g.api("DeviceLocalCredential.Read", func(w http.ResponseWriter, r *http.Request) {
		body := map[string]any{"id": r.PathValue("id"), "deviceName": "PC1"}
		switch {
		case r.PathValue("id") != deviceID("PC1"):
			fail(w, http.StatusNotFound, "ResourceNotFound")
			return
		case r.URL.Query().Get("$select") != "credentials": // only when it is asked for
		case !strings.Contains(strings.Join(g.roles, " "), "DeviceLocalCredential.Read.All"):
			fail(w, http.StatusForbidden, "authorization_error")
			return
		default:
			entry := func(password, at string) map[string]any {
				return map[string]any{"accountName": "LapsAdmin", "accountSid": "S-1-5-21-1-2-3-500", "backupDateTime": at, "passwordBase64": encode(password)}
			}
			body["credentials"] = []any{entry("canary-ä-old", "2024-06-01T00:00:00Z"), entry("canary-ä-new", "2024-07-01T04:09:00Z")}
		}
		reply(w, http.StatusOK, body)
	}))
	g.Config.Handler = mux
	g.roles = append(g.roles, "DeviceLocalCredential.Read.All")
}

func TestLocalPasswords(t *testing.T) {
	r := rand.NewPCG(7, 7)
	var keys []keytest.Filing
	for _, host := range []string{"PC1", "PC10"} {
		keys = append(keys, keytest.Filing{ID: keytest.NewKeyID(r), Host: host, Key: keytest.NewKey(r)})
	}
	g := newGraph(t, keys...)
	withPasswords(g)
	tenant := g.open(t, nil)
	all, err := tenant.LocalPasswords(t.Context(), "pc1.corp.example")
	if err != nil || len(all) != 2 {
		t.Fatalf("%v, %v", all, err)
	}
	if p := all[0]; p.Value.Reveal() != "canary-ä-new" || p.Account != "LapsAdmin" || p.Updated.Format("2006-01-02 15:04") != "2024-07-01 04:09" || p.Source != tenant.String() {
		t.Errorf("%+v is not the newest", p)
	}
	if strings.Contains(fmt.Sprintf("%+v", all), "canary") {
		t.Error("a password prints itself")
	}
	for _, host := range []string{"PC10", "PC7"} {
		if all, err := tenant.LocalPasswords(t.Context(), host); !errors.Is(err, laps.ErrNone) || len(all) > 0 {
			t.Errorf("%s: %v, %v; want none", host, all, err)
		}
	}
	g.set(func() {
		g.roles = []string{"Device.Read.All", "DeviceLocalCredential.ReadBasic.All"}
		g.tokens = map[string]bool{}
	})
	var lacks *entra.PermissionError
	if _, err := tenant.LocalPasswords(t.Context(), "PC1"); !errors.As(err, &lacks) || lacks.Missing[0] != "DeviceLocalCredential.Read.All" {
		t.Errorf("error %v, want the permission that is missing", err)
	}
}
