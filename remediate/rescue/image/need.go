package image

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
)

// ErrPlatform means that images are built on Debian alone: all signed parts are Debian's.
var ErrPlatform = errors.New("rescue images are built on Debian (amd64) only; build one there, or in a Debian container, and copy the folder")

// A part is a program (no slash) or file that the builder needs, and the package it is in.
type part struct{ name, pkg string }

var (
	kernelParts = []part{{"apt-get", "apt"}, {"apt-cache", "apt"}, {"dpkg-deb", "dpkg"}, {"depmod", "kmod"}}

	ntfsParts = []part{{"ntfs-3g", "ntfs-3g"}, {"ntfsrecover", "ntfs-3g"}, {"ntfsfix", "ntfs-3g"}, {"ntfsinfo", "ntfs-3g"}}

	mediaParts = []part{
		{"dpkg-query", "dpkg"}, {"xorriso", "xorriso"}, {"mkfs.vfat", "dosfstools"}, {"mcopy", "mtools"}, {"mmd", "mtools"},
		{"grub-mkimage", "grub-common"}, {biosCD, "grub-pc-bin"}, {biosHybrid, "grub-pc-bin"},
		{shim, "shim-signed"}, {mokManager, "shim-helpers-amd64-signed"},
		{grubCD, "grub-efi-amd64-signed"}, {grubNet, "grub-efi-amd64-signed"}, {ipxeBIOS, "ipxe"},
	}
)

// need returns an error that names everything missing at once, and how to install it.
func need(lists ...[]part) error {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return ErrPlatform
	}
	var missing, pkgs []string
	for _, p := range slices.Concat(lists...) {
		if _, err := find(p.name); err != nil {
			missing = append(missing, p.name)
			if !slices.Contains(pkgs, p.pkg) {
				pkgs = append(pkgs, p.pkg)
			}
		}
	}
	if missing == nil {
		return nil
	}
	return fmt.Errorf("this machine lacks %s\non Debian, as root: apt-get install --no-install-recommends %s",
		strings.Join(missing, ", "), strings.Join(pkgs, " "))
}

// find returns the path of a part. The PATH of a plain user lacks the sbin directories.
func find(name string) (string, error) {
	if strings.Contains(name, "/") {
		_, err := os.Stat(name)
		return name, err
	}
	if p, err := exec.LookPath(name); err == nil {
		return p, nil
	}
	for _, dir := range []string{"/usr/sbin/", "/sbin/"} {
		if p, err := exec.LookPath(dir + name); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("cannot find the program %s", name)
}
