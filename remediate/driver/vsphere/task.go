package vsphere

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/task"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	source "unbrick/inventory/source/vsphere"
	"unbrick/remediate"
)

// await waits for a task to end, and returns its error. A task that the server has forgotten
// has ended: how, a look at the machine says.
func (in *instance) await(ctx context.Context, ref types.ManagedObjectReference) error {
	_, err := in.result(ctx, ref)
	return err
}

// result is await for a task that brings something.
func (in *instance) result(ctx context.Context, ref types.ManagedObjectReference) (types.AnyType, error) {
	for wait := in.opt.Poll / 8; ; wait = min(2*wait, in.opt.Poll) {
		all, err := source.Collect(ctx, in.Client, types.PropertyFilterSpec{
			ObjectSet: []types.ObjectSpec{{Obj: ref}}, PropSet: []types.PropertySpec{{Type: "Task", PathSet: []string{"info"}}}})
		if err != nil || len(all) == 0 {
			return nil, err
		}
		var t mo.Task
		if err := mo.LoadObjectContent(all, &t); err != nil {
			return nil, err
		}
		switch t.Info.State {
		case types.TaskInfoStateSuccess:
			return t.Info.Result, nil
		case types.TaskInfoStateError:
			return nil, task.Error{LocalizedMethodFault: t.Info.Error}
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// passing are faults that go by themselves.
var passing = []types.BaseMethodFault{
	&types.TaskInProgress{}, &types.ResourceInUse{}, &types.ConcurrentAccess{}, &types.HostCommunication{}, &types.HostConnectFault{},
	&types.Timedout{}, &types.NotAuthenticated{}, &types.FileLocked{}, &types.ManagedObjectNotFound{},
}

// say puts an error of vSphere into words: one that may pass is a *remediate.RetryError.
func say(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
	var known *remediate.RetryError
	if errors.As(err, &known) {
		return err
	}
	var no *types.NoPermission
	if _, is := fault.As(err, &no); is && !fault.Is(err, &types.NotAuthenticated{}) {
		on := ""
		if no.Object != nil {
			on = " on " + no.Object.Type + " " + no.Object.Value
		}
		return fmt.Errorf("%s: the account lacks the privilege %s%s: give it a role that has it, with propagation", what, no.PrivilegeId, on)
	}
	said := fmt.Errorf("%s: %w", what, err)
	for _, f := range passing {
		if fault.Is(err, f) {
			return &remediate.RetryError{After: 15 * time.Second, Err: said}
		}
	}
	if !answered(err) {
		return &remediate.RetryError{After: 10 * time.Second, Err: said}
	}
	return said
}

// answered says whether an error is what the server said, and not the want of an answer.
func answered(err error) bool {
	var asTask task.Error
	if errors.As(err, &asTask) {
		return true
	}
	for ; err != nil; err = errors.Unwrap(err) {
		if soap.IsSoapFault(err) || soap.IsVimFault(err) {
			return true
		}
	}
	return false
}

// locked says whether a fault means that another machine has the files of a disk open. Behind
// a GenericVmConfigFault that is in words alone.
func locked(err error) bool {
	if fault.Is(err, &types.FileLocked{}) {
		return true
	}
	var g *types.GenericVmConfigFault
	_, is := fault.As(err, &g)
	return is && strings.Contains(strings.ToLower(g.Reason+err.Error()), "lock")
}
