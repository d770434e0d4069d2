package main

import (
	"github.com/urfave/cli/v2"

	"unbrick/remediate/rescue/image"
)

func imageWinPECommand() *cli.Command {
	return &cli.Command{
		Name: "winpe", Usage: "build one that starts WinPE, for hosts that do not trust shim", Action: imageWinPE,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "out", Value: "unbrick-winpe", Usage: "`FOLDER` for unbrick.iso and manifest.json"},
			&cli.StringFlag{Name: "media", Usage: "Microsoft's boot files: the `FOLDER` that copype makes, or unpacked Windows media"},
			&cli.StringFlag{Name: "wim", Usage: "`FILE`: winpe.wim, boot.wim or WinRE.wim (default: sources/boot.wim in the media)"},
			&cli.IntFlag{Name: "index", Usage: "`NUMBER` of the image in the WIM (default: the one that boots)"},
			&cli.StringSliceFlag{Name: "driver", Usage: "`FOLDER` with a driver's .inf, for disks (Intel VMD, RAID) and network cards; may be repeated"},
			&cli.StringFlag{Name: "agent", Usage: "unbrick-agent.exe for windows/amd64, built before: `FILE` (default: built from the source in this folder, which needs Go)"},
			jsonFlag(),
		},
		Description: `WinPE starts where the firmware trusts Microsoft's own loader alone. Its parts are Microsoft's and
have to be brought along: the Windows ADK with its WinPE add-on makes them with copype, Windows
media have them too. BitLocker volumes are opened only by a WinPE with the component
WinPE-SecureStartup; WinRE.wim has it.

   copype amd64 C:\winpe                          on Windows; copy C:\winpe here
   unbrick image winpe --media winpe --driver vmd --out unbrick-winpe`,
	}
}

func imageWinPE(c *cli.Context) error {
	if _, err := arguments(c, 0, 0); err != nil {
		return err
	}
	m, err := image.BuildWinPE(c.Context, image.WinPEOptions{
		Out: c.String("out"), Media: c.String("media"), WIM: c.String("wim"), Index: c.Int("index"),
		Drivers: c.StringSlice("driver"), Agent: c.String("agent"), Version: version(),
	})
	if err != nil {
		return hinted(err, "nothing was left half done")
	}
	for _, w := range m.Warnings {
		say(c, "warning: %s", w)
	}
	if c.Bool("json") {
		return printJSON(c, m)
	}
	for _, f := range m.Files {
		say(c, "%s  %10d  %s", f.SHA256[:16], f.Size, f.Path)
	}
	return nil
}
