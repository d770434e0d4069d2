package image

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// A Profile says which drivers an image carries.
type Profile string

// The profiles.
const (
	Lab    Profile = "lab"    // QEMU's machines alone: small and quick
	Server Profile = "server" // disks, RAID, NICs of servers; no Fibre Channel
	Client Profile = "client" // PCs and notebooks: VMD, USB NICs
)

// Profiles returns all profiles.
func Profiles() []Profile { return []Profile{Lab, Server, Client} }

// Modules returns the names of the modules that the profile wants. Not every kernel has all
// of them; what one lacks is named in the manifest.
func (p Profile) Modules() []string {
	switch p {
	case Server:
		return words(baseModules, diskModules, raidModules, nicModules, fastNICModules, usbNICModules, inputModules)
	case Client:
		return words(baseModules, diskModules, nicModules, usbNICModules, inputModules)
	default:
		return words(baseModules)
	}
}

const (
	baseModules = `nvme ahci sd_mod sr_mod isofs virtio_blk virtio_scsi virtio_pci virtio_net virtio_rng e1000e
		fuse dm-mod dm-crypt dm-zero xts cbc ecb essiv aesni_intel aes_generic sha256_generic
		efivarfs af_packet usb-storage uas xhci_pci vfat nls_cp437 nls_ascii`
	diskModules = `ata_piix ata_generic vmd raid0 raid1 raid10 md_mod loop xhci_hcd ehci_pci ohci_pci uhci_hcd
		sdhci-pci mmc_block ufshcd-pci vmw_pvscsi mptspi hv_vmbus hv_storvsc xen-blkfront ntfs3
		nls_iso8859-1 nls_utf8 crc32c_generic crc32c_intel sha256_ssse3`
	raidModules = `megaraid_sas mpt3sas mptsas aacraid hpsa smartpqi arcmsr 3w-9xxx isci pm80xx mvsas nvme-tcp`
	nicModules  = `e1000 igb igc r8169 realtek 8139cp tg3 bnx2 atlantic alx atl1c sky2 forcedeth
		vmxnet3 hv_netvsc xen-netfront ena 8021q`
	fastNICModules = `ixgbe ixgbevf i40e iavf ice bnx2x bnxt_en mlx4_en mlx5_core be2net qede sfc cxgb4 enic
		fm10k ionic nfp bonding`
	usbNICModules = `cdc_ether cdc_ncm r8152 ax88179_178a asix usbnet`
	inputModules  = `usbhid hid_generic i8042 atkbd hyperv_keyboard hv_utils ipmi_si ipmi_devintf
		virtio_console i2c_hid_acpi intel_lpss_pci`
)

func words(lists ...string) []string { return strings.Fields(strings.Join(lists, " ")) }

// A moduleSet is the part of a kernel's modules that goes into an initramfs.
type moduleSet struct {
	dir     string   // on this machine: …/lib/modules/RELEASE
	files   []string // relative to dir, sorted, dependencies included
	missing []string // wanted, neither a module nor built in
	dep     []byte   // modules.dep of the files alone
	alias   []byte   // modules.alias of the files alone
	builtin []byte   // modules.builtin: what need not be loaded
}

// closure picks the wanted modules and everything they depend on.
func closure(dir string, wanted []string) (*moduleSet, error) {
	depFile, err := os.ReadFile(filepath.Join(dir, "modules.dep"))
	if err != nil {
		return nil, fmt.Errorf("cannot read the modules' dependencies: %w", err)
	}
	s := &moduleSet{dir: dir}
	if s.builtin, err = os.ReadFile(filepath.Join(dir, "modules.builtin")); err != nil {
		return nil, fmt.Errorf("cannot read the list of built-in modules: %w", err)
	}
	builtin := map[string]bool{}
	for _, f := range strings.Fields(string(s.builtin)) {
		builtin[moduleName(f)] = true
	}
	deps := map[string][]string{} // by name: its file, then those it needs
	for line := range strings.Lines(string(depFile)) {
		if file, rest, ok := strings.Cut(line, ":"); ok {
			deps[moduleName(file)] = append([]string{file}, strings.Fields(rest)...)
		}
	}
	for _, name := range wanted {
		files, ok := deps[moduleName(name)]
		if !ok && !builtin[moduleName(name)] {
			s.missing = append(s.missing, name)
		}
		s.files = append(s.files, files...)
	}
	slices.Sort(s.files)
	s.files = slices.Compact(s.files)
	return s, s.index(deps)
}

// index writes modules.dep and modules.alias of the chosen files. Names of compressed
// modules lose their ending: they are unpacked on their way in.
func (s *moduleSet) index(deps map[string][]string) error {
	in := map[string]bool{}
	var dep, alias bytes.Buffer
	for _, f := range s.files {
		in[moduleName(f)] = true
		line := deps[moduleName(f)]
		dep.WriteString(strings.TrimSuffix(line[0], ".xz") + ":")
		for _, d := range line[1:] {
			dep.WriteString(" " + strings.TrimSuffix(d, ".xz"))
		}
		dep.WriteByte('\n')
	}
	f, err := os.Open(filepath.Join(s.dir, "modules.alias"))
	if err != nil {
		return fmt.Errorf("cannot read the modules' aliases: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if w := strings.Fields(lines.Text()); len(w) == 3 && w[0] == "alias" && in[moduleName(w[2])] {
			alias.WriteString(lines.Text() + "\n")
		}
	}
	s.dep, s.alias = dep.Bytes(), alias.Bytes()
	return lines.Err()
}

// moduleName is the kernel's name of the module in a file: no ending, underscores.
func moduleName(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}
