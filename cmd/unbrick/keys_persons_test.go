package main

import (
	"errors"
	"os"
	"os/user"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"unbrick/remediate/lab/testenv"
)

// TestTwoPersons needs a process that may be anybody: root, with no login behind it, whom sudo
// says it works for.
func TestTwoPersons(t *testing.T) {
	login, _ := os.ReadFile("/proc/self/loginuid")
	if os.Getuid() != 0 || len(login) > 0 && strings.TrimSpace(string(login)) != noLogin {
		testenv.Missing(t, "root without a login")
	}
	testscript.Run(t, testscript.Params{Dir: "testdata/persons"})
}

func TestWhoIs(t *testing.T) {
	ann := &user.User{Uid: "1000", Username: "ann"}
	root := &user.User{Uid: "0", Username: "root"}
	lookup := func(uid string) (*user.User, error) {
		if uid == "1000" {
			return ann, nil
		}
		return nil, errors.New("unknown")
	}
	for _, test := range []struct {
		name    string
		login   string
		current *user.User
		env     map[string]string
		want    person
	}{
		{"an account", noLogin, ann, nil, person{account: "ann"}},
		{"where there is no login id", "", ann, nil, person{account: "ann"}},
		{"what a person says of herself is noted", "", ann, map[string]string{operatorEnv: " Bob "}, person{"ann", "Bob"}},
		{"the login behind su", "1000", root, nil, person{account: "ann"}},
		{"the login is stronger than sudo's word", "1000", root, map[string]string{"SUDO_USER": "bob"}, person{account: "ann"}},
		{"a login whose account is gone", "4711", root, nil, person{account: "uid 4711"}},
		{"root by sudo", noLogin, root, map[string]string{"SUDO_USER": "bob"}, person{account: "bob"}},
		{"nobody but root gets to say whom sudo works for", noLogin, ann, map[string]string{"SUDO_USER": "bob"}, person{account: "ann"}},
		{"root", noLogin, root, nil, person{account: "root"}},
	} {
		got, err := whoIs(test.login, test.current, func(k string) string { return test.env[k] }, lookup)
		if err != nil || got != test.want {
			t.Errorf("%s: %+v, %v; want %+v", test.name, got, err, test.want)
		}
	}
	for _, bad := range []string{"a\nb", strings.Repeat("x", 101), "242880-571340"} {
		if _, err := whoIs("", ann, func(string) string { return bad }, lookup); err == nil {
			t.Errorf("%q is taken for a name", bad)
		}
	}
}
