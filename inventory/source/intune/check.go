package intune

import (
	"context"
	"errors"
	"strings"

	"unbrick/inventory"
	"unbrick/inventory/rest"
)

// explain names the permission that a refusal is about.
func (s *Source) explain(err error) error {
	if !rest.Forbids(err) {
		return err
	}
	right := "DeviceManagementManagedDevices.Read.All"
	if s.cfg.Entra {
		right = "Device.Read.All"
	}
	return &inventory.RightError{Right: "the application permission " + right, Where: "Entra admin center > App registrations > API permissions > Microsoft Graph, then grant the administrator's consent", Err: err}
}

// Check implements [inventory.Checker].
func (s *Source) Check(ctx context.Context) error {
	path := managed
	if s.cfg.Entra {
		path = devices
	}
	path, _, _ = strings.Cut(path, "&$top=")
	var page struct {
		Value *[]device `json:"value"`
	}
	if _, err := s.client.Get(ctx, path+"&$top=1", &page); err != nil {
		return s.explain(err)
	}
	switch {
	case page.Value == nil:
		return errors.New("its answer is no list")
	case len(*page.Value) == 0:
		return errors.New("the tenant has no Windows device there")
	}
	return nil
}
