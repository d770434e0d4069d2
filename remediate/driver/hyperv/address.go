package hyperv

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// An address is where a virtual machine is, as a route has it:
//
//	hv1.corp.example/WS-0001                   on the hypervisor hv1, by name
//	hv1:5985/1d6b….                            by id, through another port of WinRM
//	hv1.corp.example/WS-0001?disk=SCSI:0:1     Windows starts from that disk
type address struct {
	host string // of the hypervisor, as the runner takes it
	vm   string
	disk string
}

const addressHint = "write HYPERVISOR/VM, such as hv1.corp.example/WS-0001"

var places = regexp.MustCompile(`^(IDE:[01]:[01]|SCSI:[0-3]:([0-9]|[1-5][0-9]|6[0-3]))$`)

func parseAddress(text string) (address, error) {
	rest, query, _ := strings.Cut(text, "?")
	host, vm, ok := strings.Cut(rest, "/")
	q, err := url.ParseQuery(query)
	if vm2, bad := url.PathUnescape(vm); bad == nil {
		vm = vm2
	}
	a := address{host: host, vm: vm, disk: strings.ToUpper(q.Get("disk"))}
	if !ok || err != nil || host == "" || strings.TrimSpace(vm) == "" || strings.ContainsAny(host, " @'\"") || strings.Contains(vm, "/") {
		return address{}, fmt.Errorf("%q is no address of a virtual machine of Hyper-V\n%s", text, addressHint)
	}
	if a.disk != "" && !places.MatchString(a.disk) {
		return address{}, fmt.Errorf("%q: %q is no place of a disk; it is SCSI:0:0, IDE:0:0 or another of these", text, a.disk)
	}
	return a, nil
}
