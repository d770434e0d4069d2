package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"unbrick/bitlocker"
	"unbrick/inventory"
	"unbrick/remediate"
	"unbrick/remediate/tlspin"
	client "unbrick/remediate/winrm"
)

// A shell opens sessions on Windows hosts that run, for whatever is asked of them.
type shell struct {
	login func(context.Context, remediate.Target) (client.Auth, error)
	trust tlspin.Policy
	limit time.Duration // of one question
}

// newShell returns nil where the configuration has no credential that could fit WinRM.
func newShell(cfg *config, pins tlspin.Records) (*shell, error) {
	if !slices.ContainsFunc(cfg.Credentials, func(c credential) bool { return c.Driver == "" || c.Driver == "winrm" }) {
		return nil, nil
	}
	o, err := cfg.winrm(pins)
	return &shell{o.Login, o.TLS, 20 * time.Second}, err
}

// options returns how to reach a host by its way in winrm.
func (s *shell) options(ctx context.Context, h inventory.Host) (client.Options, error) {
	i := slices.IndexFunc(h.Routes, func(r inventory.Route) bool { return r.Driver == "winrm" })
	if i < 0 {
		return client.Options{}, fmt.Errorf("host %s has no way in by winrm", h.Name)
	}
	auth, err := s.login(ctx, remediate.Target{Host: h, Route: h.Routes[i]})
	return client.Options{Address: h.Routes[i].Address, Auth: auth, TLS: s.trust}, err
}

// Vouch implements remediate.Voucher.
func (s *shell) Vouch(ctx context.Context, h inventory.Host) (remediate.Standing, error) {
	ctx, cancel := context.WithTimeout(ctx, s.limit)
	defer cancel()
	o, err := s.options(ctx, h)
	if err != nil {
		return remediate.Standing{}, err
	}
	session, err := client.Dial(ctx, o)
	if err != nil {
		return remediate.Standing{}, err
	}
	defer session.Close()
	facts, err := session.Facts(ctx)
	return remediate.Standing{Started: facts.Boot, SafeMode: facts.SafeMode != ""}, err
}

// runner returns what runs scripts on the hosts of a run, by their folded names.
func (s *shell) runner(hosts map[string]inventory.Host) client.Runner {
	return client.Runner{Options: func(ctx context.Context, name string) (client.Options, error) {
		h, ok := hosts[bitlocker.FoldHost(name)]
		if !ok {
			return client.Options{}, fmt.Errorf("host %s is not in the run: nobody knows how to reach it", name)
		}
		return s.options(ctx, h)
	}}
}

// keepScreen returns what keeps screenshots in a folder, for their owner alone: a screen may
// show anything.
func keepScreen(dir string) func(remediate.Target, []byte) (string, error) {
	return func(t remediate.Target, png []byte) (string, error) {
		dir := filepath.Join(dir, fileName(t.Run))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return "", err
		}
		name := filepath.Join(dir, fileName(t.Host.Name)+"-"+strconv.Itoa(t.Attempt)+".png")
		return name, os.WriteFile(name, png, 0o600)
	}
}
