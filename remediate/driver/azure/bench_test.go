package azure_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"

	source "unbrick/inventory/source/azure"
	"unbrick/remediate/driver/azure"
	"unbrick/remediate/driver/azure/azuretest"
	"unbrick/remediate/rescue"
	"unbrick/remediate/swap"
	"unbrick/remediate/swap/swaptest"
)

const (
	thousand = 1000
	atOnce   = 100
	lenders  = 12
	latency  = 10 * time.Millisecond // of a request, and between looks at an operation
)

// A crowd is a subscription with a thousand machines and twelve helpers, which counts what it is
// asked.
type crowd struct {
	*azuretest.Cloud
	url string

	mu    sync.Mutex
	asked map[string]int
}

func newCrowd(b *testing.B) *crowd {
	c := &crowd{Cloud: &azuretest.Cloud{Page: 500}, asked: map[string]int{}}
	add := func(name, os string, tags map[string]string) {
		c.Add(&azuretest.Disk{Group: "hosts", Name: name + "_OsDisk", Location: "westeurope", Properties: map[string]any{"osType": os, "hyperVGeneration": "V2"}},
			&azuretest.Machine{Group: "hosts", Name: name, Location: "westeurope", VMID: name, OSType: os, Tags: tags, OSDisk: azuretest.Hook{Disk: name + "_OsDisk"}, Properties: map[string]any{}})
	}
	for n := range lenders {
		add(fmt.Sprint("helper-", n), "Linux", map[string]string{"unbrick": "helper"})
	}
	for n := range thousand {
		add(fmt.Sprint("ws", n), "Windows", nil)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		c.asked[r.Method+" "+regexp.MustCompile(`(ws|helper-|op-|unbrick-)[0-9a-f]+`).ReplaceAllString(r.URL.Path, "${1}N")]++
		c.mu.Unlock()
		time.Sleep(latency)
		c.ServeHTTP(w, r)
	}))
	b.Cleanup(s.Close)
	c.url = s.URL
	return c
}

// all does a thousand hosts, a hundred at a time, and reports what it took.
func (c *crowd) all(b *testing.B, do func(n int) error) {
	b.StartTimer()
	swaptest.Each(b, thousand, atOnce, do)
	b.StopTimer()
	total := 0
	for k, n := range c.asked {
		total += n
		b.Logf("%6.2f %s", float64(n)/thousand, k)
	}
	b.ReportMetric(float64(total)/thousand, "calls/host")
	b.ReportMetric(float64(c.Actions())/thousand, "changes/host")
}

// BenchmarkThousand takes the OS disks of 1,000 machines to helpers and back: by bare calls of the
// SDK, with no look before and no journal, and by the driver.
func BenchmarkThousand(b *testing.B) {
	b.Run("bare", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			c := newCrowd(b)
			client, err := source.Connection{Credential: token{}, Endpoint: c.url, Backoff: time.Microsecond}.Dial()
			if err != nil {
				b.Fatal(err)
			}
			f, err := client.Compute(azuretest.Subscription)
			if err != nil {
				b.Fatal(err)
			}
			c.all(b, func(n int) error {
				return bare(b, f, fmt.Sprint("ws", n), fmt.Sprint("helper-", n%lenders), int32(10+n/lenders%50))
			})
			b.StartTimer()
		}
	})
	b.Run("driver", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			c := newCrowd(b)
			p := platform(b, c.url, func(o *azure.Options) { o.Helpers, o.Poll = []string{"tag:unbrick=helper"}, latency })
			d := swap.New(swap.Options{Way: "azure", Platform: p, Desk: &swaptest.Desk{}, Records: &rescue.MemRecords{}, PerHelper: 20, Every: latency})
			c.all(b, func(n int) error {
				return swaptest.Through(b.Context(), d, target(azuretest.Subscription+"/hosts/"+fmt.Sprint("ws", n)), latency)
			})
			b.StartTimer()
		}
	})
}

