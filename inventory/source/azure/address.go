package azure

import (
	"fmt"
	"regexp"
	"strings"
)

// An Address names a virtual machine: SUBSCRIPTION/GROUP/NAME in a route, or the resource id
// that the portal and az show. Azure tells no upper case from lower case in them.
type Address struct {
	Subscription, Group, Name string
}

var (
	subscriptionID = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
	// What Azure's naming rules let a resource group and a virtual machine be called, and
	// nothing that means something else in a URL.
	groupName = regexp.MustCompile(`^[\pL\pN_()-](?:[\pL\pN_().-]{0,88}[\pL\pN_()-])?$`)
	vmName    = regexp.MustCompile(`^[\pL\pN_-](?:[\pL\pN_.-]{0,62}[\pL\pN_-])?$`)
)

const vmType = "providers/Microsoft.Compute/virtualMachines"

// ParseAddress reads either form.
func ParseAddress(text string) (Address, error) {
	parts := strings.Split(strings.Trim(text, "/"), "/")
	if len(parts) == 8 && strings.EqualFold(parts[0], "subscriptions") && strings.EqualFold(parts[2], "resourceGroups") &&
		strings.EqualFold(strings.Join(parts[4:7], "/"), vmType) {
		parts = []string{parts[1], parts[3], parts[7]}
	}
	if len(parts) != 3 || !subscriptionID.MatchString(parts[0]) || !groupName.MatchString(parts[1]) || !vmName.MatchString(parts[2]) {
		return Address{}, fmt.Errorf("%q is no virtual machine of Azure\nwrite SUBSCRIPTION-ID/RESOURCE-GROUP/NAME, or its resource id", text)
	}
	return Address{parts[0], parts[1], parts[2]}, nil
}

// String is the address as a route has it: the same for the same machine, however it was spelt.
func (a Address) String() string {
	return strings.ToLower(a.Subscription + "/" + a.Group + "/" + a.Name)
}

// ID is the resource id.
func (a Address) ID() string {
	return "/subscriptions/" + a.Subscription + "/resourceGroups/" + a.Group + "/" + vmType + "/" + a.Name
}
