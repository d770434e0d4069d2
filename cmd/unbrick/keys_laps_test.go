package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"path/filepath"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"unbrick/bitlocker"
	"unbrick/bitlocker/card"
	"unbrick/bitlocker/laps"
	"unbrick/bitlocker/policy"
	"unbrick/inventory/secret"
)

// A directory has no keys and one password.
type directory struct{ err error }

func (directory) String() string { return "directory" }

func (directory) Lookup(context.Context, bitlocker.Query) (bitlocker.Key, error) {
	return bitlocker.Key{}, bitlocker.ErrNoKey
}

func (d directory) LocalPasswords(_ context.Context, host string) ([]laps.Password, error) {
	if d.err != nil {
		return nil, d.err
	}
	return []laps.Password{{Account: "LapsAdmin", Value: secret.New("canary-" + host), Source: "directory"}}, nil
}

// The page gets the password by the rules for keys, and is drawn without one where there is none.
func TestCardWithPassword(t *testing.T) {
	ledger, err := bitlocker.OpenLedger(filepath.Join(t.TempDir(), "ledger"))
	if err != nil {
		t.Fatal(err)
	}
	defer ledger.Close()
	d := &desk{ledger: ledger, person: person{account: "alice"}, reason: "INC1",
		guard: newGuard(defaults(), ledger, func(host string) string { return map[string]string{"DC1": "others need it"}[host] })}
	var said bytes.Buffer
	c := cli.NewContext(&cli.App{ErrWriter: &said}, flag.NewFlagSet("", flag.ContinueOnError), &cli.Context{Context: t.Context()})
	draw := func(host string, source bitlocker.Source) card.Card {
		t.Helper()
		d.broker = &bitlocker.Broker{Sources: []bitlocker.Source{source}, Ledger: d.guard}
		page := card.Card{Host: host, Admin: "Administrator"}
		d.addPassword(c, &page, bitlocker.Recipient{Actor: "alice", Person: true, Reason: "INC1", Purpose: "card"})
		return page
	}
	if p := draw("PC1", directory{}); p.Password.Reveal() != "canary-PC1" || p.Admin != "LapsAdmin" {
		t.Errorf("%s: %s", p.Admin, said.String())
	}
	for why, page := range map[string]card.Card{
		"encrypted in the directory": draw("PC2", directory{&laps.EncryptedError{Host: "PC2"}}),
		"no local administrator's":   draw("PC3", directory{laps.ErrNone}),
		"down":                       draw("PC4", directory{errors.New("down")}),
		"others need it":             draw("DC1", directory{}), // not without a second person
	} {
		if page.Password.Reveal() != "" || page.Admin != "Administrator" || !strings.Contains(said.String(), why) {
			t.Errorf("%s: %q", why, said.String())
		}
	}
	if past, _ := ledger.Past(t.Context()); len(past) != 1 || past[0].Account != "LapsAdmin" || strings.Contains(said.String(), "canary") {
		t.Errorf("on the ledger: %+v", past)
	}
}

// A second person approves the password of a host with its key, and it goes out once.
func TestApprovedPassword(t *testing.T) {
	ledger, err := bitlocker.OpenLedger(filepath.Join(t.TempDir(), "ledger"))
	if err != nil {
		t.Fatal(err)
	}
	defer ledger.Close()
	d := &desk{ledger: ledger, person: person{account: "alice"}, reason: "INC1", guard: newGuard(defaults(), ledger, func(string) string { return "others need it" })}
	d.broker = &bitlocker.Broker{Sources: []bitlocker.Source{directory{}}, Ledger: d.guard}
	asked := withPasswords([]bitlocker.Query{{ID: bitlocker.KeyID{1}, Host: "DC1"}, {ID: bitlocker.KeyID{2}, Host: "DC2"}})
	_, err = d.admit(t.Context(), "card", asked)
	var wait *policy.WaitError
	if !errors.As(err, &wait) {
		t.Fatal(err)
	}
	if err := d.guard.Approve(t.Context(), bitlocker.Approval{Request: wait.Hash, Actor: "bob"}); err != nil {
		t.Fatal(err)
	}
	to, err := d.admit(t.Context(), "card", asked)
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"DC1", "DC2"} {
		if all, err := d.passwords(t.Context(), host, to); err != nil || len(all) != 1 {
			t.Errorf("%s: %v, %v", host, all, err)
		}
	}
	if all, err := d.passwords(t.Context(), "DC1", to); err == nil || len(all) != 0 {
		t.Error("one approval, two passwords")
	}
	if all, err := d.passwords(t.Context(), "DC3", to); err == nil || len(all) != 0 {
		t.Error("an approval of one host, the password of another")
	}
}
