package ec2

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	source "unbrick/inventory/source/ec2"
	"unbrick/remediate"
	"unbrick/remediate/swap"
)

// Do implements swap.Instance. It returns when reads show that something has changed: EC2 is
// eventually consistent, and who looks too early would do the step again.
func (in *instance) Do(ctx context.Context, step swap.Step, e swap.Entry, helper string) error {
	was := in.state
	if in.done[step] >= repeats {
		return in.undone(step, e)
	}
	err := in.request(ctx, step, e, helper)
	if err != nil && ctx.Err() != nil {
		return source.Explain(ctx, in.task(step, e), err)
	}
	looks := settled
	switch code := source.Code(err); {
	case err == nil || behind(step, code):
	case unclear(err, code): // done or not: a look tells
		looks = lost
	default:
		return in.say(ctx, in.task(step, e), err)
	}
	changed, seen := in.changed(ctx, e, was, looks)
	if changed && err == nil {
		in.done[step]++
	}
	switch {
	case seen != nil:
		return seen
	case changed && step != swap.Return:
		in.fresh = true
		return nil
	case changed:
		return in.say(ctx, in.task(step, e), in.restore(ctx, e))
	case err != nil:
		return &remediate.RetryError{After: 10 * time.Second, Err: source.Explain(ctx, in.task(step, e), err)}
	}
	return &remediate.RetryError{After: 10 * time.Second, Err: fmt.Errorf("%s: EC2 took the request, and does not show anything of it", in.task(step, e))}
}

// repeats is how often EC2 may take a step during one call: one that hangs is done again, by
// force, and so is one that a late read says was not done.
const repeats = 3

// undone says that EC2 took a step, and undid it: so it does when it cannot use the key of an
// encrypted volume.
func (in *instance) undone(step swap.Step, e swap.Entry) error {
	why := ""
	if r := in.seen.StateReason; r != nil {
		why = fmt.Sprintf(": %s (%s)", aws.ToString(r.Message), aws.ToString(r.Code))
	}
	if d, err := readDetail(e.Slot); err == nil && d.Key != "" {
		why += fmt.Sprintf("\nlook whether the key %s is enabled, and whether these credentials have kms:CreateGrant on it", d.Key)
	}
	return fmt.Errorf("%s: EC2 began and went back%s", in.task(step, e), why)
}

const (
	settled = 30 // looks until what EC2 took shows
	lost    = 5  // looks until what was perhaps lost shows
)

// changed looks until the state is another.
func (in *instance) changed(ctx context.Context, e swap.Entry, was swap.State, looks int) (bool, error) {
	for range looks {
		s, err := in.Look(ctx, e)
		if err != nil || s != was {
			return err == nil, err
		}
		if err := in.pause(ctx); err != nil {
			return false, err
		}
	}
	return false, nil
}

// behind says that EC2 refuses a step because things are not as they were seen: it may be done
// already, or what came before it is not through.
func behind(step swap.Step, code string) bool {
	switch code {
	case "IncorrectState", "IncorrectInstanceState", "VolumeInUse", "InvalidAttachment.NotFound":
		return true
	case "OperationNotPermitted": // the root of an instance that does not stand still yet
		return step == swap.Release
	case "InvalidParameterValue": // no volume at the root
		return step == swap.Start
	}
	return false
}

// unclear says that nobody knows whether EC2 did what it was asked.
func unclear(err error, code string) bool {
	var known *remediate.RetryError
	switch code {
	case "":
		var own *stateError
		return !errors.As(err, &known) && !errors.As(err, &own)
	case "InternalError", "InternalFailure", "ServiceUnavailable", "Unavailable":
		return true
	}
	return false
}

// A stateError is a refusal of our own: EC2 was not asked.
type stateError struct{ text string }

func (e *stateError) Error() string { return e.text }

// task is a step for people.
func (in *instance) task(step swap.Step, e swap.Entry) string {
	switch step {
	case swap.Stop, swap.Start:
		return fmt.Sprintf("cannot %s instance %s", step, in.id)
	case swap.Snap:
		return "cannot make a snapshot of " + e.Slot.Volume
	}
	return fmt.Sprintf("cannot move volume %s (%s)", e.Slot.Volume, step)
}

