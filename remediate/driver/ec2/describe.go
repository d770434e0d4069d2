package ec2

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	source "unbrick/inventory/source/ec2"
	"unbrick/remediate/swap"
)

// AcceptTag is a tag of an instance by which its owner says that a refusal does not hold for it.
// Its value is a list of words: "standby", "instance-store", "platform".
const AcceptTag = "unbrick:accept"

// Describe implements swap.Instance.
func (in *instance) Describe(ctx context.Context) (swap.Slot, error) {
	if err := in.read(ctx); err != nil {
		return swap.Slot{}, err
	}
	if _, err := in.power(); err != nil {
		return swap.Slot{}, err
	}
	if err := in.swappable(ctx); err != nil {
		return swap.Slot{}, fmt.Errorf("the root volume of %s is not swapped: %w", in.id, err)
	}
	root, ok := in.root()
	if !ok {
		return swap.Slot{}, fmt.Errorf("instance %s has no volume at its root device %s\nattach it there: aws ec2 attach-volume --region %s --instance-id %s --device %s --volume-id VOLUME", in.id, aws.ToString(in.seen.RootDeviceName), in.name, in.id, aws.ToString(in.seen.RootDeviceName))
	}
	volume := aws.ToString(root.Ebs.VolumeId)
	if err := in.readVolume(ctx, volume); err != nil {
		return swap.Slot{}, err
	}
	if aws.ToBool(in.volume.MultiAttachEnabled) {
		return swap.Slot{}, fmt.Errorf("the root volume of %s is not swapped: %s can be attached to several instances at once, and two would write to it\nrepair it by another way in", in.id, volume)
	}
	if err := in.may(ctx); err != nil {
		return swap.Slot{}, err
	}
	return in.slot(volume, aws.ToBool(root.Ebs.DeleteOnTermination))
}

// root returns what hangs at the root device.
func (in *instance) root() (types.InstanceBlockDeviceMapping, bool) {
	for _, m := range in.seen.BlockDeviceMappings {
		if aws.ToString(m.DeviceName) == aws.ToString(in.seen.RootDeviceName) && m.Ebs != nil {
			return m, true
		}
	}
	return types.InstanceBlockDeviceMapping{}, false
}

func (in *instance) slot(volume string, terminates bool) (swap.Slot, error) {
	device := aws.ToString(in.seen.RootDeviceName)
	b, err := json.Marshal(detail{Region: in.name, Zone: in.zone(), Device: device, Key: aws.ToString(in.volume.KmsKeyId)})
	if err != nil {
		return swap.Slot{}, err
	}
	remark := map[string]string{onTermination: kept}
	if terminates {
		remark[onTermination] = deleted
	}
	if key := aws.ToString(in.volume.KmsKeyId); key != "" {
		remark["key"] = key + ": who attaches the volume needs kms:CreateGrant on it"
	}
	if aws.ToString(in.seen.TpmSupport) != "" {
		remark["tpm"] = "the helper does not have it: a volume that BitLocker bound to it needs its recovery key"
	}
	if fleet := source.Tags(in.seen.Tags)["aws:ec2:fleet-id"]; fleet != "" {
		remark["fleet"] = fleet + " launched it: one that keeps its size may replace it while it stands still"
	}
	for _, n := range in.seen.NetworkInterfaces {
		if n.Association != nil && aws.ToString(n.Association.IpOwnerId) == "amazon" {
			remark["address"] = aws.ToString(n.Association.PublicIp) + " is no Elastic IP address: the instance comes back with another"
		}
	}
	return swap.Slot{Volume: volume, Name: fmt.Sprintf("%s as %s of %s", volume, device, in.label()), Detail: b, Remark: remark}, nil
}

// label is the instance for people.
func (in *instance) label() string {
	if name := source.Tags(in.seen.Tags)["Name"]; name != "" {
		return name + " (" + in.id + ")"
	}
	return in.id
}

