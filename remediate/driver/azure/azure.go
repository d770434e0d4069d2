// Package azure swaps the OS disks of Azure's virtual machines: see package swap for the order of
// things, and unbrick/inventory/source/azure for addresses and credentials.
//
// # How an OS disk is taken off and put back
//
// Azure detaches no OS disk; it swaps one for another while the machine is deallocated ("Change
// the OS disk used by an Azure VM"). So a copy of the disk, the stand-in, takes its place: that
// frees the original, which is hung on the helper as a data disk, is repaired, and is swapped
// back. Then the stand-in is deleted. This is what az vm repair does with the parts exchanged: it
// repairs the copy and swaps that in. Here the original comes back instead, with its name, tags,
// backups and, for trusted launch, the vTPM's state that belongs to it; and nothing is left that
// costs money.
//
// The stand-in is a copy, because Azure asks of an OS disk that the type of system, generation and
// security type are the machine's (MicrosoftDocs/SupportArticles-docs 214), and gives the security
// type of trusted launch to no empty disk (Azure/azure-cli 22561), but to a copy of one that has
// it (Azure/azure-sdk-for-python 30479). A machine that somebody starts while the stand-in is in
// it crashes as before; what it writes is lost. The stand-in's name says whose it is.
//
// With Azure Disk Encryption no OS disk is swapped (MicrosoftDocs/azure-docs 56181): refused, like
// whatever else Describe names, with what to do instead.
//
// # How it is known on the helper
//
// By its LUN, which the agent there sees as the place of a SCSI disk: "lun:23". Azure shows no
// identity of a managed disk inside a machine that could be set, or that is documented. LUNs from
// 10 on are used, so that no disk of the helper's own has the same. A helper on NVMe (v6 sizes)
// shows no LUN and is passed over. Disks are attached and detached by their ids
// ("Virtual Machines - Attach Detach Data Disks"), never by writing the helper's list of disks
// anew: two who do that lose each other's (Azure/azure-cli 19568). A helper must not be restarted
// while disks hang on it: it may start from one of them (SupportArticles-docs 643).
//
// # Long operations
//
// There are no tokens to keep: an operation is waited for where it was begun, so that its own
// error is seen, and whoever comes later finds it by looking at power and provisioning state.
//
// # Least rights
//
// A custom role, on the resource groups of the hosts, their disks and the helpers, and for the last
// three on the subscription:
//
//	Microsoft.Compute/virtualMachines/read
//	Microsoft.Compute/virtualMachines/write
//	Microsoft.Compute/virtualMachines/deallocate/action
//	Microsoft.Compute/virtualMachines/start/action
//	Microsoft.Compute/virtualMachines/attachDetachDataDisks/action
//	Microsoft.Compute/disks/read
//	Microsoft.Compute/disks/write
//	Microsoft.Compute/disks/delete
//	Microsoft.Compute/disks/beginGetAccess/action   (a copy asks for it: MicrosoftDocs/azure-docs 11362)
//	Microsoft.Compute/snapshots/read, /write        (with snapshots)
//	Microsoft.Compute/diskEncryptionSets/read       (with customer-managed keys)
//	Microsoft.Network/networkInterfaces/join/action (a change of a machine asks for it)
//	Microsoft.Compute/locations/operations/read
//	Microsoft.Authorization/locks/read
//	Microsoft.Resources/subscriptions/resources/read (with helpers by tag)
//	Microsoft.Authorization/permissions/read        (for unbrick doctor, which asks what is missing)
//
// # What was proved
//
// All of it against azuretest, whose checks are from Microsoft's documents and from issues in
// which Azure's errors are quoted, and the whole way against the SDK's own fakes. No subscription
// was at hand. What to try first on one: the OS disk of a trusted launch machine, and one with a
// purchase plan, as a data disk of a helper that has neither; how long an OS disk shows that it is
// held after it was swapped out.
package azure

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"

	source "unbrick/inventory/source/azure"
	"unbrick/remediate"
	"unbrick/remediate/swap"
)

// Options say how to reach Azure and where helpers are.
type Options struct {
	source.Connection // Transport is a swap.Pace if nil

	// Helpers are the virtual machines that disks are hung on: NAME, in the resource group of the
	// host; GROUP/NAME, in its subscription; SUBSCRIPTION/GROUP/NAME or a resource id; or
	// tag:NAME=VALUE for all that have the tag in the host's subscription. Those of them serve a
	// host that run Linux in its region and zone; what names no machine of Azure is passed over.
	// "unbrick-helper" if empty.
	Helpers []string

	Poll time.Duration // how often to ask for an operation where Azure does not say; 5 s if 0
}

// New returns the platform. It reaches nobody yet.
func New(o Options) (swap.Platform, error) {
	if len(o.Helpers) == 0 {
		o.Helpers = []string{"unbrick-helper"}
	}
	if o.Poll == 0 {
		o.Poll = 5 * time.Second
	}
	if o.Transport == nil {
		o.Transport = &swap.Pace{}
	}
	c, err := o.Dial()
	if err != nil {
		return nil, err
	}
	return &platform{client: c, helpers: o.Helpers, poll: o.Poll, turns: map[string]chan struct{}{}, locks: map[string]locks{}}, nil
}

type platform struct {
	client  *source.Client
	helpers []string
	poll    time.Duration

	mu    sync.Mutex
	turns map[string]chan struct{} // one at a time changes a helper
	locks map[string]locks         // by subscription
}

