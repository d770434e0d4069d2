package proxmox

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// A Resource is a row of what there is in a cluster. Of guests, Status lags by seconds.
type Resource struct {
	Type     string `json:"type"` // qemu, lxc, node, storage
	Node     string `json:"node"`
	VMID     int    `json:"vmid"`
	Name     string `json:"name"`
	Status   string `json:"status"`
	Template int    `json:"template"`
	Tags     string `json:"tags"` // separated by semicolons
	Pool     string `json:"pool"`
	Storage  string `json:"storage"`
	Shared   int    `json:"shared"`
}

// Resources returns what there is and the token may see: guests with VM.Audit, storages with
// Datastore.Audit.
func (c *Client) Resources(ctx context.Context) (all []Resource, err error) {
	err = c.Get(ctx, "/cluster/resources", &all)
	return all, err
}

// Tagged says whether a guest has a tag.
func (r Resource) Tagged(tag string) bool {
	return slices.Contains(strings.FieldsFunc(r.Tags, func(c rune) bool { return c == ';' || c == ',' || c == ' ' }), tag)
}

// Path is that of a guest's own calls.
func (r Resource) Path() string {
	return fmt.Sprintf("/nodes/%s/qemu/%d", url.PathEscape(r.Node), r.VMID)
}

// Properties reads a value such as "local-lvm:vm-100-disk-0,discard=on,size=32G": what stands
// first without a name, and what has one.
func Properties(value string) (first string, named map[string]string) {
	named = map[string]string{}
	for i, part := range strings.Split(value, ",") {
		name, text, ok := strings.Cut(part, "=")
		switch {
		case ok:
			named[name] = text
		case i == 0:
			first = part
		}
	}
	return first, named
}

// SMBIOS returns UUID and serial number as the guest sees them; empty where the configuration
// does not say.
func SMBIOS(smbios1 string) (uuid, serial string) {
	_, p := Properties(smbios1)
	serial = p["serial"]
	if p["base64"] == "1" {
		b, err := base64.StdEncoding.DecodeString(serial)
		if err != nil {
			return p["uuid"], ""
		}
		serial = string(b)
	}
	return p["uuid"], serial
}
