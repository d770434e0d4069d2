// Package winrm repairs hosts in place, through a shell on the Windows that runs on them: one
// that is up for seconds between two crashes, or one in Safe Mode with Networking.
//
// # What is done to a host
//
// A faulty file is never deleted. It is moved to C:\ProgramData\unbrick\RUN on its own volume,
// read again there, and moved back unless it is exactly what was decided on: so at no moment
// can a good file that took its place be lost. That directory is also all the memory there
// is: a repair that was cut off anywhere, and is done again, finds there what it did.
//
// The host is asked in one of two forms. The first is one PowerShell script, which looks,
// decides, moves and looks again in one command, because there may be seconds. The other is
// plain cmd.exe with certutil and wmic, in three commands, where PowerShell is not there, is
// constrained, or was too slow the last time. Either way the verdicts of the report are made
// here, by package playbooks, from what the host saw.
//
// Only the Windows that runs is looked at: other installations on the same disks are for the
// other ways in.
package winrm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"unbrick/playbooks"
	"unbrick/remediate"
	"unbrick/remediate/tlspin"
	client "unbrick/remediate/winrm"
)

// Options say how to reach hosts. Login is needed; TLS pins by default and then needs Records.
type Options struct {
	// Login returns how to log in to a host.
	Login func(ctx context.Context, t remediate.Target) (client.Auth, error)
	TLS   tlspin.Policy
	Times Times
	// AnyName takes a host whatever it calls itself. Without it, its computer name has to be
	// the inventory's name up to the first dot.
	AnyName bool
	// NoPowerShell goes by the plain form alone.
	NoPowerShell bool
}

// Times are limits of time; the zero value of each has a default.
type Times struct {
	Catch   time.Duration // for a host to answer, in Observe, and to be repaired, in Repair: 5 min
	Leave   time.Duration // for a host to answer, in Leave: 2 min
	Every   time.Duration // between two tries: 1 s
	Connect time.Duration // for one try to get a connection: 3 s
	Silence time.Duration // after which a host that said nothing at all is dead: 30 s
}

// A Driver is the way in by WinRM. An address is a host, host:port, or a URL: https, or http,
// where NTLM seals what it sends.
type Driver struct{ opt Options }

var (
	_ remediate.Driver   = (*Driver)(nil)
	_ remediate.Repairer = (*Driver)(nil)

	_ remediate.Supporter = (*Driver)(nil)
)

// New returns a driver.
func New(o Options) *Driver {
	or := func(d *time.Duration, def time.Duration) {
		if *d <= 0 {
			*d = def
		}
	}
	or(&o.Times.Catch, 5*time.Minute)
	or(&o.Times.Leave, 2*time.Minute)
	or(&o.Times.Every, time.Second)
	or(&o.Times.Connect, 3*time.Second)
	or(&o.Times.Silence, 30*time.Second)
	return &Driver{o}
}

// Keys of a posture's details.
const (
	detailBoot = "boot"      // when the Windows was started that was seen, RFC 3339
	detailSafe = "safe_mode" // "network" or "minimal", or absent
	detailOS   = "os"
)

// Observe implements remediate.Driver. It waits for the host to answer, and fails where we
// may not log in or where the host is another one.
func (d *Driver) Observe(ctx context.Context, t remediate.Target) (remediate.Posture, error) {
	s, facts, err := d.catch(ctx, t, d.opt.Times.Catch)
	if err != nil {
		return remediate.Posture{}, err
	}
	s.Close()
	p := remediate.Posture{Power: "on", Detail: map[string]string{detailOS: facts.OS}}
	if !facts.Boot.IsZero() {
		p.Detail[detailBoot] = facts.Boot.Format(time.RFC3339)
	}
	if facts.SafeMode != "" {
		p.Detail[detailSafe] = facts.SafeMode
	}
	return p, nil
}

// Enter implements remediate.Driver. There is nothing to do: a shell that is opened now would
// be gone with the next crash, and Repair opens its own.
func (d *Driver) Enter(ctx context.Context, t remediate.Target, _ remediate.Image) error {
	if err := client.CheckAddress(t.Route.Address); err != nil {
		return err
	}
	return ctx.Err()
}

