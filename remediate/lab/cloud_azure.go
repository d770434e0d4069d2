package lab

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"unbrick/remediate/driver/azure/azuretest"
)

// azureGroup is the resource group of the lab's machines.
const azureGroup = "hosts"

// newAzure plays Azure as one sees it from an App Service: a token comes from the address that the
// environment names, over plain HTTP.
func newAzure(_, url string) (*cloud, error) {
	c := &azuretest.Cloud{}
	add := func(m *azuretest.Machine, os string) {
		m.Group, m.Location, m.Zone, m.OSType = azureGroup, "westeurope", "2", os
		m.OSDisk = azuretest.Hook{Disk: m.Name + "_OsDisk", Delete: "Delete"}
		c.Add(&azuretest.Disk{Group: azureGroup, Name: m.OSDisk.Disk, Location: m.Location, Zone: m.Zone, Properties: map[string]any{
			"osType": os, "hyperVGeneration": "V2", "securityProfile": map[string]any{"securityType": "TrustedLaunch"}}}, m)
	}
	add(&azuretest.Machine{Name: helperName}, "Linux")
	const secret = "lab-only-azure"
	mux := http.NewServeMux()
	mux.Handle("/", c)
	mux.HandleFunc("GET /identity", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-IDENTITY-HEADER") != secret {
			http.Error(w, "no such identity", http.StatusUnauthorized)
			return
		}
		json.NewEncoder(w).Encode(map[string]string{"access_token": "lab", "token_type": "Bearer",
			"resource": r.URL.Query().Get("resource"), "expires_on": fmt.Sprint(time.Now().Add(8 * time.Hour).Unix())})
	})
	return &cloud{
		kind:    "azure",
		source:  fmt.Sprintf("subscriptions: [%s], endpoint: %q", azuretest.Subscription, url),
		swap:    fmt.Sprintf("{endpoint: %q}", url),
		handler: mux,
		helper:  azuretest.Subscription + "/" + azureGroup + "/" + helperName,
		mute:    true,
		env: map[string]string{
			"AZURE_TOKEN_CREDENTIALS": "ManagedIdentityCredential", // and nobody's own login
			"IDENTITY_ENDPOINT":       url + "/identity",
			"IDENTITY_HEADER":         secret,
		},
		snapshots: func() int { _, all := c.Inventory(); return len(all) },
		settle:    c.Settle,
		launch: func(h spec, _ string, protected bool) (placed, error) {
			m := &azuretest.Machine{Name: h.Name, VMID: h.UUID, Properties: map[string]any{}}
			if protected {
				m.Properties["virtualMachineScaleSet"] = map[string]any{"id": "/subscriptions/" + azuretest.Subscription +
					"/resourceGroups/" + azureGroup + "/providers/Microsoft.Compute/virtualMachineScaleSets/web"}
			}
			add(m, "Windows")
			return placed{address: azuretest.Subscription + "/" + azureGroup + "/" + h.Name,
				look: func() sight { return lookAzure(c, h.Name) }, shown: func() string { return showAzure(c, h.Name) }}, nil
		},
	}, nil
}

func lookAzure(c *azuretest.Cloud, name string) (t sight) {
	disk := name + "_OsDisk"
	m := c.Machine(name)
	t.runs = m.Power == "running" && m.OSDisk.Disk == disk
	for _, d := range c.Machine(helperName).Data {
		if d.Disk == disk {
			t.mark = fmt.Sprintf("lun:%d", d.Lun)
		}
	}
	return t
}

func showAzure(c *azuretest.Cloud, name string) (text string) {
	resources, _ := c.Inventory()
	for _, line := range resources { // what stands in for its disk too
		if strings.Contains(line, name) {
			text += line + "; "
		}
	}
	return text
}
