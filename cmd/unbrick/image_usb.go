package main

import (
	"errors"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"unbrick/remediate/engine"
	"unbrick/remediate/rescue"
	"unbrick/remediate/rescue/image"
	"unbrick/remediate/rescue/wire"
)

// stickLife is how long a stick is good if nobody says: a shift and a half.
const stickLife = 12 * time.Hour

func imageUSBCommand() *cli.Command {
	return &cli.Command{
		Name: "usb", Usage: "a stick of it that a technician carries from host to host", Action: imageUSB,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "out", Value: "stick.img", Usage: "`FILE` for the stick's image; it holds a credential"},
			&cli.StringFlag{Name: "by", Usage: "`NAME` of the technician: it goes on the ledger with every key"},
			&cli.StringSliceFlag{Name: "site", Usage: "`SITE` where the stick is good; may be given several times"},
			&cli.StringFlag{Name: "until", Usage: "`TIME` when it ends, as 2026-11-23T08:00 here or with a zone (default: in 12 hours)"},
			&cli.IntFlag{Name: "hosts", Value: 100, Usage: "`NUMBER` of hosts that it is good for"},
			&cli.IntFlag{Name: "per-hour", Value: 20, Usage: "`NUMBER` of hosts within an hour"},
			&cli.BoolFlag{Name: "offline", Usage: "for a place without network: it looks for no server"},
			&cli.DurationFlag{Name: "patience", Value: 3 * time.Minute, Usage: "`TIME` that it looks for the server before it asks for the key on a card"},
			&cli.StringFlag{Name: "url", Usage: "`URL` of the rescue server as hosts reach it, instead of rescue.url"},
			&cli.StringFlag{Name: "listen", Usage: "`ADDRESS` where the run listens for the rescue system, instead of rescue.listen"},
			configFlag(), stateFlag(), imageFlag(), playbookFlag(), jsonFlag(),
		},
		Description: `The stick starts with Secure Boot on. It holds no recovery key and no token of any host: the run's
server lets it in at hosts that wait for a person, at these sites, until then. Where no server
answers, it asks for the 48 digits on the host's card and writes its report to itself.

   unbrick image build --profile client --out unbrick-image
   unbrick image usb --by "Alice Jones" --site SYD --until 2026-11-23T08:00 --out alice.img
   dd if=alice.img of=/dev/sdX bs=4M conv=fsync     (or Rufus, in DD mode)`,
	}
}

func imageUSB(c *cli.Context) error {
	if _, err := arguments(c, 0, 0); err != nil {
		return err
	}
	cfg, err := settings(c)
	if err != nil {
		return err
	}
	order, err := stickOrder(c, cfg)
	if err != nil {
		return err
	}
	img, err := image.Open(cfg.Image)
	if err != nil {
		return hinted(err, "build it on a Debian machine: unbrick image build --profile client --out unbrick-image")
	}
	defer img.Close()
	sticks, store, err := openSticks(c, cfg)
	if err != nil {
		return err
	}
	defer store.Close()
	stick, err := sticks.Issue(c.Context, order)
	if err != nil {
		return hinted(err, "unbrick image usb --help shows an example")
	}
	if err := image.USB(c.String("out"), img, stick); err != nil {
		// Nobody has it: it must not stand in the list as one that somebody carries.
		return hinted(errors.Join(err, sticks.Revoke(c.Context, stick.Stick.ID, "unbrick: its image was not written")), "--out names a new file")
	}
	info, err := sticks.Look(c.Context, stick.Stick.ID)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c, info)
	}
	say(c, "stick %s of %s for %s until %s, at most %d hosts: %s", info.ID, info.By, strings.Join(info.Sites, ", "),
		info.Until.Local().Format("2006-01-02 15:04 MST"), info.MaxHosts, c.String("out"))
	say(c, "it asks %s; if it is lost: unbrick image sticks --revoke %s", order.URL, info.ID)
	return nil
}

// stickOrder reads the command line.
func stickOrder(c *cli.Context, cfg *config) (o rescue.StickOrder, err error) {
	who, err := currentPerson()
	if err != nil {
		return o, err
	}
	o = rescue.StickOrder{
		By: strings.TrimSpace(c.String("by")), IssuedBy: who.account, Sites: c.StringSlice("site"), Until: time.Now().Add(stickLife),
		Hosts: c.Int("hosts"), PerHour: c.Int("per-hour"), Offline: c.Bool("offline"), Patience: c.Duration("patience"),
		Allow: wire.Allow{Hibernated: cfg.Allow.Hibernated, DropJournal: cfg.Allow.DropJournal},
	}
	if o.By == "" || len(o.Sites) == 0 {
		return o, usage(`unbrick image usb --by "Alice Jones" --site SYD`, "a stick is for a person and a site")
	}
	if until := c.String("until"); until != "" {
		if o.Until, err = parseUntil(until); err != nil {
			return o, err
		}
	}
	if o.Playbook, err = openPlaybook(cfg.Playbook); err != nil {
		return o, err
	}
	given := c.String("url")
	if given == "" {
		given = cfg.Rescue.URL
	}
	o.URL, err = rescue.URL(given, cfg.Rescue.Listen)
	return o, hinted(err, "--url says how hosts reach the rescue server: https://10.1.2.3:8443")
}

// parseUntil reads a time here, or one with a zone.
func parseUntil(s string) (time.Time, error) {
	for _, layout := range []string{"2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02T15:04:05"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04Z07:00"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usage("write --until 2026-11-23T08:00, or with a zone 2026-11-23T08:00+11:00", "%q is not a time", s)
}

// openSticks opens the sticks of the run's rescue server. Close the store.
func openSticks(c *cli.Context, cfg *config) (*rescue.Sticks, *engine.Store, error) {
	store, err := openStore(c, cfg)
	if err != nil {
		return nil, nil, err
	}
	sticks, err := rescue.OpenSticks(cfg.Rescue.Dir, store)
	if err != nil {
		return nil, nil, errors.Join(hinted(err, "rescue.dir in unbrick.yaml names the directory"), store.Close())
	}
	return sticks, store, nil
}