// Repair implements remediate.Repairer. It catches the host as often as it has to until the
// time is over. The same report is returned when it is called again in the same run.
func (d *Driver) Repair(ctx context.Context, t remediate.Target, pb *playbooks.Playbook) (remediate.Report, error) {
	plan, err := compile(t.Run, pb)
	if err != nil {
		return remediate.Report{}, err
	}
	started := time.Now()
	end := started.Add(d.opt.Times.Catch)
	for n := 0; ; n++ {
		s, _, err := d.catch(ctx, t, time.Until(end))
		if err != nil {
			return remediate.Report{}, err
		}
		// A host that died under PowerShell may live long enough for less.
		plain := d.opt.NoPowerShell || n%2 == 1
		report, err := plan.repair(ctx, s, plain)
		s.Close()
		report.Elapsed = time.Since(started)
		if err == nil || !died(err) || time.Now().After(end) || ctx.Err() != nil {
			return report, err
		}
	}
}

// Supports implements remediate.Supporter: every step has to be one for a Windows that runs.
func (*Driver) Supports(pb *playbooks.Playbook) error {
	_, err := compile("", pb)
	return err
}

func died(err error) bool {
	var lost *client.LostError
	var fault *client.FaultError
	return errors.As(err, &lost) || errors.As(err, &fault) && fault.ShellGone()
}

// maxDenied is how often a login may be refused in one call: right after its start Windows
// refuses right ones too, and wrong ones lock the account.
const maxDenied = 2

// catch tries until the host lets us in.
func (d *Driver) catch(ctx context.Context, t remediate.Target, limit time.Duration) (*client.Session, client.Facts, error) {
	auth, err := d.opt.Login(ctx, t)
	if err != nil {
		return nil, client.Facts{}, fmt.Errorf("cannot log in to %s: %w", t.Host.Name, err)
	}
	o := client.Options{Address: t.Route.Address, Auth: auth, TLS: d.opt.TLS,
		Times: client.Times{Connect: d.opt.Times.Connect, Operation: d.opt.Times.Silence * 2 / 3, Answer: d.opt.Times.Silence / 3}}
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	denied := 0
	for {
		s, facts, err := d.try(ctx, t, o)
		var login *client.LoginError
		var fault *client.FaultError
		switch {
		case err == nil:
			return s, facts, nil
		case errors.As(err, &login):
			denied++
		case errors.As(err, &fault) && fault.Busy():
			return nil, facts, &remediate.RetryError{After: 15 * time.Second, Err: err}
		case !died(err):
			return nil, facts, err
		}
		if denied == maxDenied {
			return nil, facts, err
		}
		select {
		case <-time.After(d.opt.Times.Every):
		case <-timeout.C:
			return nil, facts, fmt.Errorf("WinRM did not answer within %s: %w", limit.Round(time.Second), err)
		case <-ctx.Done():
			return nil, facts, err
		}
	}
}

// try logs in once and makes sure that the host is the one.
func (d *Driver) try(ctx context.Context, t remediate.Target, o client.Options) (*client.Session, client.Facts, error) {
	s, err := client.Dial(ctx, o)
	if err != nil {
		return nil, client.Facts{}, err
	}
	facts, err := s.Facts(ctx)
	if err == nil && !d.opt.AnyName && !sameName(facts.Name, t.Host.Name) {
		err = fmt.Errorf("the host at %s calls itself %q, and not %s: correct the address or the inventory", t.Route.Address, facts.Name, t.Host.Name)
	}
	if err != nil {
		s.Close()
		return nil, facts, err
	}
	return s, facts, nil
}

// sameName compares a NetBIOS name, of up to 15 letters, with a name of the inventory.
func sameName(netbios, name string) bool {
	name, _, _ = strings.Cut(name, ".")
	if len(name) > 15 {
		name = name[:15]
	}
	return strings.EqualFold(netbios, name)
}