// request asks EC2 for a step.
func (in *instance) request(ctx context.Context, step swap.Step, e swap.Entry, helper string) (err error) {
	switch step {
	case swap.Stop:
		return in.stop(ctx)
	case swap.Start:
		if err := in.restore(ctx, e); err != nil {
			return err
		}
		_, err = in.client.StartInstances(ctx, &sdk.StartInstancesInput{InstanceIds: []string{in.id}}, source.Once)
	case swap.Snap:
		_, err = in.client.CreateSnapshot(ctx, in.snapshot(e), source.Once)
	case swap.Release:
		err = in.detach(ctx, e.Slot.Volume, in.id, false)
	case swap.Recover:
		if len(in.volume.Attachments) != 1 {
			return &stateError{"the volume hangs on nothing that it could be taken off"}
		}
		hangs := !in.detaching.since.IsZero() // the agent has let go of it: the helper's kernel has not
		err = in.detach(ctx, e.Slot.Volume, aws.ToString(in.volume.Attachments[0].InstanceId), hangs)
		in.detaching.forced = in.detaching.forced || hangs && err == nil
	case swap.Lend:
		err = in.lend(ctx, e, helper)
	case swap.Return:
		var was detail
		if was, err = readDetail(e.Slot); err == nil {
			err = in.attach(ctx, e.Slot.Volume, in.id, was.Device)
		}
	default:
		return &stateError{fmt.Sprintf("EC2 knows no step %q", step)}
	}
	return err
}

// stop stops the instance without a word to Windows, which does not answer; one that is still
// stopping after a long time is forced.
func (in *instance) stop(ctx context.Context) error {
	hangs := !in.stopping.since.IsZero()
	_, err := in.client.StopInstances(ctx, &sdk.StopInstancesInput{InstanceIds: []string{in.id}, SkipOsShutdown: aws.Bool(true), Force: &hangs}, source.Once)
	in.stopping.forced = in.stopping.forced || hangs && err == nil
	return err
}

// detach takes a volume off one instance and no other.
func (in *instance) detach(ctx context.Context, volume, from string, force bool) error {
	_, err := in.client.DetachVolume(ctx, &sdk.DetachVolumeInput{VolumeId: &volume, InstanceId: &from, Force: &force}, source.Once)
	return err
}

func (in *instance) attach(ctx context.Context, volume, to, device string) error {
	_, err := in.client.AttachVolume(ctx, &sdk.AttachVolumeInput{VolumeId: &volume, InstanceId: &to, Device: &device}, source.Once)
	return err
}

// lendTries is how often a device name on the helper is chosen, when another process took it in
// between.
const lendTries = 8

// lend hangs the volume on the helper of that name that has the fewest.
func (in *instance) lend(ctx context.Context, e swap.Entry, name string) error {
	fit, err := in.fit(ctx)
	if err != nil {
		return &remediate.RetryError{After: 20 * time.Second, Err: err}
	}
	var to *types.Instance
	for i := range fit {
		if nameOf(&fit[i]) == name && (to == nil || lent(&fit[i]) < lent(to)) {
			to = &fit[i]
		}
	}
	if to == nil {
		return &remediate.RetryError{After: 20 * time.Second, Err: fmt.Errorf("the helper %s no longer runs in %s", name, in.zone())}
	}
	names := free(to, e.Slot.Volume)
	for _, device := range names[:min(len(names), lendTries)] {
		err = in.attach(ctx, e.Slot.Volume, aws.ToString(to.InstanceId), device)
		if source.Code(err) != "InvalidParameterValue" { // "Attachment point … is already in use"
			return err
		}
	}
	if err == nil {
		return &remediate.RetryError{After: 20 * time.Second, Err: fmt.Errorf("the helper %s has no device name left", name)}
	}
	return err
}

