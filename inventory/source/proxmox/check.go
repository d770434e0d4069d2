package proxmox

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
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

// A Need is what somebody wants to be allowed to do on one path.
type Need struct {
	Path       string // /vms/100
	Privileges []string
}

// Granted makes sure that the token has all privileges that are needed, without using one: a token
// may always ask for its own (API viewer, /access/permissions). Where it lacks some, the error is
// an *inventory.RightError that names them, and on which paths.
func (c *Client) Granted(ctx context.Context, needs ...Need) error {
	var lacks []string
	for _, n := range needs {
		var has map[string]map[string]any // by path, then by privilege
		if err := c.Get(ctx, "/access/permissions?path="+url.QueryEscape(n.Path), &has); err != nil {
			return fmt.Errorf("cannot ask Proxmox VE %s for our privileges on %s: %w", c.Name(), n.Path, err)
		}
		var some []string
		for _, p := range n.Privileges {
			if _, ok := has[n.Path][p]; !ok {
				some = append(some, p)
			}
		}
		if len(some) > 0 {
			lacks = append(lacks, strings.Join(some, ", ")+" on "+n.Path)
		}
	}
	if len(lacks) == 0 {
		return nil
	}
	return &inventory.RightError{Right: strings.Join(lacks, "; "), Where: granted}
}
