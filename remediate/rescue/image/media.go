package image

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// kernelLine goes to the kernel. A panic restarts the host: nobody is there to see it.
const kernelLine = "console=tty0 console=ttyS0,115200 quiet loglevel=1 panic=30"

// grubConfig starts the kernel at once. A kernel that the firmware refuses ends in the second
// entry, which restarts the host instead of waiting for a person at a menu.
func grubConfig(dir string) string {
	return strings.NewReplacer("DIR", dir, "LINE", kernelLine).Replace(`set timeout=0
set default=0
set fallback=1
if serial --unit=0 --speed=115200; then
  terminal_input console serial
  terminal_output console serial
fi
menuentry "unbrick rescue" {
  linux DIR/vmlinuz LINE
  initrd DIR/initrd.img DIR/site.img
}
menuentry "restart" {
  echo "unbrick: the kernel could not be started, restarting"
  reboot
}
`)
}

// ipxeScript starts the kernel where iPXE is the boot loader, with the files beside the script.
// The configuration's archive comes first: it is not compressed, so that what follows begins
// where the kernel looks for it. A host that cannot load them restarts.
func ipxeScript() string {
	return strings.ReplaceAll(`#!ipxe
kernel vmlinuz initrd=site.img initrd=initrd.img LINE || goto failed
initrd site.img || goto failed
initrd initrd.img || goto failed
boot || goto failed
:failed
echo unbrick: the kernel could not be started, restarting
sleep 10
reboot
`, "LINE", kernelLine)
}

// A payload is what every medium carries: paths of kernel, initramfs and place for the
// configuration.
type payload struct{ kernel, initrd, site string }

// writeSite writes the archive that holds the configuration of one host, or of none yet. It
// is not compressed, so that the configuration can be written over in place.
func writeSite(name string) error {
	t := tree{}
	t.bytes("unbrick.json", place())
	var b bytes.Buffer
	if err := t.write(&b); err != nil {
		return err
	}
	return os.WriteFile(name, b.Bytes(), 0o644)
}

// netboot makes what hosts load from the network. With Secure Boot the firmware starts the
// shim, which looks for grubx64.efi beside itself, which looks for grub/grub.cfg. BIOS starts
// iPXE, which, here as where the network card has it built in, runs boot.ipxe.
func (p payload) netboot(dir string) error {
	return layout(dir, map[string]string{
		"vmlinuz": p.kernel, "initrd.img": p.initrd, "site.img": p.site,
		"shimx64.efi": shim, "grubx64.efi": grubNet, "mmx64.efi": mokManager, "undionly.kpxe": ipxeBIOS,
	}, map[string]string{"grub/grub.cfg": grubConfig(""), "boot.ipxe": ipxeScript()})
}

// iso makes a hybrid ISO: the same bytes start as CD and as USB stick, by BIOS and by UEFI.
func (p payload) iso(ctx context.Context, work, out string) error {
	root := filepath.Join(work, "iso")
	boot := map[string]string{"EFI/BOOT/BOOTX64.EFI": shim, "EFI/BOOT/grubx64.efi": grubCD, "EFI/BOOT/mmx64.efi": mokManager}
	files := map[string]string{"boot/vmlinuz": p.kernel, "boot/initrd.img": p.initrd, "boot/site.img": p.site}
	for to, from := range boot {
		files[to] = from // also here: for those who copy the files to a FAT stick
	}
	texts := map[string]string{
		".disk/info":         "unbrick rescue\n", // Debian's signed GRUB looks for it
		"boot/grub/grub.cfg": grubConfig("/boot"),
	}
	bios, err := biosLoader(ctx, work)
	if err != nil {
		return err
	}
	texts["boot/grub/bios.img"] = string(bios)
	if err := layout(root, files, texts); err != nil {
		return err
	}
	efi, err := efiPartition(ctx, work, root)
	if err != nil {
		return err
	}
	_, err = runIn(ctx, work, "xorriso", "-as", "mkisofs", "-quiet", "-o", out, "-V", "UNBRICK", "-J", "-r", "-iso-level", "3",
		"-b", "boot/grub/bios.img", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", "--grub2-boot-info", "--grub2-mbr", biosHybrid,
		"-append_partition", "2", "0xef", efi, "-appended_part_as_gpt",
		"-eltorito-alt-boot", "-e", "--interval:appended_partition_2:all::", "-no-emul-boot",
		"--protective-msdos-label", "-partition_offset", "16", root)
	return err
}

// biosLoader makes GRUB for hosts that start by BIOS.
func biosLoader(ctx context.Context, work string) ([]byte, error) {
	early, core := filepath.Join(work, "early.cfg"), filepath.Join(work, "core.img")
	err := os.WriteFile(early, []byte("search --file --set=root /.disk/info\nset prefix=($root)/boot/grub\n"), 0o644)
	if err != nil {
		return nil, err
	}
	_, err = runIn(ctx, work, "grub-mkimage", "-O", "i386-pc", "-p", "/boot/grub", "-c", early, "-o", core,
		"biosdisk", "iso9660", "part_gpt", "part_msdos", "normal", "search", "search_fs_file", "linux", "configfile",
		"serial", "terminal", "echo", "test", "minicmd", "reboot")
	if err != nil {
		return nil, err
	}
	head, err := os.ReadFile(biosCD)
	if err != nil {
		return nil, err
	}
	tail, err := os.ReadFile(core)
	return append(head, tail...), err
}

// efiPartition makes the FAT partition that UEFI starts from.
func efiPartition(ctx context.Context, work, root string) (string, error) {
	efi := filepath.Join(work, "efi.img")
	if err := os.WriteFile(efi, nil, 0o644); err != nil {
		return "", err
	}
	if err := os.Truncate(efi, 8<<20); err != nil {
		return "", err
	}
	for _, command := range [][]string{
		{"mkfs.vfat", "-F", "12", "-n", "UNBRICK", "-i", "20240719", "--invariant", efi},
		{"mmd", "-i", efi, "::/EFI", "::/EFI/BOOT"},
		{"mcopy", "-m", "-i", efi, filepath.Join(root, "EFI/BOOT/BOOTX64.EFI"), filepath.Join(root, "EFI/BOOT/grubx64.efi"), filepath.Join(root, "EFI/BOOT/mmx64.efi"), "::/EFI/BOOT/"},
	} {
		if _, err := runIn(ctx, work, command[0], command[1:]...); err != nil {
			return "", fmt.Errorf("EFI partition: %w", err)
		}
	}
	return efi, nil
}

// layout fills a folder with copies of files and with texts, and sets all times to the epoch.
func layout(root string, files, texts map[string]string) error {
	write := func(to string, b []byte) error {
		to = filepath.Join(root, to)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		return os.WriteFile(to, b, 0o644)
	}
	for to, from := range files {
		b, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		if err := write(to, b); err != nil {
			return err
		}
	}
	for to, text := range texts {
		if err := write(to, []byte(text)); err != nil {
			return err
		}
	}
	at := time.Unix(epoch, 0)
	return filepath.WalkDir(root, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chtimes(name, at, at)
	})
}
