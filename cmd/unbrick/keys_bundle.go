package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"unbrick/bitlocker"
	"unbrick/bitlocker/source/bundle"
	"unbrick/inventory"
	"unbrick/inventory/secret"
)

func keysBundleCommand() *cli.Command {
	return &cli.Command{
		Name: "bundle", Usage: "keys of one site in a sealed file, for the day when no escrow can be reached",
		Subcommands: []*cli.Command{
			{
				Name: "make", Usage: "read the keys of a site out of the escrows and seal them for two persons", Action: bundleMake,
				Flags: append(personFlags(),
					&cli.StringFlag{Name: "site", Usage: "the `SITE`, as in the inventory"},
					&cli.StringSliceFlag{Name: "first", Usage: "age `RECIPIENT` (age1…) of a first person; several are wise"},
					&cli.StringSliceFlag{Name: "second", Usage: "age `RECIPIENT` of a second person; none may be in both lists"},
					&cli.StringFlag{Name: "signer", Usage: "`REFERENCE` to the Ed25519 key that signs it (openssl genpkey -algorithm ed25519)"},
					&cli.DurationFlag{Name: "valid", Value: 90 * 24 * time.Hour, Usage: "how `LONG` it may be used"},
					&cli.StringFlag{Name: "out", Usage: "`FILE` to write; never over another"}),
				Description: `A second person approves it (unbrick keys approve), who sees for whom it is sealed. Each key is on
the ledger. Opening it takes one identity of each list: the bundle entry of escrows: in unbrick.yaml.

   unbrick keys bundle make --site SYD --first age1… --second age1… --signer file:sign.pem \
       --out syd.bundle -i fleet.csv -c unbrick.yaml --reason 'CHG0031, quarterly'`,
			},
			{
				Name: "show", Usage: "whose a bundle is, how old, and whether it is what its signer made; needs no identity", ArgsUsage: "FILE", Action: bundleShow,
				Flags:       []cli.Flag{&cli.StringFlag{Name: "signer", Usage: "`FILE` with the signer's public key (openssl pkey -pubout)"}, jsonFlag()},
				Description: "   unbrick keys bundle show syd.bundle --signer signer.pub",
			},
		},
	}
}

func bundleMake(c *cli.Context) error {
	if _, err := arguments(c, 0, 0); err != nil {
		return err
	}
	plan, err := bundlePlan(c)
	if err != nil {
		return err
	}
	out := c.String("out")
	if _, err := os.Lstat(out); out == "" || !errors.Is(err, fs.ErrNotExist) {
		return usage("--out names a file that is not there yet", "cannot write the bundle to %q", out)
	}
	d, err := openDesk(c)
	if err != nil {
		return err
	}
	defer closeLedger(c, d.ledger)
	if d.fleet == nil {
		return usage("-i fleet.csv says which hosts a site has", "no inventory")
	}
	wanted, err := d.siteKeys(c, plan.Site)
	if err != nil {
		return err
	}
	to, err := d.admitBundle(c.Context, plan, wanted)
	if err != nil {
		return err
	}
	rows, err := d.read(c, to, wanted)
	if err != nil {
		return err
	}
	var sealed bytes.Buffer
	header, err := bundle.Make(&sealed, plan, rows)
	if err != nil {
		return err
	}
	if err := writeNew(out, sealed.Bytes()); err != nil {
		return hinted(err, "its keys are on the ledger as sealed all the same")
	}
	say(c, "%s: %d keys of %s, good until %s; try it now, with both persons, and keep it where the site can reach it without a network",
		out, header.Keys, header.Site, header.Expires.Local().Format(time.DateTime))
	if len(rows) < len(wanted) {
		return exitWith(exitNotAll)
	}
	return nil
}

// bundlePlan reads the flags that say for whom the bundle is.
func bundlePlan(c *cli.Context) (bundle.Plan, error) {
	p := bundle.Plan{Site: c.String("site"), First: c.StringSlice("first"), Second: c.StringSlice("second"), Made: time.Now()}
	p.Expires = p.Made.Add(c.Duration("valid"))
	if p.Site == "" || len(p.First) == 0 || len(p.Second) == 0 {
		return p, usage("see unbrick keys bundle make --help", "a bundle is of one --site, for one --first person or more and one --second person or more")
	}
	var err error
	if p.Signer, err = bundle.SigningKey(c.Context, secret.Ref(c.String("signer"))); err != nil {
		return p, hinted(err, "--signer file:sign.pem, made by openssl genpkey -algorithm ed25519 -out sign.pem")
	}
	if err := p.Check(); err != nil {
		return p, usage("see unbrick keys bundle make --help", "cannot make a bundle: %v", err)
	}
	return p, nil
}

