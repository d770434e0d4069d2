package ec2

import (
	"context"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"unbrick/inventory"
	source "unbrick/inventory/source/ec2"
	"unbrick/remediate/swap"
)

var _ swap.Checker = (*instance)(nil)

// denied is the code of a request for which a right is missing.
const denied = "UnauthorizedOperation"

// A trial is a right, and a dry run that tells whether it is there.
type trial struct {
	right string
	ask   func() error
}

// Check implements swap.Checker: by dry runs of all that a swap asks for.
func (in *instance) Check(ctx context.Context, snapshot bool) error {
	// What a swap reads with may be asked again and again; somebody waits for this.
	out, err := in.client.DescribeInstances(ctx, &sdk.DescribeInstancesInput{Filters: []types.Filter{filter("instance-id", in.id)}}, source.Once)
	if source.Code(err) == denied {
		return lacking([]string{"ec2:DescribeInstances"})
	}
	if err != nil {
		return in.say(ctx, "cannot look at "+in.id, err)
	}
	for _, res := range out.Reservations {
		for _, one := range res.Instances {
			in.seen = one
		}
	}
	if in.seen.InstanceId == nil {
		return nil // Describe says that there is none
	}
	var lacks []string
	for _, t := range in.trials(ctx, snapshot) {
		switch err := t.ask(); {
		case source.Code(err) == denied:
			lacks = append(lacks, t.right)
		case err != nil && source.Code(err) == "": // no answer
			return in.say(ctx, "cannot ask for the right "+t.right, err)
		}
	}
	helpers, _, err := in.helpers.get(ctx, "")
	if root, ok := in.root(); err == nil && ok {
		for _, h := range helpers { // a policy may be by their tags
			for _, t := range in.moves(ctx, aws.ToString(root.Ebs.VolumeId), aws.ToString(h.InstanceId)) {
				if source.Code(t.ask()) == denied && !slices.Contains(lacks, t.right) {
					lacks = append(lacks, t.right+" on the helper "+nameOf(&h))
				}
			}
		}
	}
	if len(lacks) > 0 {
		return lacking(lacks)
	}
	return err
}

func lacking(rights []string) error {
	return &inventory.RightError{Right: strings.Join(rights, ", "), Where: "in a policy of the role or user of these credentials (aws sts get-caller-identity names it)"}
}

// trials are those of the instance and its root volume.
func (in *instance) trials(ctx context.Context, snapshot bool) []trial {
	dry, id := aws.Bool(true), []string{in.id}
	all := []trial{
		{"ec2:DescribeVolumes", func() error {
			_, err := in.client.DescribeVolumes(ctx, &sdk.DescribeVolumesInput{DryRun: dry}, source.Once)
			return err
		}},
		{"ec2:DescribeInstanceTypes", func() error {
			_, err := in.client.DescribeInstanceTypes(ctx, &sdk.DescribeInstanceTypesInput{DryRun: dry}, source.Once)
			return err
		}},
		{"ec2:DescribeInstanceAttribute", func() error {
			_, err := in.client.DescribeInstanceAttribute(ctx, &sdk.DescribeInstanceAttributeInput{InstanceId: &in.id, Attribute: types.InstanceAttributeNameDisableApiStop, DryRun: dry}, source.Once)
			return err
		}},
		{"ec2:StopInstances", func() error {
			_, err := in.client.StopInstances(ctx, &sdk.StopInstancesInput{InstanceIds: id, DryRun: dry}, source.Once)
			return err
		}},
		{"ec2:StartInstances", func() error {
			_, err := in.client.StartInstances(ctx, &sdk.StartInstancesInput{InstanceIds: id, DryRun: dry}, source.Once)
			return err
		}},
		{"ec2:ModifyInstanceAttribute", func() error {
			_, err := in.client.ModifyInstanceAttribute(ctx, in.terminates(aws.ToString(in.seen.RootDeviceName), true, true), source.Once)
			return err
		}},
	}
	root, ok := in.root()
	if !ok {
		return all // Describe refuses it
	}
	volume := aws.ToString(root.Ebs.VolumeId)
	all = append(all, in.moves(ctx, volume, in.id)...)
	if snapshot {
		all = append(all, in.snaps(ctx, volume)...)
	}
	return all
}

// moves are the trials of hanging a volume on an instance, and of taking it off.
func (in *instance) moves(ctx context.Context, volume, at string) []trial {
	dry, device := aws.Bool(true), aws.String("/dev/sdf")
	return []trial{
		{"ec2:DetachVolume", func() error {
			_, err := in.client.DetachVolume(ctx, &sdk.DetachVolumeInput{VolumeId: &volume, InstanceId: &at, DryRun: dry}, source.Once)
			return err
		}},
		{"ec2:AttachVolume", func() error {
			_, err := in.client.AttachVolume(ctx, &sdk.AttachVolumeInput{VolumeId: &volume, InstanceId: &at, Device: device, DryRun: dry}, source.Once)
			return err
		}},
	}
}

func (in *instance) snaps(ctx context.Context, volume string) []trial {
	return []trial{
		{"ec2:DescribeSnapshots", func() error {
			_, err := in.client.DescribeSnapshots(ctx, &sdk.DescribeSnapshotsInput{OwnerIds: []string{"self"}, DryRun: aws.Bool(true)}, source.Once)
			return err
		}},
		{"ec2:CreateSnapshot (with ec2:CreateTags)", func() error {
			want := in.snapshot(swap.Entry{Mark: "unbrick-doctor", Slot: swap.Slot{Volume: volume}})
			want.DryRun = aws.Bool(true)
			_, err := in.client.CreateSnapshot(ctx, want, source.Once)
			return err
		}},
	}
}
