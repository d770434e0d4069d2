//go:build linux

package linux

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"unbrick/remediate/rescue/wire"
)

// readIdentity reads the SMBIOS values and the MACs of real network cards from a sysfs folder
// such as /sys/class. What firmware does not say stays empty.
func readIdentity(class string) (wire.Identity, error) {
	dmi := func(name string) string {
		b, err := os.ReadFile(filepath.Join(class, "dmi", "id", name))
		if err != nil {
			return "" // also where there is no SMBIOS: that is an answer
		}
		return strings.TrimSpace(string(b))
	}
	id := wire.Identity{
		UUID:    strings.ToLower(dmi("product_uuid")),
		Serial:  dmi("product_serial"),
		Vendor:  dmi("sys_vendor"),
		Product: dmi("product_name"),
	}
	cards, err := filepath.Glob(filepath.Join(class, "net", "*", "device"))
	if err != nil {
		return id, err
	}
	for _, card := range cards {
		b, readErr := os.ReadFile(filepath.Join(filepath.Dir(card), "address"))
		err = errors.Join(err, readErr)
		if mac := strings.TrimSpace(string(b)); len(mac) == len("52:54:00:12:34:56") {
			id.MAC = append(id.MAC, strings.ToLower(mac))
		}
	}
	slices.Sort(id.MAC)
	return id, err
}
