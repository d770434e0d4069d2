package entra_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"unbrick/bitlocker"
	"unbrick/bitlocker/keytest"
	"unbrick/bitlocker/source/entra"
)

func TestSuite(t *testing.T) {
	for name, change := range map[string]func(*entra.Config){"names": nil, "no names": func(c *entra.Config) { c.NoNames = true }} {
		t.Run(name, func(t *testing.T) {
			keytest.Run(t, func(t *testing.T, keys []keytest.Filing) bitlocker.Source {
				return newGraph(t, keys...).open(t, change)
			})
		})
	}
}

func filing() keytest.Filing {
	r := rand.NewPCG(6, 6)
	return keytest.Filing{ID: keytest.NewKeyID(r), Host: "PC1", Key: keytest.NewKey(r)}
}

func TestOneReadOneAuditEvent(t *testing.T) {
	k := filing()
	g := newGraph(t, k)
	tenant := g.open(t, nil)
	if _, err := tenant.Index(t.Context(), "PC1"); err != nil {
		t.Fatal(err)
	}
	var wrong *bitlocker.WrongHostError
	if _, err := tenant.Lookup(t.Context(), bitlocker.Query{ID: k.ID, Host: "PC2"}); !errors.As(err, &wrong) || wrong.Filed[0] != "PC1" {
		t.Errorf("error %v, want a *WrongHostError", err)
	}
	if g.reads != 0 {
		t.Errorf("%d keys were read, want none: an index and a wrong host need none", g.reads)
	}
	if key, err := tenant.Lookup(t.Context(), bitlocker.Query{ID: k.ID, Host: "pc1.corp.example"}); err != nil || !key.Equal(k.Key) || g.reads != 1 {
		t.Errorf("%d reads, %v", g.reads, err)
	}
}

func TestDeviceThatIsGone(t *testing.T) {
	k := filing()
	k.Host = ""
	g := newGraph(t, k)
	if key, err := g.open(t, nil).Lookup(t.Context(), bitlocker.Query{ID: k.ID, Host: "PC1"}); err != nil || !key.Equal(k.Key) {
		t.Errorf("not the key: %v", err)
	}
}

func TestAnswers(t *testing.T) {
	k := filing()
	for name, test := range map[string]struct {
		answer func(key string) string
		noKey  bool
		want   string // of the error; empty: the key
	}{
		"plain":    {func(key string) string { return `{"key":"` + key + `"}` }, false, ""},
		"wrapped":  {func(key string) string { return `{"value":{"volumeType":1,"key":"` + key + `"}}` }, false, ""},
		"left out": {func(string) string { return `{"id":"x","volumeType":"1"}` }, false, "left the key out"},
		"damaged":  {func(key string) string { return `{"key":"` + key[1:] + `"}` }, true, "the one there cannot be used"},
		"a list":   {func(key string) string { return `{"value":["` + key + `"]}` }, false, "not the JSON expected"},
		"not JSON": {func(key string) string { return `<html>` + key }, false, "not the JSON expected"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGraph(t, k)
			g.answer = test.answer
			key, err := g.open(t, nil).Lookup(t.Context(), bitlocker.Query{ID: k.ID})
			if test.want == "" {
				if err != nil || !key.Equal(k.Key) {
					t.Errorf("not the key: %v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) || errors.Is(err, bitlocker.ErrNoKey) != test.noKey || keytest.Leaks(k.Key, err.Error()) {
				t.Errorf("error %v, want %s", err, test.want)
			}
		})
	}
}

func TestTokens(t *testing.T) {
	k := filing()
	g := newGraph(t, k)
	tenant := g.open(t, nil)
	for i := range 3 {
		if _, err := tenant.Lookup(t.Context(), bitlocker.Query{ID: k.ID}); err != nil {
			t.Fatalf("lookup %d: %v", i, err)
		}
		if i == 1 {
			g.set(func() { clear(g.tokens) }) // expired before its time
		}
	}
	if g.logins != 2 {
		t.Errorf("%d logins, want 2", g.logins)
	}
	var stale string
	g.set(func() { stale = g.token(); delete(g.tokens, stale) })
	handed := g.open(t, func(c *entra.Config) { c.Secret, c.Token = "", ref(t, stale) })
	if _, err := handed.Lookup(t.Context(), bitlocker.Query{ID: k.ID}); err == nil || !strings.Contains(err.Error(), "is the clock right") || errors.Is(err, bitlocker.ErrNoKey) {
		t.Errorf("error %v, want that the token is refused", err)
	}
	for reason, answer := range map[string]string{
		"has expired (AADSTS7000222)": `{"error":"invalid_client","error_codes":[7000222]}`,
		"refuses (AADSTS50001)":       `{"error":"invalid_resource","error_codes":[50001]}`,
		"status 401 without a token":  `<html>`,
	} {
		g.set(func() { g.loginErr = answer })
		if _, err := g.open(t, nil).Lookup(t.Context(), bitlocker.Query{ID: k.ID}); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("error %v, want %s", err, reason)
		}
	}
}

