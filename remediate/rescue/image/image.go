// Package image builds what a host boots to be repaired, out of Debian's signed parts alone:
// shim, GRUB, kernel and its modules, with our agent as the first process. Secure Boot stays
// on, because turning it off makes BitLocker ask for its key.
//
// An image holds no secret and is the same for all hosts: [Open] tells where, in the ISO, the
// configuration of one host goes. Building it twice from the same packages gives the same
// bytes.
package image

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
)