// turn waits until nobody else of this process changes a helper: Azure would refuse one of both.
func (p *platform) turn(ctx context.Context, helper string) (done func(), err error) {
	p.mu.Lock()
	c := p.turns[helper]
	if c == nil {
		c = make(chan struct{}, 1)
		p.turns[helper] = c
	}
	p.mu.Unlock()
	select {
	case c <- struct{}{}:
		return func() { <-c }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("the helper %s has others to serve first: %w", helper, context.Cause(ctx))
	}
}

// Reach implements swap.Platform.
func (p *platform) Reach(ctx context.Context, t remediate.Target) (swap.Instance, error) {
	a, err := source.ParseAddress(t.Route.Address)
	if err != nil {
		return nil, err
	}
	f, err := p.client.Compute(a.Subscription)
	if err != nil {
		return nil, err
	}
	in := &instance{platform: p, at: a, vms: f.NewVirtualMachinesClient(), disks: f.NewDisksClient(), snapshots: f.NewSnapshotsClient()}
	if in.last, err = in.machine(ctx, a); err != nil {
		return nil, err
	}
	in.fresh = true
	return in, nil
}

// An instance is a virtual machine during one call.
type instance struct {
	*platform
	at        source.Address
	vms       *armcompute.VirtualMachinesClient
	disks     *armcompute.DisksClient
	snapshots *armcompute.SnapshotsClient

	last  *armcompute.VirtualMachine // as it was seen last
	fresh bool                       // nothing was done since
	lun   *int32                     // where the volume was seen last on a helper
}

var (
	_ swap.Instance = (*instance)(nil)
	_ swap.Marker   = (*instance)(nil)
	_ swap.Tidier   = (*instance)(nil)
)

// ID implements swap.Instance: by what Azure gives a machine for good. Its resource id changes
// when it is moved to another resource group.
func (in *instance) ID() string { return "azure " + strings.ToLower(val(in.last.Properties.VMID)) }

// Close implements swap.Instance.
func (in *instance) Close() error { return nil }

// Mark implements swap.Marker.
func (in *instance) Mark(swap.Entry) string {
	if in.lun == nil {
		return ""
	}
	return fmt.Sprintf("lun:%d", *in.lun)
}

// machine reads a virtual machine of the same subscription, with how it stands.
func (in *instance) machine(ctx context.Context, a source.Address) (*armcompute.VirtualMachine, error) {
	got, err := in.vms.Get(ctx, a.Group, a.Name, &armcompute.VirtualMachinesClientGetOptions{Expand: to.Ptr(armcompute.InstanceViewTypesInstanceView)})
	if missing(err) {
		return nil, fmt.Errorf("%w %s: was it deleted, or moved? correct the address of the route", errNoMachine, a)
	}
	if err != nil {
		return nil, say(ctx, "cannot read the virtual machine "+a.String(), err)
	}
	if p := got.Properties; p == nil || p.StorageProfile == nil || p.StorageProfile.OSDisk == nil {
		return nil, fmt.Errorf("azure does not say which disks the virtual machine %s has", a)
	}
	return &got.VirtualMachine, nil
}

var errNoMachine = errors.New("azure has no virtual machine")

// view reads the instance, unless it was read just now.
func (in *instance) view(ctx context.Context) (*armcompute.VirtualMachine, error) {
	if in.fresh {
		in.fresh = false
		return in.last, nil
	}
	vm, err := in.machine(ctx, in.at)
	if err == nil {
		in.last = vm
	}
	return vm, err
}

// missing says whether Azure does not have what was asked for.
func missing(err error) bool {
	var r *source.Refusal
	return errors.As(source.Explain(err), &r) && r.Status == http.StatusNotFound
}

// passing are the codes of refusals that pass by themselves.
var passing = map[string]bool{
	"Conflict": true, "ConflictingConcurrentWriteNotAllowed": true, "ConflictingUserInput": true, "AttachDiskWhileBeingDetached": true,
	"OperationPreempted": true, "RetryableError": true, "InternalExecutionError": true, "InternalOperationError": true, "NetworkingInternalOperationError": true,
}

// full are the codes of a region or zone that has no room.
var full = map[string]bool{
	"AllocationFailed": true, "ZonalAllocationFailed": true, "OverconstrainedAllocationRequest": true,
	"OverconstrainedZonalAllocationRequest": true, "SkuNotAvailable": true,
}

// say puts an error of Azure into words: one that may pass is a *remediate.RetryError.
func say(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
	err = source.Explain(err)
	said := fmt.Errorf("%s: %w", what, err)
	var r *source.Refusal
	switch {
	case errors.Is(err, source.ErrLogin):
		return said
	case !errors.As(err, &r):
		return &remediate.RetryError{After: 5 * time.Second, Err: fmt.Errorf("%s: the connection to Azure broke: %w", what, err)}
	case r.Status == http.StatusTooManyRequests:
		return &remediate.RetryError{After: max(r.After, 5*time.Second), Err: said}
	case r.Code == "ScopeLocked":
		return fmt.Errorf("%w\ntake the lock off until the host is repaired (az lock list, az lock delete)", said)
	case full[r.Code]:
		return &remediate.RetryError{After: time.Minute, Err: fmt.Errorf("%w\nAzure has no room for it now: it is tried again; another size (az vm resize) would go faster", said)}
	case r.Status >= 500, r.Status == http.StatusPreconditionFailed, passing[r.Code]:
		return &remediate.RetryError{After: max(r.After, 5*time.Second), Err: said}
	case r.Status == http.StatusForbidden:
		return fmt.Errorf("%w\nthe role that unbrick needs is in the README (volume swap, Azure)", said)
	}
	return said
}

func val[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
