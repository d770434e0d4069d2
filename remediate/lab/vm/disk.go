package vm

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// The layout of a lab disk, as Windows setup makes it, only smaller. In sectors of 512 bytes.
const (
	sector   = 512
	mib      = (1 << 20) / sector
	espStart = 1 * mib
	espSize  = 64 * mib
	msrStart = espStart + espSize
	msrSize  = 16 * mib
	sysStart = msrStart + msrSize
	sysSize  = 96 * mib
	gptSize  = 1 * mib // of the backup, at the end
)

// Debian's signed boot parts for a disk: shim, trusted by the firmware, and the GRUB that it
// trusts, which reads /EFI/debian/grub.cfg from the partition it came from.
const (
	shim = "/usr/lib/shim/shimx64.efi.signed"
	grub = "/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"
)

// grubConfig starts the stand-in. Where that fails, the host resets and does not hang in a
// menu.
const grubConfig = `set timeout=0
set default=0
set fallback=1
menuentry "a stand-in for Windows" {
  linux /vmlinuz console=ttyS0 quiet loglevel=3 panic=1
  initrd /standin.img
}
menuentry "reset" {
  reboot
}
`

// A Disk says what is on the disk of a lab host.
type Disk struct {
	Faulty bool // the channel file of 04:09 UTC is there
	Good   bool // a channel file of 05:27 UTC is there

	// Volume is an image of an NTFS volume of at most 96 MiB to put on the disk as it is. If
	// empty, a clean one is made with the files above.
	Volume string

	// Encrypted locks the volume; nil leaves it open.
	Encrypted *Encryption

	// More are images of further volumes, each for a partition of its own as it is.
	More []string
}

// Build writes the disk image to name, sparse: GPT, an EFI partition that boots sys under
// Secure Boot, the partition Microsoft reserves, and an NTFS system volume. It needs neither
// root nor loop devices. The master key of an encrypted volume goes beside it, into name.tpm.
func (d Disk) Build(ctx context.Context, name string, sys *System) error {
	work, err := os.MkdirTemp(filepath.Dir(name), "disk-")
	if err != nil {
		return fmt.Errorf("cannot build the disk: %w", err)
	}
	defer os.RemoveAll(work)
	esp, volume := filepath.Join(work, "esp.img"), d.Volume
	if err := buildESP(ctx, work, esp, sys); err != nil {
		return fmt.Errorf("cannot build the EFI partition: %w", err)
	}
	if volume == "" {
		volume = filepath.Join(work, "volume.img")
		if err := d.buildVolume(ctx, work, volume); err != nil {
			return fmt.Errorf("cannot build the NTFS volume: %w", err)
		}
	} else if i, err := os.Stat(volume); err != nil || i.Size() > sysSize*sector {
		return fmt.Errorf("cannot use %s as the NTFS volume: more than %d bytes, or %v", volume, sysSize*sector, err)
	}
	if d.Encrypted != nil {
		if volume, err = d.lock(work, volume, name); err != nil {
			return fmt.Errorf("cannot encrypt the volume: %w", err)
		}
	}
	more, end, err := d.place()
	if err != nil {
		return fmt.Errorf("cannot build the disk: %w", err)
	}
	if err := sparse(name, end+gptSize); err != nil {
		return fmt.Errorf("cannot build the disk: %w", err)
	}
	table := fmt.Sprintf(`label: gpt
start=%d, size=%d, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, name="EFI system partition"
start=%d, size=%d, type=E3C9E316-0B5C-4DB8-817D-F92DF00215AE, name="Microsoft reserved partition"
start=%d, size=%d, type=EBD0A0A2-B9E5-4433-87C0-68B6B72699C7, name="Basic data partition"
`, espStart, espSize, msrStart, msrSize, sysStart, sysSize)
	for _, p := range more {
		table += fmt.Sprintf("start=%d, size=%d, type=EBD0A0A2-B9E5-4433-87C0-68B6B72699C7\n", p.start, p.size)
	}
	if err := run(ctx, table, "sfdisk", "--quiet", name); err != nil {
		return err
	}
	for _, p := range append(more, partition{esp, espStart, espSize}, partition{volume, sysStart, sysSize}) {
		if err := copyInto(name, p.image, p.start*sector); err != nil {
			return fmt.Errorf("cannot fill the disk: %w", err)
		}
	}
	return nil
}

