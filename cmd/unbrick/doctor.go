package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"unbrick/inventory"
	"unbrick/remediate/engine"
	"unbrick/remediate/netboot"
	"unbrick/remediate/tlspin"
)

func doctorCommand() *cli.Command {
	return &cli.Command{
		Name: "doctor", Usage: "is all there that a run needs? says what is missing before a run does", Action: doctor,
		Flags: append(fleetFlags(), stateFlag(), playbookFlag(), keysFlag(), imageFlag(), jsonFlag(),
			&cli.StringFlag{Name: "forget-pin", Usage: "forget the certificate of the BMC at `ADDRESS` (host:port), after its firmware was updated, and stop"}),
		Description: "Asks every source of hosts and keys whether it lets this account read what is needed, and which\nright is missing; asks one host of each site how it stands. Changes nothing. Exit code 2 if\nsomething is missing.\n\n   unbrick doctor -c unbrick.yaml",
	}
}

// A diagnosis is what one check found.
type diagnosis struct {
	Check string `json:"check"`
	State string `json:"state"` // ok, warning or missing
	Found string `json:"found"`
	Hint  string `json:"hint,omitempty"`
	Right string `json:"right,omitempty"` // that an account lacks, by its vendor's name
}

// A patient is what the checks look at; a later check may use what an earlier one opened.
type patient struct {
	c     *cli.Context
	cfg   *config
	fleet *inventory.Fleet
	store *engine.Store
	boot  *netboot.Server // nil: not configured, or it cannot listen
	out   []diagnosis
}

func (p *patient) ok(check, format string, args ...any) {
	p.out = append(p.out, diagnosis{Check: check, State: "ok", Found: fmt.Sprintf(format, args...)})
}

func (p *patient) warn(check, hint, format string, args ...any) {
	p.out = append(p.out, diagnosis{Check: check, State: "warning", Found: fmt.Sprintf(format, args...), Hint: hint})
}

func (p *patient) missing(check, hint string, err error) {
	p.out = append(p.out, diagnosis{Check: check, State: "missing", Found: err.Error(), Hint: hint})
}

func doctor(c *cli.Context) error {
	if _, err := arguments(c, 0, 0); err != nil {
		return err
	}
	cfg, err := settings(c)
	if err != nil {
		return err
	}
	if address := c.String("forget-pin"); address != "" {
		return forgetPin(c, cfg, address)
	}
	p := &patient{c: c, cfg: cfg}
	for _, check := range []func(*patient){
		(*patient).playbook, (*patient).sources, (*patient).inventory, (*patient).image, (*patient).keys, (*patient).ledger,
		(*patient).state, (*patient).ports, (*patient).urls, (*patient).netboot, (*patient).timeouts, (*patient).secretFiles, (*patient).credentials, (*patient).hosts, (*patient).clock,
	} {
		check(p)
	}
	if p.store != nil {
		defer p.store.Close()
	}
	if p.boot != nil {
		defer p.boot.Close()
	}
	return p.tell()
}

func (p *patient) tell() error {
	bad := 0
	for _, d := range p.out {
		if d.State == "missing" {
			bad++
		}
	}
	if p.c.Bool("json") {
		if err := printJSON(p.c, p.out); err != nil {
			return err
		}
	} else {
		for _, d := range p.out {
			fmt.Fprintf(p.c.App.Writer, "%-8s %-12s %s\n", d.State, d.Check, strings.ReplaceAll(d.Found, "\n", "\n"+strings.Repeat(" ", 22)))
			if d.Hint != "" {
				fmt.Fprintf(p.c.App.Writer, "%22shint: %s\n", "", d.Hint)
			}
		}
	}
	if bad > 0 {
		return usage("", "%d checks found something missing", bad)
	}
	return nil
}

func forgetPin(c *cli.Context, cfg *config, address string) error {
	store, err := openStore(c, cfg)
	if err != nil {
		return err
	}
	defer store.Close()
	if err := store.Forget(c.Context, tlspin.Key(address)); err != nil {
		return hinted(err, "the address is host:port, as in the error")
	}
	say(c, "forgot the certificate of %s: the next one it shows is recorded", address)
	return nil
}
