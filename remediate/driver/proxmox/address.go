package proxmox

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// An address is where a guest is, as a route has it:
//
//	prod/100               guest 100 of the cluster that the configuration calls prod
//	prod/100?disk=scsi1    Windows starts from scsi1, and not from the first disk in boot order
//	100                    where one cluster is configured
type address struct {
	cluster string
	vmid    int
	disk    string
}

const addressHint = "write CLUSTER/VMID, such as prod/100"

func parseAddress(text string) (address, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "" || u.Host != "" || u.Fragment != "" {
		return address{}, fmt.Errorf("%q is no address of a virtual machine of Proxmox VE\n%s", text, addressHint)
	}
	a := address{disk: u.Query().Get("disk")}
	id := u.Path
	if cluster, rest, ok := strings.Cut(u.Path, "/"); ok {
		a.cluster, id = cluster, rest
		if cluster == "" {
			return address{}, fmt.Errorf("%q names no cluster\n%s", text, addressHint)
		}
	}
	// Ids of guests begin at 100.
	if a.vmid, err = strconv.Atoi(id); err != nil || a.vmid < 100 || strconv.Itoa(a.vmid) != id {
		return address{}, fmt.Errorf("%q: %q is no id of a virtual machine\n%s", text, id, addressHint)
	}
	if a.disk != "" && !isDrive(a.disk) {
		return address{}, fmt.Errorf("%q: %q is no disk; it is scsi0, virtio0, sata0, ide0 or another of these", text, a.disk)
	}
	return a, nil
}