// swappable says why an instance must not be stopped, or not lose its volume for a while.
func (in *instance) swappable(ctx context.Context) error {
	tags := source.Tags(in.seen.Tags)
	accepts := strings.FieldsFunc(tags[AcceptTag], func(c rune) bool { return c == ' ' || c == ',' })
	accept := func(word string) string {
		return fmt.Sprintf("then tag it: aws ec2 create-tags --region %s --resources %s --tags Key=%s,Value=%s", in.name, in.id, AcceptTag, word)
	}
	switch {
	case in.seen.RootDeviceType != types.DeviceTypeEbs:
		return errors.New("its root is instance store: it would be lost, and cannot be taken off\nrepair it while it runs, or launch it anew")
	case !isWindows(&in.seen) && !slices.Contains(accepts, "platform"):
		return errors.New("EC2 does not know it for Windows\ncorrect the address; if it is Windows all the same, " + accept("platform"))
	case tags[source.GroupTag] != "" && !slices.Contains(accepts, "standby"):
		return fmt.Errorf("the Auto Scaling group %s would terminate it when it stops\nput it in standby (aws autoscaling enter-standby --should-decrement-desired-capacity) or suspend the group's processes HealthCheck and ReplaceUnhealthy, %s; or let the group launch it anew", tags[source.GroupTag], accept("standby"))
	case in.seen.Operator != nil && aws.ToBool(in.seen.Operator.Managed):
		return fmt.Errorf("%s manages it\nhave it launched anew there", aws.ToString(in.seen.Operator.Principal))
	case in.seen.InstanceLifecycle != "":
		return fmt.Errorf("it is a %s instance: it may not be stopped, or not start again\nlaunch it anew, or make an image of it first", in.seen.InstanceLifecycle)
	case len(in.seen.ProductCodes) > 0:
		return fmt.Errorf("its volume has the product code %s of AWS Marketplace: EC2 attaches it to instances that are stopped alone\nhang it on a stopped helper by hand, start that, and back", aws.ToString(in.seen.ProductCodes[0].ProductCodeId))
	case in.seen.StateReason != nil && aws.ToString(in.seen.StateReason.Code) == "Client.UserInitiatedHibernate":
		return errors.New("it hibernates: it would go on with a disk that has changed\nstart it and look, or have Windows shut down")
	}
	if err := in.keeps(ctx, slices.Contains(accepts, "instance-store"), accept("instance-store")); err != nil {
		return err
	}
	return in.stoppable(ctx)
}

// keeps refuses to stop an instance with disks that forget when it stops.
func (in *instance) keeps(ctx context.Context, accepted bool, how string) error {
	if accepted || in.seen.State.Name == types.InstanceStateNameStopped {
		return nil // what it had is lost already
	}
	kind, err := in.kind(ctx, in.seen.InstanceType)
	if err != nil {
		return err
	}
	if aws.ToBool(kind.InstanceStorageSupported) {
		return fmt.Errorf("its type %s has instance store volumes, and what is on them is lost when it stops\nif nothing is on them that matters, %s", in.seen.InstanceType, how)
	}
	return nil
}

// stoppable refuses an instance that is protected against being stopped. It asks once: EC2 itself
// refuses to stop one that was protected since.
func (in *instance) stoppable(ctx context.Context) error {
	in.mu.Lock()
	known := in.free[in.id]
	in.mu.Unlock()
	if known {
		return nil
	}
	out, err := in.client.DescribeInstanceAttribute(ctx, &sdk.DescribeInstanceAttributeInput{InstanceId: &in.id, Attribute: types.InstanceAttributeNameDisableApiStop})
	if err != nil {
		return in.say(ctx, "cannot ask whether it may be stopped", err)
	}
	if out.DisableApiStop != nil && aws.ToBool(out.DisableApiStop.Value) {
		return fmt.Errorf("it is protected against being stopped\nif it may be: aws ec2 modify-instance-attribute --region %s --instance-id %s --no-disable-api-stop", in.name, in.id)
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.free[in.id] = true
	return nil
}

// may makes sure, once in a region, that every right is there: an instance that was stopped and
// cannot be started would be worse off than before.
func (in *instance) may(ctx context.Context) error {
	select {
	case in.asking <- struct{}{}:
		defer func() { <-in.asking }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if in.allowed {
		return nil
	}
	for _, t := range in.trials(ctx, false) {
		if err := t.ask(); !granted(source.Code(err)) {
			return in.say(ctx, "cannot swap the volume of "+in.id+", so it is not stopped", err)
		}
	}
	in.allowed = true
	return nil
}

// granted says that the answer to a dry run means that the right is there: EC2 looked at it, and
// perhaps at how things stand too.
func granted(code string) bool {
	switch code {
	case "DryRunOperation", "IncorrectState", "IncorrectInstanceState", "VolumeInUse", "OperationNotPermitted", "UnsupportedOperation":
		return true
	}
	return false
}
