package main

import (
	"runtime/debug"

	"github.com/urfave/cli/v2"

	"unbrick/remediate/rescue/image"
)

func imageCommand() *cli.Command {
	return &cli.Command{
		Name: "image", Usage: "the rescue image, which hosts boot to be repaired",
		Subcommands: []*cli.Command{{
			Name: "build", Usage: "build it from Debian's signed parts (on Debian, as root)", Action: imageBuild,
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "out", Value: "unbrick-image", Usage: "`FOLDER` for unbrick.iso, netboot/ and manifest.json"},
				&cli.StringFlag{Name: "profile", Value: string(image.Server), Usage: "drivers: `PROFILE` server, client or lab"},
				&cli.StringFlag{Name: "kernel", Usage: "a signed kernel package, `FILE`.deb (default: the one Debian has now)"},
				&cli.StringFlag{Name: "agent", Usage: "unbrick-agent for linux/amd64, built before: `FILE` (default: built from the source in this folder, which needs Go)"},
				jsonFlag(),
			},
			Description: "The image holds no secret and is the same for all hosts. Built twice from the same packages,\nit is the same bytes.\n\n   unbrick image build --out unbrick-image",
		}, imageWinPECommand(), imageUSBCommand(), imageSticksCommand(), imageHelperCommand()},
	}
}

// version is that of the module, as the go command stamped it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "dev"
	}
	return info.Main.Version
}

func imageBuild(c *cli.Context) error {
	if _, err := arguments(c, 0, 0); err != nil {
		return err
	}
	m, err := image.Build(c.Context, image.Options{
		Out: c.String("out"), Profile: image.Profile(c.String("profile")), Kernel: c.String("kernel"), Agent: c.String("agent"), Version: version(),
	})
	if err != nil {
		return hinted(err, "nothing was left half done; the README says what an image is made of")
	}
	if c.Bool("json") {
		return printJSON(c, m)
	}
	for _, f := range m.Files {
		say(c, "%s  %10d  %s", f.SHA256[:16], f.Size, f.Path)
	}
	return nil
}