// A partition is what is on one, and where it is in sectors.
type partition struct {
	image       string
	start, size int64
}

// place gives partitions to the further volumes, of whole MiB, and returns where the last ends.
func (d Disk) place() (all []partition, end int64, err error) {
	end = sysStart + sysSize
	for _, image := range d.More {
		i, err := os.Stat(image)
		if err != nil {
			return nil, 0, err
		}
		p := partition{image, end, (i.Size() + mib*sector - 1) / (mib * sector) * mib}
		all, end = append(all, p), end+p.size
	}
	return all, end, nil
}

// lock encrypts a copy of the volume, of the size of its partition, and returns its name.
func (d Disk) lock(work, volume, disk string) (string, error) {
	locked := filepath.Join(work, "locked.img")
	if err := sparse(locked, sysSize); err != nil {
		return "", err
	}
	if err := copyInto(locked, volume, 0); err != nil {
		return "", err
	}
	return locked, d.Encrypted.lock(locked, disk)
}

// buildESP writes a FAT file system with everything from the firmware to the stand-in.
func buildESP(ctx context.Context, work, name string, sys *System) error {
	cfg := filepath.Join(work, "grub.cfg")
	if err := os.WriteFile(cfg, []byte(grubConfig), 0o644); err != nil {
		return err
	}
	if err := sparse(name, espSize); err != nil {
		return err
	}
	// Clusters of 8 KiB: GRUB reads them one by one.
	if err := run(ctx, "", "mkfs.vfat", "-F", "16", "-s", "16", "-n", "SYSTEM", "-h", fmt.Sprint(espStart), name); err != nil {
		return err
	}
	if err := run(ctx, "", "mmd", "-i", name, "::/EFI", "::/EFI/BOOT", "::/EFI/debian"); err != nil {
		return err
	}
	for _, f := range [][2]string{
		{shim, "EFI/BOOT/BOOTX64.EFI"}, {grub, "EFI/BOOT/grubx64.efi"}, {cfg, "EFI/debian/grub.cfg"},
		{sys.Kernel.Vmlinuz, "vmlinuz"}, {sys.Initrd, "standin.img"},
	} {
		if err := run(ctx, "", "mcopy", "-i", name, f[0], "::/"+f[1]); err != nil {
			return err
		}
	}
	return nil
}

// buildVolume writes an NTFS volume with a small Windows on it.
func (d Disk) buildVolume(ctx context.Context, work, name string) error {
	tree, wim := filepath.Join(work, "tree"), filepath.Join(work, "tree.wim")
	if err := writeTree(tree, windowsFiles(d.Faulty, d.Good)); err != nil {
		return err
	}
	if err := sparse(name, sysSize); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"mkntfs", "-F", "-Q", "-q", "-L", "Windows", "-s", fmt.Sprint(sector), "-p", fmt.Sprint(sysStart), "-H", "255", "-S", "63", name},
		{"wimcapture", tree, wim, "--compress=none", "--quiet"},
		{"wimapply", wim, "1", name, "--quiet"}, // into the volume, which is not mounted
	} {
		if err := run(ctx, "", args[0], args[1:]...); err != nil {
			return err
		}
	}
	return nil
}

// run runs a program to its end. Its error holds what the program said.
func run(ctx context.Context, stdin, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %v: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// sparse creates an empty file of so many sectors.
func sparse(name string, sectors int64) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(sectors * sector); err != nil {
		return err
	}
	return f.Close()
}

// copyInto copies the file from into name at an offset, and leaves holes where it is empty.
func copyInto(name, from string, offset int64) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer dst.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := io.ReadFull(src, buf)
		if !empty(buf[:n]) {
			if _, err := dst.WriteAt(buf[:n], offset); err != nil {
				return err
			}
		}
		offset += int64(n)
		switch err {
		case nil:
		case io.EOF, io.ErrUnexpectedEOF:
			return dst.Close()
		default:
			return err
		}
	}
}

func empty(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
