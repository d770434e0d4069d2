package vm

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"unbrick/remediate/rescue/image"
)

// standinModules are what the stand-in loads: the disk and the network card of a Machine,
// FUSE for ntfs-3g, raw sockets for DHCP, and the firmware's key of an encrypted volume.
var standinModules = []string{"virtio_pci", "virtio_blk", "virtio_net", "fuse", "af_packet", "qemu_fw_cfg"}

// A System is what every lab host boots from its own disk: a signed kernel and an initramfs
// whose init is the stand-in for Windows.
type System struct {
	Kernel *image.Kernel
	Initrd string // path
}

// SystemOptions say what a System is built of.
type SystemOptions struct {
	Dir     string        // where the initramfs goes; made if need be
	Kernel  *image.Kernel // nil: Debian's cloud kernel of now
	Standin string        // the static program; empty: built from source, which needs Go and the source tree
}

// BuildSystem builds the System that any number of hosts share.
func BuildSystem(ctx context.Context, o SystemOptions) (*System, error) {
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot build the stand-in for Windows: %w", err)
	}
	kernel := o.Kernel
	if kernel == nil {
		var err error
		if kernel, err = image.FetchKernel(ctx, image.KernelOptions{Profile: image.Lab}); err != nil {
			return nil, err
		}
	}
	standin := o.Standin
	if standin == "" {
		standin = filepath.Join(o.Dir, "standin")
		if err := compile(ctx, standin); err != nil {
			return nil, err
		}
	}
	s := &System{Kernel: kernel, Initrd: filepath.Join(o.Dir, "standin.img")}
	f, err := os.Create(s.Initrd)
	if err != nil {
		return nil, fmt.Errorf("cannot build the stand-in for Windows: %w", err)
	}
	defer f.Close()
	// A module that this kernel does not have is built in; if it is truly missing, the
	// stand-in says so on its console.
	_, err = image.Initramfs(ctx, image.InitramfsOptions{
		Kernel: kernel, Modules: standinModules, Init: standin, Binaries: []string{"ntfs-3g"},
	}, f)
	if err != nil {
		return nil, err
	}
	return s, f.Close()
}

// compile builds the stand-in as a static program for the guests.
func compile(ctx context.Context, to string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", to, "unbrick/remediate/lab/vm/standin")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot build the stand-in for Windows (run from the source tree, with Go): %v: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}