// restore makes sure that the volume is back exactly as it hung. It waits while it is attaching.
func (in *instance) restore(ctx context.Context, e swap.Entry) error {
	if e.Number == 0 {
		return nil
	}
	was, err := readDetail(e.Slot)
	if err != nil {
		return err
	}
	for asked := false; ; {
		if len(in.volume.Attachments) != 1 || aws.ToString(in.volume.Attachments[0].InstanceId) != in.id {
			return nil // somebody took it elsewhere: the next look says so
		}
		a := in.volume.Attachments[0]
		device, right := aws.ToString(a.Device), aws.ToBool(a.DeleteOnTermination) == (e.Slot.Remark[onTermination] == deleted)
		switch {
		case device != was.Device:
			return &stateError{fmt.Sprintf("volume %s is on %s as %s, and hung there as %s: detach it and run this again", e.Slot.Volume, in.id, device, was.Device)}
		case a.State == types.VolumeAttachmentStateAttached && right:
			return nil
		case a.State == types.VolumeAttachmentStateAttached && !asked:
			if _, err := in.client.ModifyInstanceAttribute(ctx, in.terminates(device, !aws.ToBool(a.DeleteOnTermination), false), source.Once); err != nil {
				return err
			}
			asked = true
		}
		if err := in.pause(ctx); err != nil {
			return err
		}
		if err := in.readVolume(ctx, e.Slot.Volume); err != nil {
			return err
		}
	}
}

// terminates asks that what hangs as a device goes, or stays, when the instance is terminated.
func (in *instance) terminates(device string, yes, dry bool) *sdk.ModifyInstanceAttributeInput {
	return &sdk.ModifyInstanceAttributeInput{InstanceId: &in.id, DryRun: aws.Bool(dry), BlockDeviceMappings: []types.InstanceBlockDeviceMappingSpecification{
		{DeviceName: &device, Ebs: &types.EbsInstanceBlockDeviceSpecification{DeleteOnTermination: &yes}},
	}}
}

// snapshotTag is the tag of snapshots, whose value is the mark of the entry.
const snapshotTag = "unbrick"

func (in *instance) snapshot(e swap.Entry) *sdk.CreateSnapshotInput {
	tag := func(k, v string) types.Tag { return types.Tag{Key: &k, Value: &v} }
	return &sdk.CreateSnapshotInput{
		VolumeId: &e.Slot.Volume, Description: aws.String("by unbrick, before it repairs the volume of " + e.Host),
		TagSpecifications: []types.TagSpecification{{ResourceType: types.ResourceTypeSnapshot, Tags: []types.Tag{tag(snapshotTag, e.Mark), tag("Name", e.Mark)}}},
	}
}

// hasSnapshot says whether the entry's snapshot is there: from then on the volume may change.
func (in *instance) hasSnapshot(ctx context.Context, e swap.Entry) (bool, error) {
	out, err := in.client.DescribeSnapshots(ctx, &sdk.DescribeSnapshotsInput{OwnerIds: []string{"self"}, Filters: []types.Filter{
		filter("tag:"+snapshotTag, e.Mark), filter("volume-id", e.Slot.Volume), filter("status", "pending", "completed"),
	}})
	if err != nil {
		return false, in.say(ctx, "cannot look for the snapshot "+e.Mark, err)
	}
	return len(out.Snapshots) > 0, nil
}

// Removal returns the command that removes the snapshot of an entry. Once that is gone it does
// nothing (xargs -r), and succeeds.
func Removal(e swap.Entry) string {
	where := ""
	if d, err := readDetail(e.Slot); err == nil {
		where = " --region " + d.Region
	}
	if a, err := parseAddress(e.Address); err == nil && a.profile != "" {
		where += " --profile '" + strings.ReplaceAll(a.profile, "'", "") + "'"
	}
	return fmt.Sprintf("aws ec2 describe-snapshots%s --owner-ids self --filters Name=tag:%s,Values=%s --query 'Snapshots[].SnapshotId' --output text | xargs -r -n1 aws ec2 delete-snapshot%s --snapshot-id", where, snapshotTag, e.Mark, where)
}

// stopped returns when an instance was stopped, as its reason says: "User initiated (2024-07-19
// 05:12:33 GMT)". Zero if it does not.
func stopped(one types.Instance) time.Time {
	_, text, _ := strings.Cut(aws.ToString(one.StateTransitionReason), "(")
	at, err := time.Parse("2006-01-02 15:04:05 GMT", strings.TrimSuffix(text, ")"))
	if err != nil || one.State == nil || one.State.Name != types.InstanceStateNameStopped {
		return time.Time{}
	}
	return at
}
