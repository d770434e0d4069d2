package azure_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	azfake "github.com/Azure/azure-sdk-for-go/sdk/azcore/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7/fake"

	source "unbrick/inventory/source/azure"
	"unbrick/remediate"
	"unbrick/remediate/driver/azure"
	"unbrick/remediate/rescue"
	"unbrick/remediate/swap"
	"unbrick/remediate/swap/swaptest"
)

// A subscription is one behind the SDK's own fakes: the vendor's word on paths, bodies, headers
// and pollers. What it does is the least that a swap needs.
type subscription struct {
	machines map[string]*armcompute.VirtualMachine
	disks    map[string]*armcompute.Disk
	swaps    []string // names of OS disks
}

func newSubscription() *subscription {
	s := &subscription{machines: map[string]*armcompute.VirtualMachine{}, disks: map[string]*armcompute.Disk{}}
	for name, system := range map[string]armcompute.OperatingSystemTypes{"ws1": armcompute.OperatingSystemTypesWindows, "unbrick-helper": armcompute.OperatingSystemTypesLinux} {
		disk := name + "_OsDisk"
		s.machines[name] = &armcompute.VirtualMachine{
			ID: to.Ptr(groups + "hosts/providers/Microsoft.Compute/virtualMachines/" + name), Name: &name, Location: to.Ptr("westeurope"), Etag: to.Ptr(`"1"`),
			Properties: &armcompute.VirtualMachineProperties{
				VMID: to.Ptr("id-of-" + name), ProvisioningState: to.Ptr("Succeeded"), InstanceView: powered("running"),
				StorageProfile: &armcompute.StorageProfile{OSDisk: &armcompute.OSDisk{
					Name: &disk, OSType: &system, Caching: to.Ptr(armcompute.CachingTypesReadWrite), CreateOption: to.Ptr(armcompute.DiskCreateOptionTypesFromImage),
					ManagedDisk: &armcompute.ManagedDiskParameters{ID: to.Ptr(diskID(disk))},
				}},
			},
		}
		s.disks[disk] = &armcompute.Disk{ID: to.Ptr(diskID(disk)), Name: &disk, Location: to.Ptr("westeurope"), ManagedBy: s.machines[name].ID, Properties: &armcompute.DiskProperties{
			DiskState: to.Ptr(armcompute.DiskStateAttached), OSType: &system, DiskSizeGB: to.Ptr[int32](127), CreationData: &armcompute.CreationData{CreateOption: to.Ptr(armcompute.DiskCreateOptionFromImage)},
		}}
	}
	return s
}

func diskID(name string) string { return groups + "hosts/providers/Microsoft.Compute/disks/" + name }

func powered(state string) *armcompute.VirtualMachineInstanceView {
	return &armcompute.VirtualMachineInstanceView{Statuses: []*armcompute.InstanceViewStatus{{Code: to.Ptr("PowerState/" + state)}}}
}

// hold gives a disk to a machine, or to nobody.
func (s *subscription) hold(id string, by *armcompute.VirtualMachine) {
	for name, d := range s.disks {
		if !strings.HasSuffix(id, "/"+name) {
			continue
		}
		d.ManagedBy, d.Properties.DiskState = nil, to.Ptr(armcompute.DiskStateUnattached)
		if by != nil {
			d.ManagedBy, d.Properties.DiskState = by.ID, to.Ptr(armcompute.DiskStateAttached)
		}
	}
}

// over is a poller that takes one more question.
func over[T any](status int, r T) (p azfake.PollerResponder[T], _ azfake.ErrorResponder) {
	p.AddNonTerminalResponse(status, nil)
	p.SetTerminalResponse(http.StatusOK, r, nil)
	return p, azfake.ErrorResponder{}
}

func (s *subscription) virtualMachines() fake.VirtualMachinesServer {
	return fake.VirtualMachinesServer{
		Get: func(_ context.Context, _, name string, _ *armcompute.VirtualMachinesClientGetOptions) (r azfake.Responder[armcompute.VirtualMachinesClientGetResponse], e azfake.ErrorResponder) {
			r.SetResponse(http.StatusOK, armcompute.VirtualMachinesClientGetResponse{VirtualMachine: *s.machines[name]}, nil)
			return r, e
		},
		BeginDeallocate: func(_ context.Context, _, name string, _ *armcompute.VirtualMachinesClientBeginDeallocateOptions) (azfake.PollerResponder[armcompute.VirtualMachinesClientDeallocateResponse], azfake.ErrorResponder) {
			s.machines[name].Properties.InstanceView = powered("deallocated")
			return over(http.StatusAccepted, armcompute.VirtualMachinesClientDeallocateResponse{})
		},
		BeginStart: func(_ context.Context, _, name string, _ *armcompute.VirtualMachinesClientBeginStartOptions) (azfake.PollerResponder[armcompute.VirtualMachinesClientStartResponse], azfake.ErrorResponder) {
			s.machines[name].Properties.InstanceView = powered("running")
			return over(http.StatusAccepted, armcompute.VirtualMachinesClientStartResponse{})
		},
		BeginUpdate: func(_ context.Context, _, name string, u armcompute.VirtualMachineUpdate, o *armcompute.VirtualMachinesClientBeginUpdateOptions) (p azfake.PollerResponder[armcompute.VirtualMachinesClientUpdateResponse], e azfake.ErrorResponder) {
			if o == nil || o.IfMatch == nil || *o.IfMatch != `"1"` {
				e.SetResponseError(http.StatusPreconditionFailed, "ConditionNotMet")
				return p, e
			}
			own, want := s.machines[name].Properties.StorageProfile.OSDisk, u.Properties.StorageProfile.OSDisk
			s.hold(*own.ManagedDisk.ID, nil)
			s.hold(*want.ManagedDisk.ID, s.machines[name])
			own.Name, own.ManagedDisk.ID, own.Caching, own.DeleteOption = want.Name, want.ManagedDisk.ID, want.Caching, want.DeleteOption
			s.swaps = append(s.swaps, *want.Name)
			return over(http.StatusOK, armcompute.VirtualMachinesClientUpdateResponse{VirtualMachine: *s.machines[name]})
		},
		BeginAttachDetachDataDisks: func(_ context.Context, _, name string, r armcompute.AttachDetachDataDisksRequest, _ *armcompute.VirtualMachinesClientBeginAttachDetachDataDisksOptions) (azfake.PollerResponder[armcompute.VirtualMachinesClientAttachDetachDataDisksResponse], azfake.ErrorResponder) {
			at := s.machines[name].Properties.StorageProfile
			for _, d := range r.DataDisksToAttach {
				at.DataDisks = append(at.DataDisks, &armcompute.DataDisk{Lun: d.Lun, CreateOption: to.Ptr(armcompute.DiskCreateOptionTypesAttach), ManagedDisk: &armcompute.ManagedDiskParameters{ID: d.DiskID}})
				s.hold(*d.DiskID, s.machines[name])
			}
			for _, d := range r.DataDisksToDetach {
				at.DataDisks = nil
				s.hold(*d.DiskID, nil)
			}
			return over(http.StatusAccepted, armcompute.VirtualMachinesClientAttachDetachDataDisksResponse{})
		},
	}
}

