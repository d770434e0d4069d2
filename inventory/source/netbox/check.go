package netbox

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"unbrick/inventory"
	"unbrick/inventory/rest"
)

// objects are the lists as NetBox's permissions name them.
var objects = map[string]string{
	"dcim/sites": "dcim.site", "dcim/devices": "dcim.device", "dcim/interfaces": "dcim.interface", "ipam/ip-addresses": "ipam.ipaddress",
	"virtualization/virtual-machines": "virtualization.virtualmachine", "virtualization/interfaces": "virtualization.vminterface",
}

// lacks names the permission that a refusal is about.
func lacks(list string, err error) error {
	if !rest.Forbids(err) {
		return err
	}
	return &inventory.RightError{Right: `the permission "view" on ` + objects[list], Where: "Admin > Permissions: object type, action view, user or group of the token", Err: err}
}

// Check implements [inventory.Checker].
func (s *Source) Check(ctx context.Context) error {
	// A token that is wrong gets 403 as one without a right does: what every token may read tells.
	_, err := s.client.Get(ctx, "/api/status/", nil)
	var status *rest.StatusError
	if errors.As(err, &status) && status.Status == http.StatusForbidden {
		return &rest.LoginError{Err: fmt.Errorf("%w: NetBox does not take the token; it is wrong, has expired, or is not for this address", &rest.StatusError{Name: status.Name, Status: http.StatusUnauthorized})}
	}
	if err != nil {
		return err
	}
	lists := []string{"dcim/sites", "dcim/interfaces", "ipam/ip-addresses", "dcim/devices"}
	if s.cfg.VMs {
		lists = append(lists, "virtualization/virtual-machines", "virtualization/interfaces")
	}
	hosts := 0
	for _, list := range lists {
		v := url.Values{}
		if list == "dcim/devices" || list == "virtualization/virtual-machines" {
			v, _ = url.ParseQuery(s.cfg.Query)
		}
		v.Set("limit", "1")
		var page struct {
			Count int `json:"count"`
		}
		if _, err := s.client.Get(ctx, "/api/"+list+"/?"+v.Encode(), &page); err != nil {
			return lacks(list, fmt.Errorf("cannot list %s: %w", list, err))
		}
		if list == "dcim/devices" || list == "virtualization/virtual-machines" {
			hosts += page.Count
		}
	}
	if hosts == 0 {
		return &inventory.RightError{Right: `the permission "view" on dcim.device for the devices that are asked for`,
			Where: "Admin > Permissions: the constraints may leave none; or the query fits no device"}
	}
	return nil
}
