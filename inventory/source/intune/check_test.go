package intune_test

import (
	"strings"
	"testing"

	"unbrick/inventory"
	"unbrick/inventory/secret"
	"unbrick/inventory/source/intune"
	"unbrick/inventory/sourcetest"
)

func TestCheck(t *testing.T) {
	for right, entra := range map[string]bool{"DeviceManagementManagedDevices.Read.All": false, "Device.Read.All": true} {
		as := func(secretText string) func(*intune.Config) {
			return func(c *intune.Config) { c.Entra, c.Secret = entra, secret.Ref(sourcetest.Secretly(t, secretText)) }
		}
		sourcetest.CheckRights(t, sourcetest.Rights{
			Good:    open(t, newGraph(t, 3), &sourcetest.Service{}, as(sourcetest.Secret)),
			Refused: open(t, newGraph(t, 3), &sourcetest.Service{}, as(sourcetest.Wrong)),
			Lacking: open(t, newGraph(t, 3), &sourcetest.Service{Down: 1}, as(sourcetest.Secret)), Right: right,
		})
	}
	if err := inventory.Check(t.Context(), open(t, newGraph(t, 0), &sourcetest.Service{}, nil)); err == nil || !strings.Contains(err.Error(), "no Windows device") {
		t.Errorf("a tenant without devices: %v", err)
	}
}
