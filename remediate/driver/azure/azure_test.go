package azure_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	source "unbrick/inventory/source/azure"
	"unbrick/remediate"
	"unbrick/remediate/driver/azure"
	"unbrick/remediate/driver/azure/azuretest"
	"unbrick/remediate/rescue"
	"unbrick/remediate/swap"
	"unbrick/remediate/swap/swaptest"
)

// token is a credential that is good here alone.
type token struct{}

func (token) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "t", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

const (
	host   = azuretest.Subscription + "/hosts/ws1"
	helper = azuretest.Subscription + "/tools/unbrick-helper"
)

// newCloud has a host that loops, a host that is off, and a helper.
func newCloud() *azuretest.Cloud {
	disk := func(group, name string) *azuretest.Disk {
		return &azuretest.Disk{Group: group, Name: name, Location: "westeurope", Zone: "2", Tags: map[string]string{"owner": "ann"},
			Properties: map[string]any{"osType": "Windows", "hyperVGeneration": "V2", "securityProfile": map[string]any{"securityType": "TrustedLaunch"}}}
	}
	machine := func(group, name string) *azuretest.Machine {
		return &azuretest.Machine{Group: group, Name: name, Location: "westeurope", Zone: "2", VMID: "AF6DC7B5-0000-4000-8000-00000000" + fmt.Sprintf("%04x", len(name)),
			OSDisk: azuretest.Hook{Disk: name + "_OsDisk", Delete: "Delete"}, Properties: map[string]any{}}
	}
	tools := machine("Tools", "unbrick-helper")
	tools.OSType, tools.Tags = "Linux", map[string]string{"unbrick": "helper"}
	tools.Data = []azuretest.Hook{{Disk: "tools_Data", Lun: 0, Caching: "None", Create: "Attach", Delete: "Detach"}}
	off := machine("Hosts", "ws22")
	off.Power = "stopped"
	return (&azuretest.Cloud{Late: 3}).Add(
		disk("Hosts", "ws1_OsDisk"), disk("Hosts", "ws22_OsDisk"), disk("Tools", "unbrick-helper_OsDisk"), disk("Tools", "tools_Data"),
		machine("Hosts", "ws1"), off, tools)
}

func platform(t testing.TB, url string, change func(*azure.Options)) swap.Platform {
	t.Helper()
	o := azure.Options{
		Connection: source.Connection{Credential: token{}, Endpoint: url, Transport: &swap.Pace{PerSecond: 1e6}, Backoff: time.Microsecond},
		Helpers:    []string{"tools/unbrick-helper"}, Poll: time.Microsecond,
	}
	if change != nil {
		change(&o)
	}
	p, err := azure.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// refuse answers as Azure does ("Understand how Azure Resource Manager throttles requests",
// "Troubleshooting API throttling errors", "Common errors": AuthorizationFailed).
func refuse(status int, code, message string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "0")
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"error":{"code":%q,"message":%q}}`, code, message)
	}
}

func newLine(t testing.TB, c http.Handler) *swaptest.Line {
	return swaptest.NewLine(t, swaptest.API{
		Server: c, Changes: func(r *http.Request) bool { return r.Method != http.MethodGet },
		Throttle: refuse(429, "OperationNotAllowed", "The server rejected the request because too many requests have been received for this subscription."),
		Refuse:   refuse(403, "AuthorizationFailed", "The client 'x' does not have authorization to perform action 'Microsoft.Compute/y' over scope 'z'."),
	})
}

// Every request is lost, throttled and refused once, at every stage, and the machine comes up as
// it was, with its own disk and nothing left behind.
func TestPlatform(t *testing.T) {
	swaptest.Run(t, func(t *testing.T) swaptest.Rig {
		c := newCloud()
		before, _ := c.Inventory()
		line := newLine(t, c)
		return swaptest.Rig{
			Platform: platform(t, line.URL, nil), Line: line, Way: "azure", Address: host,
			Booted: func() []string { return c.Booted("ws1_OsDisk") }, Actions: c.Actions,
			Left: func() string {
				c.Settle()
				after, snapshots := c.Inventory()
				if len(snapshots) > 1 {
					return "snapshots " + strings.Join(snapshots, ", ")
				}
				return difference(before, after)
			},
		}
	})
}

func difference(before, after []string) string {
	if slices.Equal(before, after) {
		return ""
	}
	return "it was\n" + strings.Join(before, "\n") + "\nand is\n" + strings.Join(after, "\n")
}

func newDriver(t testing.TB, c http.Handler, change func(*azure.Options)) (*swap.Driver, *swaptest.Desk, swap.Records) {
	desk, records := new(swaptest.Desk), &rescue.MemRecords{}
	return swap.New(swap.Options{Way: "azure", Platform: platform(t, newLine(t, c).URL, change), Desk: desk, Records: records, Every: time.Microsecond}), desk, records
}

func target(address string) remediate.Target {
	r := swaptest.Rig{Way: "azure", Address: address}
	tt := r.Target()
	tt.Host.Name = address[strings.LastIndex(address, "/")+1:]
	return tt
}
