//go:build linux

package activedirectory_test

import (
	"testing"

	"unbrick/remediate/lab/testenv/samba"
)

// The one in the domain who is not its administrator.
const (
	userPw = "Reader!Passw0rd2"
	realm  = "fleet.test"
)

// A domain is a Samba domain controller of this test alone.
type domain struct{ *samba.Domain }

// startDomain starts a domain with a user who may do what any may.
func startDomain(t *testing.T) *domain {
	return &domain{samba.Start(t, samba.Options{Realm: realm, Prepare: func(d *samba.Domain, local []string) {
		d.Tool(t, append([]string{"user", "create", "reader", userPw}, local...)...)
	}})}
}
