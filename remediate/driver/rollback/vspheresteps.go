package rollback

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/task"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	source "unbrick/inventory/source/vsphere"
	"unbrick/remediate"
)

// Do implements Machine. It waits for the task: its error is nowhere else.
func (m *virtual) Do(ctx context.Context, step Step, snapshot string) error {
	task, err := m.begin(ctx, step, snapshot)
	if err == nil {
		err = m.await(ctx, task)
	}
	return said(ctx, fmt.Sprintf("cannot %s %s", step, m.ref.Value), err)
}

// begin sets a step going.
func (m *virtual) begin(ctx context.Context, step Step, snapshot string) (types.ManagedObjectReference, error) {
	vm := object.NewVirtualMachine(m.Client, m.ref)
	var task *object.Task
	var err error
	switch step {
	case Stop:
		task, err = vm.PowerOff(ctx)
	case Start:
		task, err = vm.PowerOn(ctx)
	case Keep:
		task, err = vm.CreateSnapshot(ctx, snapshot, "by unbrick, before it went back to an older one", false, false)
	case Back:
		// Not vm.RevertToSnapshot: it looks for a name.
		res, err := methods.RevertToSnapshot_Task(ctx, m.Client, &types.RevertToSnapshot_Task{
			This: types.ManagedObjectReference{Type: "VirtualMachineSnapshot", Value: snapshot}, SuppressPowerOn: types.NewBool(true)})
		if err != nil {
			return m.ref, err
		}
		return res.Returnval, nil
	default:
		err = fmt.Errorf("vSphere knows no step %q", step)
	}
	if err != nil {
		return m.ref, err
	}
	return task.Reference(), nil
}

// await waits for a task to end, and returns its error. A task that the server has forgotten
// has ended: how, a look at the machine says.
func (m *virtual) await(ctx context.Context, ref types.ManagedObjectReference) error {
	for wait := m.poll / 8; ; wait = min(2*wait, m.poll) {
		all, err := source.Collect(ctx, m.Client, types.PropertyFilterSpec{
			ObjectSet: []types.ObjectSpec{{Obj: ref}}, PropSet: []types.PropertySpec{{Type: "Task", PathSet: []string{"info"}}}})
		if err != nil || len(all) == 0 {
			return err
		}
		var t mo.Task
		if err := mo.LoadObjectContent(all, &t); err != nil {
			return err
		}
		switch t.Info.State {
		case types.TaskInfoStateSuccess:
			return nil
		case types.TaskInfoStateError:
			return task.Error{LocalizedMethodFault: t.Info.Error}
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// said puts an error of vSphere into words: one that may pass is a *remediate.RetryError.
func said(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
	var no *types.NoPermission
	if _, is := fault.As(err, &no); is && !fault.Is(err, &types.NotAuthenticated{}) {
		return fmt.Errorf("%s: the account lacks the privilege %s: give it a role that has it, with propagation", what, no.PrivilegeId)
	}
	wrapped := fmt.Errorf("%s: %w", what, err)
	for _, f := range []types.BaseMethodFault{&types.TaskInProgress{}, &types.ResourceInUse{}, &types.ConcurrentAccess{}, &types.InvalidPowerState{},
		&types.HostCommunication{}, &types.HostConnectFault{}, &types.Timedout{}, &types.NotAuthenticated{}, &types.FileLocked{}} {
		if fault.Is(err, f) {
			return &remediate.RetryError{After: 15 * time.Second, Err: wrapped}
		}
	}
	var asTask task.Error
	if errors.As(err, &asTask) {
		return wrapped
	}
	for ; err != nil; err = errors.Unwrap(err) {
		if soap.IsSoapFault(err) || soap.IsVimFault(err) {
			return wrapped
		}
	}
	return &remediate.RetryError{After: 10 * time.Second, Err: wrapped}
}