// siteKeys lists what the escrows have of the hosts of a site, and says which hosts will not be
// in the bundle.
func (d *desk) siteKeys(c *cli.Context, site string) ([]bitlocker.Query, error) {
	var names []string
	for _, h := range d.fleet.Hosts {
		if inventory.SameName(h.Site, site) {
			names = append(names, h.Name)
		}
	}
	if len(names) == 0 {
		return nil, usage("sites are spelt as in the inventory", "no host of site %q in the inventory", site)
	}
	holdings, err := d.broker.Check(c.Context, names)
	if err != nil {
		return nil, err
	}
	var wanted []bitlocker.Query
	for _, h := range holdings {
		if !h.OnRecord() {
			say(c, "%s: no usable key on record: %s", h.Host, strings.Join(append(h.Unknown, "it will not be in the bundle"), "; "))
		}
		for _, e := range h.Entries {
			q := bitlocker.Query{ID: e.ID, Host: e.Host}
			if (e.Valid || e.Reason == "") && !slices.ContainsFunc(wanted, func(o bitlocker.Query) bool { return o.ID == q.ID && bitlocker.SameHost(o.Host, q.Host) }) {
				wanted = append(wanted, q)
			}
		}
	}
	if len(wanted) == 0 {
		return nil, fmt.Errorf("no key of any host of site %s is on record", site)
	}
	return wanted, nil
}

// admitBundle asks for the approval of a second person, which covers exactly this list of keys
// and these recipients. A request has no room for all the ids: it has their hash.
func (d *desk) admitBundle(ctx context.Context, p bundle.Plan, wanted []bitlocker.Query) (bitlocker.Recipient, error) {
	list := sha256.New()
	for _, q := range wanted {
		fmt.Fprintln(list, q.ID, bitlocker.FoldHost(q.Host))
	}
	purpose := fmt.Sprintf("%s of %s: %d keys (%s), for one of %s and one of %s", bitlocker.SealedInBundle, p.Site, len(wanted),
		hex.EncodeToString(list.Sum(nil))[:12], strings.Join(p.First, " "), strings.Join(p.Second, " "))
	d.guard.Special = func(string) string { return "a bundle has the keys of a whole site in it" }
	to, err := d.admit(ctx, purpose, []bitlocker.Query{{Host: "every host of site " + p.Site}})
	to.Person, to.Purpose = false, bitlocker.SealedInBundle+" of "+p.Site // no person sees a key
	return to, err
}

// read releases the keys, each on the ledger. One that cannot be had is said and left out.
func (d *desk) read(c *cli.Context, to bitlocker.Recipient, wanted []bitlocker.Query) ([]bundle.Row, error) {
	var rows []bundle.Row
	for _, q := range wanted {
		key, err := d.broker.Release(c.Context, q, to)
		if c.Context.Err() != nil {
			return nil, fmt.Errorf("no bundle was written: %w", context.Cause(c.Context))
		}
		if err != nil {
			say(c, "%s: not in the bundle: %v", q.Host, err)
			continue
		}
		rows = append(rows, bundle.Row{ID: q.ID, Host: q.Host, Key: key})
	}
	return rows, nil
}

// writeNew writes a file that must not be there, whole or not at all.
func writeNew(name string, b []byte) (err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, bytes.NewReader(b))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		os.Remove(name)
	}
	return err
}

func bundleShow(c *cli.Context) error {
	args, err := arguments(c, 1, 1)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(c.String("signer"))
	if err != nil {
		return usage("--signer names the file with the public key of who made it", "cannot read who signs bundles: %v", err)
	}
	signer, err := bundle.ParseVerifyKey(text)
	if err != nil {
		return hinted(err, "openssl pkey -in sign.pem -pubout writes it")
	}
	f, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	header, err := bundle.Inspect(f, signer)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c, header)
	}
	fmt.Fprintf(c.App.Writer, "site     %s\nkeys     %d\nmade     %s\nexpires  %s\n", header.Site, header.Keys,
		header.Made.Local().Format(time.DateTime), header.Expires.Local().Format(time.DateTime))
	if time.Now().After(header.Expires) {
		say(c, "it has expired: keys may have changed since")
		return exitWith(exitNotAll)
	}
	return nil
}