func (s *subscription) disksServer() fake.DisksServer {
	return fake.DisksServer{
		Get: func(_ context.Context, _, name string, _ *armcompute.DisksClientGetOptions) (r azfake.Responder[armcompute.DisksClientGetResponse], e azfake.ErrorResponder) {
			if s.disks[name] == nil {
				e.SetResponseError(http.StatusNotFound, "ResourceNotFound")
				return r, e
			}
			r.SetResponse(http.StatusOK, armcompute.DisksClientGetResponse{Disk: *s.disks[name]}, nil)
			return r, e
		},
		BeginCreateOrUpdate: func(_ context.Context, _, name string, d armcompute.Disk, _ *armcompute.DisksClientBeginCreateOrUpdateOptions) (azfake.PollerResponder[armcompute.DisksClientCreateOrUpdateResponse], azfake.ErrorResponder) {
			d.ID, d.Name = to.Ptr(diskID(name)), &name
			d.Properties.ProvisioningState, d.Properties.DiskState = to.Ptr("Succeeded"), to.Ptr(armcompute.DiskStateUnattached)
			s.disks[name] = &d
			return over(http.StatusAccepted, armcompute.DisksClientCreateOrUpdateResponse{Disk: d})
		},
		BeginDelete: func(_ context.Context, _, name string, _ *armcompute.DisksClientBeginDeleteOptions) (azfake.PollerResponder[armcompute.DisksClientDeleteResponse], azfake.ErrorResponder) {
			delete(s.disks, name)
			return over(http.StatusAccepted, armcompute.DisksClientDeleteResponse{})
		},
	}
}

// A wire is the SDK's fakes as a transport, beside a list of locks that is empty and one of
// permissions that has all.
type wire struct{ fakes *fake.ServerFactoryTransport }

func (w wire) RoundTrip(r *http.Request) (*http.Response, error) {
	for path, list := range map[string]string{"locks": `{"value":[]}`, "permissions": `{"value":[{"actions":["*"]}]}`} {
		if strings.HasSuffix(r.URL.Path, "/providers/Microsoft.Authorization/"+path) {
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(list)), Request: r}, nil
		}
	}
	return w.fakes.Do(r)
}

// TestOfficialFakes goes the whole way over the fakes that come with the SDK.
func TestOfficialFakes(t *testing.T) {
	s := newSubscription()
	p, err := azure.New(azure.Options{Poll: time.Microsecond, Connection: source.Connection{Credential: token{}, Backoff: time.Microsecond,
		Transport: wire{fake.NewServerFactoryTransport(&fake.ServerFactory{VirtualMachinesServer: s.virtualMachines(), DisksServer: s.disksServer()})}}})
	if err != nil {
		t.Fatal(err)
	}
	desk := &places{told: map[string]string{}}
	d := swap.New(swap.Options{Way: "azure", Platform: p, Desk: desk, Records: &rescue.MemRecords{}, Every: time.Microsecond})
	at := swaptest.Rig{Way: "azure", Address: host}.Target()
	before, err := d.Observe(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Enter(t.Context(), at, remediate.Image{}); err != nil {
		t.Fatal("enter: ", err)
	}
	lent := s.machines["unbrick-helper"].Properties.StorageProfile.DataDisks
	if len(lent) != 1 || *lent[0].ManagedDisk.ID != diskID("ws1_OsDisk") || !strings.HasSuffix(desk.told["h1"], fmt.Sprintf("/unbrick-helper lun:%d", *lent[0].Lun)) {
		t.Errorf("the helper has %+v, and the desk was told %v", lent, desk.told)
	}
	if err := d.Leave(t.Context(), at, before); err != nil {
		t.Fatal("leave: ", err)
	}
	if len(s.swaps) != 2 || s.swaps[1] != "ws1_OsDisk" || len(s.disks) != 2 || source.Power(s.machines["ws1"]) != "running" {
		t.Errorf("swapped %v, disks %v, the host is %s", s.swaps, s.disks, source.Power(s.machines["ws1"]))
	}
}
