package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"unbrick/remediate/driver/ec2"
	"unbrick/remediate/engine"
	"unbrick/remediate/rescue"
	"unbrick/remediate/rescue/image"
)

const (
	enrolAtOnce = 10 // helpers
	callsWithin = 30 * time.Second
)

// An enrolment is a helper, and what became of it.
type enrolment struct {
	ec2.CommandHelper
	commands *ec2.Commands
	standing rescue.Standing
	err      error
}

// ssmAlone refuses flags that go with the other way to make a helper.
func ssmAlone(c *cli.Context) error {
	with, without := []string{"region", "renew"}, []string{"out", "config-out"}
	for _, name := range with {
		if c.IsSet(name) && !c.Bool("ssm") {
			return usage("unbrick image helper --help shows an example", "--%s goes with --ssm", name)
		}
	}
	for _, name := range without {
		if c.IsSet(name) && c.Bool("ssm") {
			return usage("with --ssm the credential goes to the helper alone", "--%s does not go with --ssm", name)
		}
	}
	return nil
}

// enrolHelpers makes helpers on EC2 work, by Systems Manager.
func enrolHelpers(c *cli.Context, cfg *config, store *engine.Store, helpers *rescue.Helpers) error {
	sum, err := agentSum(cfg.Image)
	if err != nil {
		return hinted(err, "build the image with this release: unbrick image build --out "+cfg.Image)
	}
	order, err := helperOrder(c, cfg, "of EC2")
	if err != nil {
		return err
	}
	all, err := findHelpers(c, cfg)
	if err != nil {
		return hinted(err, "swap.helpers and swap.ec2 in unbrick.yaml say which, and --region where")
	}
	server, err := serveEnrolments(c, cfg, store, helpers.Pin(), order.URL)
	if err != nil {
		return err
	}
	defer server.Close()
	limit := make(chan struct{}, enrolAtOnce)
	var work sync.WaitGroup
	for _, e := range all {
		work.Go(func() {
			limit <- struct{}{}
			defer func() { <-limit }()
			e.enrol(c.Context, helpers, rescue.EnrolOrder{HelperOrder: order, Agent: sum}, c.Bool("renew"))
		})
	}
	work.Wait()
	return sayEnrolments(c, all)
}

// agentFile is the agent beside an image.
func agentFile(folder string) string { return filepath.Join(folder, image.AgentName) }

