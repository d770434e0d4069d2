//go:build linux

package activedirectory_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"

	"unbrick/bitlocker/laps"
	"unbrick/bitlocker/source/activedirectory"
)

var _ laps.Source = (*activedirectory.Directory)(nil)

// extendSchema does what Update-AdmPwdADSchema and Update-LapsADSchema do, as far as it matters:
// passwords are confidential, times are not.
func (d *domain) extendSchema(t *testing.T) {
	t.Helper()
	const schema = "CN=Schema,CN=Configuration," + domainDN
	const text, bytes, number = "2.5.5.5", "2.5.5.10", "2.5.5.16"
	om := map[string]string{text: "19", bytes: "4", number: "65"}
	var names []string
	for i, a := range []struct{ name, syntax, flags string }{
		{"ms-Mcs-AdmPwd", text, "904"}, {"ms-Mcs-AdmPwdExpirationTime", number, "0"},
		{"msLAPS-Password", text, "904"}, {"msLAPS-EncryptedPassword", bytes, "904"}, {"msLAPS-PasswordExpirationTime", number, "0"},
	} {
		d.Add(t, "CN="+a.name+","+schema, "attributeSchema", map[string]string{
			"lDAPDisplayName": a.name, "attributeID": fmt.Sprintf("1.2.840.113556.1.8000.9999.%d", i), "attributeSyntax": a.syntax,
			"oMSyntax": om[a.syntax], "isSingleValued": "TRUE", "searchFlags": a.flags})
		names = append(names, a.name)
	}
	reload := ldap.NewModifyRequest("", nil)
	reload.Replace("schemaUpdateNow", []string{"1"})
	computer := ldap.NewModifyRequest("CN=Computer,"+schema, nil)
	computer.Add("mayContain", names)
	for _, m := range []*ldap.ModifyRequest{reload, computer, reload} {
		if err := d.Admin.Modify(m); err != nil {
			t.Fatal(err)
		}
	}
}

func (d *domain) testLAPS(t *testing.T) {
	d.extendSchema(t)
	const ou = "OU=Laps," + fleetOU
	d.Add(t, ou, "organizationalUnit", nil)
	const expires = "133658000000000000"
	for host, attributes := range map[string]map[string]string{
		"OLD-PC":    {"ms-Mcs-AdmPwd": "canary-old", "ms-Mcs-AdmPwdExpirationTime": expires},
		"NEW-PC":    {"msLAPS-Password": `{"n":"Admin2","t":"1d8161b41c41cde","p":"canary-new"}`, "msLAPS-PasswordExpirationTime": expires, "ms-Mcs-AdmPwd": "canary-before"},
		"CRYPT-PC":  {"msLAPS-EncryptedPassword": "\x01\x02\x03\x04canary", "msLAPS-PasswordExpirationTime": expires},
		"BAD-PC":    {"msLAPS-Password": `{"p":"canary-bad"}`, "msLAPS-PasswordExpirationTime": expires},
		"NONE-PC":   nil,
		"OLD-PC-10": {"ms-Mcs-AdmPwd": "canary-other"},
	} {
		d.Add(t, "CN="+host+","+ou, "computer", attributes)
	}
	dir := d.open(t, nil)
	for host, want := range map[string]string{"OLD-PC": " canary-old", "new-pc.unbrick.test": "Admin2 canary-new 2022-01-30  canary-before"} {
		all, err := dir.LocalPasswords(t.Context(), host)
		var got []string
		for _, p := range all {
			got = append(got, p.Account+" "+p.Value.Reveal())
			if !p.Updated.IsZero() {
				got = append(got, p.Updated.Format("2006-01-02"))
			}
		}
		if s := strings.Join(got, " "); err != nil || s != want {
			t.Errorf("%s: %q, %v; want %q", host, s, err, want)
		}
		if strings.Contains(fmt.Sprintf("%+v", all), "canary") {
			t.Error("a password prints itself")
		}
	}
	for host, check := range map[string]func(error) bool{
		"CRYPT-PC": func(err error) bool {
			var e *laps.EncryptedError
			return errors.As(err, &e) && !errors.Is(err, laps.ErrNone)
		},
		"BAD-PC":  func(err error) bool { return !strings.Contains(err.Error(), "canary") && !errors.Is(err, laps.ErrNone) },
		"NONE-PC": func(err error) bool { return errors.Is(err, laps.ErrNone) },
		"GONE-PC": func(err error) bool { return errors.Is(err, laps.ErrNone) },
	} {
		if all, err := dir.LocalPasswords(t.Context(), host); err == nil || !check(err) || len(all) > 0 {
			t.Errorf("%s: %v, %v", host, all, err)
		}
	}
	blind := d.open(t, func(c *activedirectory.Config) { c.Login = d.login(t, lister, userPw) })
	for _, host := range []string{"OLD-PC", "NEW-PC", "CRYPT-PC"} {
		var hidden *laps.HiddenError
		if _, err := blind.LocalPasswords(t.Context(), host); !errors.As(err, &hidden) || hidden.ReadOnly || !strings.Contains(err.Error(), "lister@unbrick.test") {
			t.Errorf("%s without CONTROL_ACCESS: %v", host, err)
		}
	}
}
