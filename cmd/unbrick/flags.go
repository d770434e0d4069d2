package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"
)

// The options that mean the same in every command.

func configFlag() cli.Flag {
	return &cli.StringFlag{Name: "config", Aliases: []string{"c"}, Usage: "configuration `FILE` (default: unbrick.yaml, if it is there)"}
}

func inventoryFlag() cli.Flag {
	return &cli.StringFlag{Name: "inventory", Aliases: []string{"i"}, Usage: "the fleet: a CSV `FILE`, alone"}
}

func mapFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "map", Usage: "a column by another name: `name=Hostname`; may be given several times"}
}

func skipBadFlag() cli.Flag {
	return &cli.BoolFlag{Name: "skip-bad", Usage: "go on without the rows that cannot be used"}
}

func stateFlag() cli.Flag {
	return &cli.StringFlag{Name: "state", Usage: "what is known of the run: a `FILE`, or postgres://… to share it (default: unbrick.db)"}
}

func playbookFlag() cli.Flag {
	return &cli.StringFlag{Name: "playbook", Usage: "`NAME` or file of the playbook (default: crowdstrike-291)"}
}

func onlyFlag() cli.Flag {
	return &cli.StringFlag{Name: "only", Usage: "only hosts that fit, as `SELECTOR`: 'site == \"SYD\" && tier in [\"dependency\", \"critical\"]', or site=SYD,AKL tier=critical name=web-*"}
}

func jsonFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", Usage: "print the result as JSON on standard output"}
}

func keysFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "keys", Usage: "recovery keys: a CSV `FILE`; may be given several times"}
}

func imageFlag() cli.Flag {
	return &cli.StringFlag{Name: "image", Usage: "`FOLDER` of the rescue image, made by unbrick image build (default: unbrick-image)"}
}

// listenFlags are for a second command on one machine, whose ports the first one has.
func listenFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "listen", Usage: "`ADDRESS` for the rescue system, as :8444, instead of rescue.listen"},
		&cli.StringFlag{Name: "image-listen", Usage: "`ADDRESS` for BMCs, as :8081, instead of rescue.image_listen"},
	}
}

// fleetFlags are those of every command that reads the fleet.
func fleetFlags() []cli.Flag {
	return []cli.Flag{inventoryFlag(), configFlag(), mapFlag(), skipBadFlag(), onlyFlag(), refreshFlag()}
}

func refreshFlag() cli.Flag {
	return &cli.BoolFlag{Name: "refresh", Usage: "read the sources of unbrick.yaml anew and save what they say, instead of going by the saved fleet"}
}

// settings returns the configuration with the flags of the command laid over it.
func settings(c *cli.Context) (*config, error) {
	cfg, err := loadConfig(c.String("config"))
	if err != nil {
		return nil, err
	}
	if c.String("inventory") != "" { // that file and no other host
		cfg.Sources, cfg.Wins = nil, nil
	}
	for name, field := range map[string]*string{
		"inventory": &cfg.Inventory, "state": &cfg.State, "playbook": &cfg.Playbook, "image": &cfg.Image,
	} {
		if v := c.String(name); v != "" {
			*field = v
		}
	}
	if v := c.StringSlice("map"); len(v) > 0 {
		cfg.Map = v
	}
	if v := c.StringSlice("keys"); len(v) > 0 {
		cfg.Keys = v
	}
	listenAt(c.String("listen"), &cfg.Rescue.Listen, &cfg.Rescue.URL)
	listenAt(c.String("image-listen"), &cfg.Rescue.ImageListen, &cfg.Rescue.ImageURL)
	cfg.SkipBad = cfg.SkipBad || c.Bool("skip-bad")
	return cfg, nil
}

// listenAt changes where the rescue server listens, and with it the port that hosts are told.
func listenAt(address string, listen, told *string) {
	if address == "" {
		return
	}
	*listen = address
	u, err := url.Parse(*told)
	_, port, portErr := net.SplitHostPort(address)
	if *told == "" || err != nil || portErr != nil {
		return
	}
	u.Host = net.JoinHostPort(u.Hostname(), port)
	*told = u.String()
}

// printJSON writes v to standard output, indented for a person who looks at it too.
func printJSON(c *cli.Context, v any) error {
	enc := json.NewEncoder(c.App.Writer)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// say prints a line for the person at the terminal, on standard error.
func say(c *cli.Context, format string, args ...any) {
	fmt.Fprintf(c.App.ErrWriter, format+"\n", args...)
}

// terminal says whether w is one: progress bars and secrets are for those alone.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
