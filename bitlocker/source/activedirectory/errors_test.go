package activedirectory

import (
	"errors"
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"
)

func TestExplain(t *testing.T) {
	refused := func(data string) error {
		return ldap.NewError(ldap.LDAPResultInvalidCredentials,
			errors.New("80090308: LdapErr: DSID-0C09044E, comment: AcceptSecurityContext error, data "+data+", v2580"))
	}
	for name, test := range map[string]struct {
		err   error
		want  string
		wrong bool // trying again counts towards a lock-out
	}{
		"wrong password": {refused("52e"), "the directory refuses u: the password is wrong", true},
		"locked out":     {refused("775"), "the directory refuses u: it is locked out", false},
		"expired":        {refused("532"), "the directory refuses u: its password has expired", false},
		"no reason":      {refused("0"), "the directory refuses u: the account or its password is wrong", true},
		"clock":          {errors.New("KRB Error: (37) KRB_AP_ERR_SKEW Clock skew too great"), "the clock of this host and that of the domain controller differ", false},
		"keytab":         {errors.New("KRB Error: (24) KDC_ERR_PREAUTH_FAILED"), "the directory refuses u: the password or keytab is wrong", true},
		"something else": {errors.New("EOF"), "cannot log on as u: EOF", false},
	} {
		err := explain("u", test.err)
		var l *LogonError
		if !strings.HasPrefix(err.Error(), test.want) || (errors.As(err, &l) && l.Wrong) != test.wrong {
			t.Errorf("%s: %v, want %s", name, err, test.want)
		}
	}
}
