package lab_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/inventory/secret"
	"unbrick/playbooks"
	"unbrick/remediate"
	"unbrick/remediate/driver/winrm"
	"unbrick/remediate/lab"
	"unbrick/remediate/probe"
	"unbrick/remediate/tlspin"
	client "unbrick/remediate/winrm"
)

// TestShell: a host that is up for a while between two crashes is repaired by the driver, in
// either form, and comes up for good.
func TestShell(t *testing.T) {
	for name, plain := range map[string]bool{"PowerShell": false, "plain": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := shaky(t)
			d := winrm.New(winrm.Options{NoPowerShell: plain, TLS: tlspin.Policy{Mode: tlspin.Insecure},
				Login: func(context.Context, remediate.Target) (client.Auth, error) {
					return client.NTLM{User: "Administrator", Password: secret.New("lab-only-windows")}, nil
				},
				Times: winrm.Times{Catch: time.Minute, Every: 10 * time.Millisecond}})
			before, err := d.Observe(t.Context(), target)
			if err != nil || before.Power != "on" {
				t.Fatal(before, err)
			}
			pb, err := playbooks.Open("crowdstrike-291")
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second finds what the first did
				r, err := d.Repair(t.Context(), target, pb)
				if err != nil || r.Proof() != nil || len(r.Removed()) != 1 {
					t.Fatalf("%+v, %v", r, err)
				}
			}
			var retry *remediate.RetryError
			for err = d.Leave(t.Context(), target, before); errors.As(err, &retry); { // it crashed meanwhile
				err = d.Leave(t.Context(), target, before)
			}
			if err != nil {
				t.Fatal(err)
			}
			p := probe.New(probe.Options{})
			for since := time.Now(); time.Since(since) < 2*time.Second; { // longer than it was up before
				if !isUp(t, p, target.Host, false) {
					since = time.Now()
				}
				if t.Context().Err() != nil {
					t.Fatal("it does not stay up")
				}
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
}

// shaky returns a host that is reached by WinRM alone.
func shaky(t *testing.T) remediate.Target {
	t.Helper()
	l := start(t, lab.Options{Hosts: 10, Seed: 1})
	for _, h := range l.Hosts() {
		if l.Ways()[h.Name] == "winrm" && len(h.Routes) == 1 {
			return remediate.Target{Run: "r1", Attempt: 1, Host: h, Route: inventory.Route{Driver: "winrm", Address: h.Routes[0].Address}}
		}
	}
	t.Fatal("no host is reached by WinRM alone")
	return remediate.Target{}
}
