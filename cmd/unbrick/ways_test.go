package main

import (
	"os"
	"path/filepath"
	"testing"

	"unbrick/inventory/secret"
)

// An account logs in to its domain once, and not once for each host.
func TestTickets(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "krb5.conf")
	if err := os.WriteFile(conf, []byte("[libdefaults]\n default_realm = CORP.EXAMPLE\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	login := winrmConfig{Krb5: conf, Realm: "CORP.EXAMPLE"}.tickets()
	first, err := login("rescue", secret.New("x"))
	again, err2 := login("rescue", secret.New("x"))
	other, err3 := login("other", secret.New("x"))
	if err != nil || err2 != nil || err3 != nil || first != again || first == other {
		t.Errorf("%p, %p, %p; %v, %v, %v", first, again, other, err, err2, err3)
	}
	if _, err := (winrmConfig{Krb5: conf + ".none"}).tickets()("rescue", secret.Value{}); err == nil {
		t.Error("a configuration that is not there was read")
	}
}
