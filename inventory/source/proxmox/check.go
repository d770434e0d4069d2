package proxmox

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"unbrick/inventory"
)

// lacks names the privilege that a refusal is about, as the cluster does: "Permission check
// failed (/vms/100, VM.Audit)".
func lacks(err error) error {
	var said *Error
	if !errors.As(err, &said) || said.Status != http.StatusForbidden {
		return err
	}
	right := "VM.Audit on /vms"
	_, rest, _ := strings.Cut(said.Message, "(")
	rest, _, _ = strings.Cut(rest, ")")
	if path, privilege, ok := strings.Cut(rest, ", "); ok {
		right = privilege + " on " + path
	}
	return &inventory.RightError{Right: right, Where: granted, Err: err}
}

const granted = "Datacenter > Permissions, for the API token itself where its privileges are separated (pveum acl modify PATH --tokens 'USER@REALM!NAME' --roles ROLE)"

// Check implements [inventory.Checker]. A cluster shows a token without rights nothing, and says
// nothing.
func (s *Source) Check(ctx context.Context) error {
	all, err := s.guests(ctx)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return &inventory.RightError{Right: "VM.Audit on /vms or on the pool of the guests", Where: granted + "; or there is no virtual machine that the configuration asks for"}
	}
	_, err = s.draft(ctx, all[0])
	return err
}
