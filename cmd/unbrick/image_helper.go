package main

import (
	"errors"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"unbrick/remediate/rescue"
	"unbrick/remediate/rescue/image"
	"unbrick/remediate/rescue/wire"
)

// helperLife is how long a helper is good if nobody says: an incident.
const helperLife = 7 * 24 * time.Hour

func imageHelperCommand() *cli.Command {
	return &cli.Command{
		Name: "helper", Usage: "what a helper boots, on which the disks of virtual hosts are repaired", Action: imageHelper, ArgsUsage: "NAME | --ssm [NAME…]",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "out", Value: "helper.iso", Usage: "`FILE` for the ISO; it holds a credential"},
			&cli.StringFlag{Name: "config-out", Usage: "write the credential alone to this `FILE`, for a Linux machine that runs unbrick-agent helper"},
			&cli.StringFlag{Name: "until", Usage: "`TIME` when it ends, as 2026-11-23T08:00 here or with a zone (default: in 7 days, at most 31)"},
			&cli.StringFlag{Name: "url", Usage: "`URL` of the rescue server as the helper reaches it, instead of rescue.url"},
			&cli.BoolFlag{Name: "ssm", Usage: "on EC2, make the helpers of swap.helpers work, by AWS Systems Manager; NAMEs or ids are some of them"},
			&cli.StringSliceFlag{Name: "region", Usage: "with --ssm, `REGION` to look in; may be given several times (default: swap.ec2.region)"},
			&cli.BoolFlag{Name: "renew", Usage: "with --ssm, give also those a new credential that have one"},
			&cli.StringSliceFlag{Name: "revoke", Usage: "take the helper of this `ID` out of use, at once and for good; may be given several times"},
			configFlag(), stateFlag(), imageFlag(), jsonFlag(),
		},
		Description: `NAME is what the platform calls the helper: by it the run tells the helper which disks are on it.
The credential is good for disks that the run has hung on a helper of that name, while they are
being repaired, and for nothing else.

   unbrick image build --out unbrick-image
   unbrick image helper --out helper.iso unbrick-helper
   virt-install --name unbrick-helper --memory 1024 --cdrom helper.iso --disk none \
     --controller scsi,model=virtio-scsi --osinfo generic

On EC2 nothing is copied by hand: --ssm has Systems Manager put the agent on the helpers and start
it. What Systems Manager keeps is a token that was good once, for ten minutes. Done again, it
looks that all work, and changes nothing on those that do.

   unbrick image helper --ssm
   unbrick image helper --ssm --region eu-west-1 --region us-east-1 --renew`,
	}
}

func imageHelper(c *cli.Context) error {
	cfg, err := settings(c)
	if err != nil {
		return err
	}
	store, err := openStore(c, cfg)
	if err != nil {
		return err
	}
	defer store.Close()
	helpers, err := rescue.OpenHelpers(cfg.Rescue.Dir, store)
	if err != nil {
		return hinted(err, "rescue.dir in unbrick.yaml names the directory")
	}
	if ids := c.StringSlice("revoke"); len(ids) > 0 {
		return revokeHelpers(c, helpers, ids)
	}
	if err := ssmAlone(c); err != nil {
		return err
	}
	if c.Bool("ssm") {
		return enrolHelpers(c, cfg, store, helpers)
	}
	args, err := arguments(c, 1, 1)
	if err != nil {
		return err
	}
	order, err := helperOrder(c, cfg, args[0])
	if err != nil {
		return err
	}
	h, err := helpers.Issue(c.Context, order)
	if err != nil {
		return hinted(err, "unbrick image helper --help shows an example")
	}
	out := c.String("out")
	if file := c.String("config-out"); file != "" {
		out, err = file, writeHelperConfig(file, h)
	} else {
		err = writeHelperISO(cfg.Image, out, h)
	}
	if err != nil { // nobody has it
		return hinted(errors.Join(err, helpers.Revoke(c.Context, h.Helper.ID, "unbrick: it was not written")), "--out and --config-out name a new file")
	}
	if c.Bool("json") {
		return printJSON(c, map[string]any{"id": h.Helper.ID, "name": h.Helper.Name, "until": h.Helper.Until, "file": out})
	}
	say(c, "helper %s, called %s, until %s: %s", h.Helper.ID, h.Helper.Name, h.Helper.Until.Local().Format("2006-01-02 15:04 MST"), out)
	say(c, "it asks %s; if the file gets lost: unbrick image helper --revoke %s", h.URL, h.Helper.ID)
	return nil
}

func helperOrder(c *cli.Context, cfg *config, name string) (o rescue.HelperOrder, err error) {
	who, err := currentPerson()
	if err != nil {
		return o, err
	}
	o = rescue.HelperOrder{Name: strings.TrimSpace(name), IssuedBy: who.account, Until: time.Now().Add(helperLife)}
	if until := c.String("until"); until != "" {
		if o.Until, err = parseUntil(until); err != nil {
			return o, err
		}
	}
	given := c.String("url")
	if given == "" {
		given = cfg.Rescue.URL
	}
	o.URL, err = rescue.URL(given, cfg.Rescue.Listen)
	return o, hinted(err, "--url says how the helper reaches the rescue server: https://10.1.2.3:8443")
}

func writeHelperISO(folder, out string, h wire.Config) error {
	img, err := image.Open(folder)
	if err != nil {
		return err
	}
	defer img.Close()
	return image.Helper(out, img, h)
}

// writeHelperConfig writes a file that nobody but its owner can read.
func writeHelperConfig(name string, h wire.Config) error {
	b, err := h.Window()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}

func revokeHelpers(c *cli.Context, helpers *rescue.Helpers, ids []string) error {
	who, err := currentPerson()
	if err != nil {
		return err
	}
	var errs []error
	for _, id := range ids { // all of them, whatever becomes of one
		if err := helpers.Revoke(c.Context, id, who.account); err != nil {
			errs = append(errs, err)
			continue
		}
		say(c, "helper %s is good for nothing any more", id)
	}
	return hinted(errors.Join(errs...), "--state names the run's")
}
