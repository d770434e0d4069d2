package entra

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"unbrick/bitlocker"
)

// What a rotation needs, as the permissions reference spells it.
const (
	readManaged = "DeviceManagementManagedDevices.Read.All"
	rotateKeys  = "DeviceManagementManagedDevices.PrivilegedOperations.All"
)

// Rotate implements [bitlocker.Rotator] by Intune's action. The host does it when it is next in
// touch, if its policy lets it: backup to Entra ID is required, and rotation configured. A host
// that Intune does not manage is ErrNoRotation.
//
// The action is in Graph's beta alone (2026), and replaces the protectors of all fixed volumes.
func (t *Tenant) Rotate(ctx context.Context, q bitlocker.Query) error {
	k, err := t.one(ctx, keysPath+"/"+strings.ToLower(q.ID.String()), listKeys)
	switch {
	case isNotFound(err):
		return fmt.Errorf("%w: %s", bitlocker.ErrNoKey, q.ID)
	case err != nil:
		return err
	case k.DeviceID == "":
		return fmt.Errorf("%w: the device of the key is gone", bitlocker.ErrNoRotation)
	}
	// Intune has ids of its own.
	managed, err := pages[struct {
		ID   string `json:"id"`
		Name string `json:"deviceName"`
	}](ctx, t, "/v1.0/deviceManagement/managedDevices?$select=id,deviceName&$filter="+
		url.QueryEscape("azureADDeviceId eq '"+quote(k.DeviceID)+"'"), readManaged)
	if err != nil {
		return err
	}
	if len(managed) == 0 {
		return fmt.Errorf("%w: Intune does not manage the host", bitlocker.ErrNoRotation)
	}
	if len(managed) > 1 {
		return fmt.Errorf("%w: Intune has %d devices of the same id in Entra ID", bitlocker.ErrNoRotation, len(managed))
	}
	if m := managed[0]; m.Name == "" || q.Host != "" && !bitlocker.SameHost(m.Name, q.Host) {
		return &bitlocker.WrongHostError{ID: q.ID, Host: q.Host, Filed: []string{m.Name}}
	}
	_, err = t.call(ctx, http.MethodPost, "/beta/deviceManagement/managedDevices/"+url.PathEscape(managed[0].ID)+"/rotateBitLockerKeys", rotateKeys)
	if s := (*statusError)(nil); errors.As(err, &s) && s.status < http.StatusInternalServerError && s.code != "" {
		return fmt.Errorf("%w: Intune refuses it for this host: %v", bitlocker.ErrNoRotation, err)
	}
	return err
}