func agentSum(folder string) (string, error) {
	f, err := os.Open(agentFile(folder))
	if err != nil {
		return "", fmt.Errorf("cannot read the agent that helpers are to run: %w", err)
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", fmt.Errorf("cannot read the agent that helpers are to run: %w", err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// findHelpers returns the helpers of all regions, those alone that the arguments name if there
// are any.
func findHelpers(c *cli.Context, cfg *config) (all []*enrolment, err error) {
	regions, only := c.StringSlice("region"), c.Args().Slice()
	if len(regions) == 0 {
		regions = []string{cfg.Swap.EC2.Region}
	}
	missing := slices.Clone(only)
	for _, region := range regions {
		commands, err := ec2.NewCommands(c.Context, ec2.CommandOptions{Helpers: cfg.Swap.Helpers, Profile: cfg.Swap.EC2.Profile, Region: region,
			Endpoint: cfg.Swap.EC2.Endpoint, SSMEndpoint: cfg.Swap.EC2.SSM, Every: time.Duration(cfg.Swap.Every)})
		if err != nil {
			return nil, err
		}
		found, err := commands.Helpers(c.Context)
		if err != nil {
			return nil, err
		}
		for _, h := range found {
			if len(only) == 0 || slices.Contains(only, h.ID) || slices.Contains(only, h.Name) {
				missing = slices.DeleteFunc(missing, func(n string) bool { return n == h.ID || n == h.Name })
				all = append(all, &enrolment{CommandHelper: h, commands: commands})
			}
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("%s: no such helper among those that swap.helpers names", strings.Join(missing, ", "))
	}
	return all, nil
}

// serveEnrolments answers helpers, if no run does it already. It serves all that a run's does:
// hosts that boot meanwhile get what is theirs, and wait for the run.
func serveEnrolments(c *cli.Context, cfg *config, store *engine.Store, pin, at string) (io.Closer, error) {
	if served(c.Context, pin, at, cfg.Rescue.Listen) {
		say(c, "a run is on: its rescue server enrols them")
		return io.NopCloser(nil), nil
	}
	log := slog.New(slog.NewTextHandler(c.App.ErrWriter, &slog.HandlerOptions{Level: slog.LevelError}))
	k := &kit{cfg: cfg, store: store, log: log}
	base, err := k.openImage()
	if err == nil {
		err = k.serve(c.Context, base)
	}
	if err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return k, nil
}

// served says whether the server with that pin answers.
func served(ctx context.Context, pin, at, listen string) bool {
	var addresses []string
	if u, err := url.Parse(at); err == nil {
		addresses = append(addresses, u.Host)
	}
	if host, port, err := net.SplitHostPort(listen); err == nil {
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			host = "localhost"
		}
		addresses = append(addresses, net.JoinHostPort(host, port))
	}
	dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: 3 * time.Second}, Config: &tls.Config{
		MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, // the pin is what counts
		VerifyConnection: func(s tls.ConnectionState) error {
			if sum := sha256.Sum256(s.PeerCertificates[0].RawSubjectPublicKeyInfo); hex.EncodeToString(sum[:]) != pin {
				return errors.New("another server")
			}
			return nil
		}}}
	return slices.ContainsFunc(addresses, func(addr string) bool {
		conn, err := dialer.DialContext(ctx, "tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// enrol makes one helper work. Its token is good no longer than this takes.
func (e *enrolment) enrol(ctx context.Context, helpers *rescue.Helpers, o rescue.EnrolOrder, renew bool) {
	if e.Not != "" {
		e.err = errors.New(e.Not)
		return
	}
	o.Name, o.Machine = e.Name, "ec2 "+e.Region+"/"+e.ID
	invitation, err := helpers.Enrol(ctx, o)
	if err != nil {
		e.err = err
		return
	}
	script, err := invitation.Script(renew)
	if err == nil {
		_, err = e.commands.Run(ctx, e.ID, "unbrick enrolment "+invitation.ID, script)
	}
	void := helpers.Void(context.WithoutCancel(ctx), invitation.ID, "unbrick, since what brought it has ended")
	if e.err = errors.Join(err, void); e.err == nil {
		e.standing, e.err = called(ctx, helpers, o.Machine)
	}
}

// called waits until the helper that a machine became has called home.
func called(ctx context.Context, helpers *rescue.Helpers, machine string) (s rescue.Standing, err error) {
	for end := time.Now().Add(callsWithin); ; {
		if s, err = helpers.Standing(ctx, machine); err != nil || s.Met {
			return s, err
		}
		if time.Now().After(end) {
			if s.Helper == "" {
				return s, errors.New("its agent has a credential that no enrolment of this state gave, or that was revoked: --renew gives it a new one")
			}
			return s, errors.New("its agent runs, and has not called: journalctl -u unbrick-helper on it says why")
		}
		select {
		case <-ctx.Done():
			return s, context.Cause(ctx)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func sayEnrolments(c *cli.Context, all []*enrolment) error {
	code, list := exitDone, []map[string]any{}
	for _, e := range all {
		line := map[string]any{"name": e.Name, "instance": e.ID, "region": e.Region, "zone": e.Zone}
		text := fmt.Sprintf("works: helper %s, until %s", e.standing.Helper, e.standing.Until.Local().Format("2006-01-02 15:04 MST"))
		if e.err != nil {
			code, line["error"] = exitNotAll, e.err.Error()
			text = "does not work: " + strings.ReplaceAll(e.err.Error(), "\n", "\n    ")
		} else {
			line["id"], line["until"] = e.standing.Helper, e.standing.Until
		}
		if list = append(list, line); !c.Bool("json") {
			fmt.Fprintf(c.App.Writer, "%s  %s (%s)  %s\n", e.Name, e.ID, e.Zone, text)
		}
	}
	if c.Bool("json") {
		if err := printJSON(c, list); err != nil {
			return err
		}
	} else if code != exitDone {
		say(c, "once that is put right, the same command goes on; it leaves those alone that work")
	}
	return exitWith(code)
}