// again asks until Azure does not say that something else is at work there, and waits for the end.
func again[T any](b *testing.B, begin func() (*runtime.Poller[T], error)) error {
	for {
		p, err := begin()
		if err == nil {
			_, err = p.PollUntilDone(b.Context(), &runtime.PollUntilDoneOptions{Frequency: time.Second})
			return err
		}
		var said *source.Refusal
		if !errors.As(source.Explain(err), &said) || said.Status != http.StatusConflict {
			return err
		}
		time.Sleep(latency)
	}
}

// bare is one host with nothing around it.
func bare(b *testing.B, f *armcompute.ClientFactory, name, helper string, lun int32) error {
	ctx, vms, disks := source.Once(b.Context()), f.NewVirtualMachinesClient(), f.NewDisksClient()
	id := func(disk string) *string {
		return to.Ptr("/subscriptions/" + azuretest.Subscription + "/resourceGroups/hosts/providers/Microsoft.Compute/disks/" + disk)
	}
	osDisk, standIn := name+"_OsDisk", name+"-standin"
	swapIn := func(disk string) error {
		return again(b, func() (*runtime.Poller[armcompute.VirtualMachinesClientUpdateResponse], error) {
			return vms.BeginUpdate(ctx, "hosts", name, armcompute.VirtualMachineUpdate{Properties: &armcompute.VirtualMachineProperties{StorageProfile: &armcompute.StorageProfile{
				OSDisk: &armcompute.OSDisk{Name: &disk, CreateOption: to.Ptr(armcompute.DiskCreateOptionTypesFromImage), Caching: to.Ptr(armcompute.CachingTypesReadWrite),
					DeleteOption: to.Ptr(armcompute.DiskDeleteOptionTypesDetach), ManagedDisk: &armcompute.ManagedDiskParameters{ID: id(disk)}}}}}, nil)
		})
	}
	move := func(r armcompute.AttachDetachDataDisksRequest) error {
		return again(b, func() (*runtime.Poller[armcompute.VirtualMachinesClientAttachDetachDataDisksResponse], error) {
			return vms.BeginAttachDetachDataDisks(ctx, "hosts", helper, r, nil)
		})
	}
	for _, step := range []func() error{
		func() error {
			return again(b, func() (*runtime.Poller[armcompute.VirtualMachinesClientDeallocateResponse], error) {
				return vms.BeginDeallocate(ctx, "hosts", name, nil)
			})
		},
		func() error {
			return again(b, func() (*runtime.Poller[armcompute.DisksClientCreateOrUpdateResponse], error) {
				return disks.BeginCreateOrUpdate(ctx, "hosts", standIn, armcompute.Disk{Location: to.Ptr("westeurope"), Properties: &armcompute.DiskProperties{
					OSType: to.Ptr(armcompute.OperatingSystemTypesWindows), HyperVGeneration: to.Ptr(armcompute.HyperVGenerationV2),
					CreationData: &armcompute.CreationData{CreateOption: to.Ptr(armcompute.DiskCreateOptionCopy), SourceResourceID: id(osDisk)}}}, nil)
			})
		},
		func() error { return swapIn(standIn) },
		func() error {
			return move(armcompute.AttachDetachDataDisksRequest{DataDisksToAttach: []*armcompute.DataDisksToAttach{{DiskID: id(osDisk), Lun: &lun}}})
		},
		func() error {
			return move(armcompute.AttachDetachDataDisksRequest{DataDisksToDetach: []*armcompute.DataDisksToDetach{{DiskID: id(osDisk)}}})
		},
		func() error { return swapIn(osDisk) },
		func() error {
			return again(b, func() (*runtime.Poller[armcompute.VirtualMachinesClientStartResponse], error) {
				return vms.BeginStart(ctx, "hosts", name, nil)
			})
		},
		func() error {
			return again(b, func() (*runtime.Poller[armcompute.DisksClientDeleteResponse], error) {
				return disks.BeginDelete(ctx, "hosts", standIn, nil)
			})
		},
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