func TestThrottling(t *testing.T) {
	k := filing()
	t.Run("a burst passes", func(t *testing.T) {
		g := newGraph(t, k)
		g.refuse, g.after = []int{429, 503}, "1"
		if key, err := g.open(t, nil).Lookup(t.Context(), bitlocker.Query{ID: k.ID}); err != nil || !key.Equal(k.Key) {
			t.Errorf("not the key: %v", err)
		}
	})
	t.Run("who cannot wait is told at once", func(t *testing.T) {
		g := newGraph(t, k)
		g.refuse, g.after = []int{429}, "3000"
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := g.open(t, nil).Lookup(ctx, bitlocker.Query{ID: k.ID})
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil || errors.Is(err, bitlocker.ErrNoKey) {
			t.Errorf("error %v, want one before the time is over", err)
		}
	})
}

func TestPaging(t *testing.T) {
	r := rand.NewPCG(7, 7)
	var keys []keytest.Filing
	for range 7 {
		keys = append(keys, keytest.Filing{ID: keytest.NewKeyID(r), Host: "PC1", Key: keytest.NewKey(r)})
	}
	for _, size := range []int{1, 3, 7, 100} {
		g := newGraph(t, keys...)
		g.page = size
		if entries, err := g.open(t, nil).Index(t.Context(), ""); err != nil || len(entries) != len(keys) || entries[0].Created.IsZero() {
			t.Errorf("pages of %d: %d entries, %v", size, len(entries), err)
		}
	}
	g := newGraph(t, keys...)
	for want, next := range map[string]string{
		"at another server": "https://evil.example/v1.0/devices",
		"in a circle":       g.URL + "/v1.0/informationProtection/bitlocker/recoveryKeys?x=1",
	} {
		g.set(func() { g.next = next })
		if entries, err := g.open(t, func(c *entra.Config) { c.NoNames = true }).Index(t.Context(), ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d entries, %v; want %s", len(entries), err, want)
		}
	}
}

func TestProbe(t *testing.T) {
	for name, test := range map[string]struct {
		roles []string
		scope string
		want  string
	}{
		"application":        {[]string{"BitlockerKey.Read.All", "Directory.Read.All", "Device.Read.All"}, "", ""},
		"person":             {nil, "BitlockerKey.Read.All Device.Read.All openid", ""},
		"only lists":         {[]string{"BitlockerKey.ReadBasic.All", "Device.Read.All"}, "", "the application lacks BitlockerKey.Read.All: grant the application permission"},
		"nothing":            {nil, "", "lacks BitlockerKey.Read.All and Device.Read.All"},
		"person, no devices": {nil, "BitlockerKey.Read.All", "the person who signed in lacks Device.Read.All"},
		"token that lies":    {[]string{"x BitlockerKey.Read.All"}, "", "the application lacks BitlockerKey.Read.All"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGraph(t)
			g.roles, g.scope = test.roles, test.scope
			err := g.open(t, nil).Probe(t.Context())
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %s", err, test.want)
			}
			if g.reads != 0 {
				t.Error("the probe read a key")
			}
		})
	}
	t.Run("a refusal names the permission", func(t *testing.T) {
		k := filing()
		g := newGraph(t, k)
		g.roles = []string{"BitlockerKey.ReadBasic.All", "Device.Read.All"}
		_, err := g.open(t, nil).Lookup(t.Context(), bitlocker.Query{ID: k.ID, Host: "PC1"})
		var missing *entra.PermissionError
		if !errors.As(err, &missing) || missing.Missing[0] != "BitlockerKey.Read.All" || !missing.AppOnly || errors.Is(err, bitlocker.ErrNoKey) {
			t.Errorf("error %v, want a *PermissionError", err)
		}
	})
}

func TestNew(t *testing.T) {
	for name, test := range map[string]struct {
		cfg  entra.Config
		want string
	}{
		"no login":    {entra.Config{Tenant: "x"}, "the secret of an application or a token"},
		"both logins": {entra.Config{Tenant: "x", ClientID: "y", Secret: "env:A", Token: "env:B"}, "not both"},
		"no tenant":   {entra.Config{ClientID: "y", Secret: "env:A"}, "its tenant"},
		"in clear":    {entra.Config{Token: "env:B", Graph: "http://graph.example"}, "begin with https"},
		"no URL":      {entra.Config{Token: "env:B", Graph: "graph.example"}, "not a URL"},
	} {
		if _, err := entra.New(test.cfg); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want %q", name, err, test.want)
		}
	}
}
