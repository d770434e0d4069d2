package redfish

import (
	"slices"
	"strconv"
	"strings"
)

func (v *visit) made(by string) bool {
	return strings.Contains(strings.ToLower(v.system.Manufacturer), by)
}

func (v *visit) lenovo() bool     { return v.made("lenovo") }
func (v *visit) supermicro() bool { return v.made("supermicro") || v.made("super micro") }

// idrac returns the generation of a Dell controller: 8, 9 or 10, or 0 if it is none. The
// generation of the server decides ("14G Monolithic"), because version numbers began again
// with the iDRAC 10.
func (v *visit) idrac() int {
	if !v.made("dell") || len(v.managers) == 0 {
		return 0
	}
	switch gen := leading(v.managers[0].Model); {
	case gen == 0:
		return 9
	case gen <= 13:
		return 8
	case gen <= 16:
		return 9
	}
	return 10
}

// leading returns the number that a text begins with, or 0.
func leading(s string) int {
	end := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(s)
	}
	n, _ := strconv.Atoi(s[:end])
	return n
}

// dellBoot says whether the standard override means the drive with a tray on this BMC, so
// that one of Dell's own ways is needed.
func (v *visit) dellBoot() bool {
	switch v.idrac() {
	case 8:
		return true
	case 9:
		fw := leading(v.managers[0].FirmwareVersion)
		return fw > 0 && fw < 6
	}
	return false
}

// target picks the boot source that means virtual media. allowed may be empty: not every BMC
// says.
func (v *visit) target(allowed []string) string {
	const cd, usb = "Cd", "UsbCd"
	switch {
	case v.supermicro() && slices.Contains(allowed, usb) && !strings.Contains(v.system.Model, "ARS-111GL-NHR"):
		return usb
	case len(allowed) == 0 || slices.Contains(allowed, cd):
		return cd
	case slices.Contains(allowed, usb):
		return usb
	}
	return ""
}
