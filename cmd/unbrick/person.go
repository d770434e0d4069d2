package main

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strings"

	"unbrick/bitlocker/policy"
)

// A person is whoever runs the program, as the ledger names them.
type person struct {
	account string // what the operating system says: this counts
	claims  string // what the person says: noted beside it, and proves nothing
}

// operatorEnv names the person where several share one account. Anyone can set it, so it is
// written down and never counts: neither as a second person nor as one with keys left.
const operatorEnv = "UNBRICK_OPERATOR"

// noLogin is what the kernel says of a process that nobody's login began.
const noLogin = "4294967295"

// currentPerson asks the operating system who runs the program.
func currentPerson() (person, error) {
	current, err := user.Current()
	if err != nil {
		return person{}, fmt.Errorf("cannot tell who you are: %w", err)
	}
	login, _ := os.ReadFile("/proc/self/loginuid") // Linux alone has it
	return whoIs(strings.TrimSpace(string(login)), current, os.Getenv, user.LookupId)
}

// whoIs takes, in this order: the login that the kernel remembers through every su and sudo;
// for root, whom sudo says it works for, because root could write the ledger anyway; the
// account of the process.
func whoIs(login string, current *user.User, env func(string) string, lookup func(uid string) (*user.User, error)) (person, error) {
	p := person{account: current.Username, claims: strings.TrimSpace(env(operatorEnv))}
	if login != "" && login != noLogin {
		p.account = "uid " + login // it counts even where its account is gone
		if u, err := lookup(login); err == nil {
			p.account = u.Username
		}
	} else if sudo := env("SUDO_USER"); sudo != "" && current.Uid == "0" {
		p.account = sudo
	}
	for _, name := range []string{p.account, p.claims} {
		if name != "" && (len(name) > 100 || policy.CheckReason(name) != nil) {
			return p, hinted(errors.New("the name of the operator has characters that no name has"), operatorEnv+" is the name of a person")
		}
	}
	return p, nil
}
