// Package image builds what a host boots to be repaired, out of Debian's signed parts alone:
// shim, GRUB, kernel and its modules, with our agent as the first process. Secure Boot stays
// on, because turning it off makes BitLocker ask for its key.
//
// An image holds no secret and is the same for all hosts: [Open] tells where, in the ISO, the
// configuration of one host goes. Building it twice from the same packages gives the same
// bytes.
package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Options say which image to build.
type Options struct {
	Out     string  // folder; an image that is there is replaced, anything else is left alone
	Profile Profile // drivers; Server if empty
	Kernel  string  // a Debian kernel package; empty means the one that apt has now
	Cache   string  // folder of unpacked kernels; empty means unbrick in the user's cache
	Agent   string  // a built unbrick-agent for linux/amd64; empty means build it from source
	Source  string  // folder of unbrick's source for that; empty means the current folder
	Version string  // of unbrick: the agent is built with it and says it in its reports
}

// What an image folder holds.
const (
	ISOName      = "unbrick.iso"
	NetbootName  = "netboot"       // a folder: what hosts load from the network
	AgentName    = "unbrick-agent" // the agent alone, for helpers that enrol
	ManifestName = "manifest.json"
)

// epoch is the time of every file in an image.
const epoch = 1700000000

// Debian's signed boot parts.
const (
	shim       = "/usr/lib/shim/shimx64.efi.signed"
	mokManager = "/usr/lib/shim/mmx64.efi.signed"
	grubCD     = "/usr/lib/grub/x86_64-efi-signed/gcdx64.efi.signed"
	grubNet    = "/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed"
	biosCD     = "/usr/lib/grub/i386-pc/cdboot.img"
	biosHybrid = "/usr/lib/grub/i386-pc/boot_hybrid.img"
	ipxeBIOS   = "/usr/lib/ipxe/undionly.kpxe" // not signed: BIOS does not ask
)

// Build builds an image: an ISO that starts from CD, USB stick and virtual media, by BIOS and
// by UEFI with Secure Boot; a folder to start the same from the network; and a manifest. It
// first names everything that this machine lacks for it. Out is replaced as the last step:
// a build that fails leaves what was there.
func Build(ctx context.Context, o Options) (*Manifest, error) {
	if o.Profile == "" {
		o.Profile = Server
	}
	if o.Version == "" {
		o.Version = "dev"
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	work, err := os.MkdirTemp(filepath.Dir(filepath.Clean(o.Out)), ".unbrick-image-")
	if err != nil {
		return nil, fmt.Errorf("cannot build an image beside %s: %w", o.Out, err)
	}
	defer os.RemoveAll(work)
	m, err := o.build(ctx, work)
	if err != nil {
		return nil, err
	}
	return m, replace(o.Out, filepath.Join(work, "out"))
}

// check returns an error that says what is wrong before any work is done.
func (o Options) check() error {
	if err := need(); err != nil { // the platform first: nothing else matters elsewhere
		return err
	}
	if !slices.Contains(Profiles(), o.Profile) {
		return fmt.Errorf("no image profile %q; it is one of %v", o.Profile, Profiles())
	}
	if o.Out == "" {
		return errors.New("name the folder that the image goes to")
	}
	if err := replaceable(o.Out); err != nil {
		return err
	}
	if err := o.checkAgent(); err != nil {
		return err
	}
	return need(kernelParts, ntfsParts, mediaParts)
}

func (o Options) checkAgent() error {
	if o.Agent != "" {
		if _, err := os.Stat(o.Agent); err != nil {
			return fmt.Errorf("cannot use the agent: %w", err)
		}
	} else if _, err := find("go"); err != nil {
		return fmt.Errorf("cannot build the agent: %w; install Go, or give a built unbrick-agent with --agent", err)
	}
	return nil
}

// build does the work in a folder of its own; out in there is the result.
func (o Options) build(ctx context.Context, work string) (*Manifest, error) {
	k, err := FetchKernel(ctx, KernelOptions{Profile: o.Profile, Deb: o.Kernel, Cache: o.Cache})
	if err != nil {
		return nil, err
	}
	agent, err := o.agent(ctx, work, "linux")
	if err != nil {
		return nil, err
	}
	p := payload{kernel: k.Vmlinuz, initrd: filepath.Join(work, "initrd.img"), site: filepath.Join(work, "site.img")}
	f, err := os.Create(p.initrd)
	if err != nil {
		return nil, err
	}
	missing, err := Initramfs(ctx, InitramfsOptions{Kernel: k, Modules: o.Profile.Modules(), Init: agent, Binaries: NTFSTools()}, f)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, fmt.Errorf("cannot build the initramfs: %w", err)
	}
	if err := writeSite(p.site); err != nil {
		return nil, err
	}
	out := filepath.Join(work, "out")
	if err := os.Mkdir(out, 0o755); err != nil {
		return nil, err
	}
	if err := p.iso(ctx, work, filepath.Join(out, ISOName)); err != nil {
		return nil, fmt.Errorf("cannot build the ISO: %w", err)
	}
	if err := p.netboot(filepath.Join(out, NetbootName)); err != nil {
		return nil, fmt.Errorf("cannot build the folder for network boot: %w", err)
	}
	if err := copyFile(filepath.Join(out, AgentName), agent); err != nil {
		return nil, err
	}
	m := &Manifest{Profile: o.Profile, Agent: o.Version, Kernel: k.Release, MissingModules: missing, Built: time.Unix(epoch, 0).UTC()}
	m.Packages = map[string]string{k.Package: k.Version}
	return m, m.complete(ctx, out)
}

// agent returns the path of the agent to put into the image.
func (o Options) agent(ctx context.Context, work, goos string) (string, error) {
	if o.Agent != "" {
		return o.Agent, nil
	}
	source := o.Source
	if source == "" {
		source = "."
	}
	out := filepath.Join(work, "agent")
	env := []string{"CGO_ENABLED=0", "GOOS=" + goos, "GOARCH=amd64"}
	_, err := runEnv(ctx, source, env, "go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags=-s -w -X main.version="+strings.ReplaceAll(o.Version, " ", "-"), "-o", out, "unbrick/cmd/unbrick-agent")
	if err != nil {
		return "", fmt.Errorf("cannot build the agent: %w\nrun this in a checkout of unbrick, or give a built unbrick-agent with --agent", err)
	}
	return out, nil
}

// replaceable says whether Out may be replaced: it is not there, is empty, or is an image.
func replaceable(out string) error {
	entries, err := os.ReadDir(out)
	if os.IsNotExist(err) {
		if _, err := os.Stat(filepath.Dir(filepath.Clean(out))); err != nil {
			return fmt.Errorf("cannot write the image: %w", err)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot write the image: %w", err)
	}
	if len(entries) > 0 {
		if _, err := os.Stat(filepath.Join(out, ManifestName)); err != nil {
			return fmt.Errorf("%s holds something else than an image; name another folder", out)
		}
	}
	return nil
}

// replace puts the folder built in place of the folder out.
func replace(out, built string) error {
	if err := replaceable(out); err != nil {
		return err
	}
	old := built + ".old" // goes with the work folder
	if err := os.Rename(out, old); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("cannot replace the image: %w", err)
	}
	if err := os.Rename(built, out); err != nil {
		return fmt.Errorf("cannot put the image in place: %w", err)
	}
	return nil
}
