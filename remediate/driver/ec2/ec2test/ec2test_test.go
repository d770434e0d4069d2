package ec2test_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"

	"unbrick/remediate/driver/ec2/ec2test"
)

// client is Amazon's own, which nobody here wrote.
func client(t *testing.T, s *ec2test.Server, key string) *sdk.Client {
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return sdk.New(sdk.Options{Region: s.Region, BaseEndpoint: &server.URL, Retryer: aws.NopRetryer{},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: s.Key, SecretAccessKey: key}, nil
		})})
}

func code(err error) string {
	var api smithy.APIError
	if err == nil {
		return ""
	}
	if !errors.As(err, &api) {
		return err.Error()
	}
	return api.ErrorCode()
}

// What the real one refuses is refused, with its code, and changes nothing.
func TestRefuses(t *testing.T) {
	s := ec2test.New("eu-west-1")
	on, root := s.Launch(ec2test.Instance{}, ec2test.Volume{})
	other, _ := s.Launch(ec2test.Instance{}, ec2test.Volume{})
	far, _ := s.Launch(ec2test.Instance{Zone: "eu-west-1b"}, ec2test.Volume{})
	off, lone := s.Launch(ec2test.Instance{State: "stopped"}, ec2test.Volume{})
	guarded, _ := s.Launch(ec2test.Instance{StopProtected: true}, ec2test.Volume{})
	starting, _ := s.Launch(ec2test.Instance{State: "pending"}, ec2test.Volume{})
	s.Set("", lone, func(_ *ec2test.Instance, v *ec2test.Volume) { v.Attachment = ec2test.Attachment{} })
	c, ctx := client(t, s, s.Secret), t.Context()
	attach := func(volume, to, device string) func() error {
		return func() error {
			_, err := c.AttachVolume(ctx, &sdk.AttachVolumeInput{VolumeId: &volume, InstanceId: &to, Device: &device})
			return err
		}
	}
	stop := func(id string, dry bool) func() error {
		return func() error {
			_, err := c.StopInstances(ctx, &sdk.StopInstancesInput{InstanceIds: []string{id}, DryRun: &dry})
			return err
		}
	}
	start := func(id string) func() error {
		return func() error {
			_, err := c.StartInstances(ctx, &sdk.StartInstancesInput{InstanceIds: []string{id}})
			return err
		}
	}
	detach := func(volume, from string) func() error {
		return func() error {
			_, err := c.DetachVolume(ctx, &sdk.DetachVolumeInput{VolumeId: &volume, InstanceId: &from})
			return err
		}
	}
	list := func(in sdk.DescribeInstancesInput) func() error {
		return func() error { _, err := c.DescribeInstances(ctx, &in); return err }
	}
	for _, r := range []struct {
		do   func() error
		want string
	}{
		{attach(root, other, "/dev/sdf"), "VolumeInUse"},
		{attach(lone, far, "/dev/sdf"), "InvalidVolume.ZoneMismatch"},
		{attach(lone, other, "/dev/sda1"), "InvalidParameterValue"},
		{attach(lone, other, "C:"), "InvalidParameterValue"},
		{attach(lone, starting, "/dev/sdf"), "IncorrectState"},
		{attach("vol-0", other, "/dev/sdf"), "InvalidVolume.NotFound"},
		{attach(lone, "i-0", "/dev/sdf"), "InvalidInstanceID.NotFound"},
		{detach(root, on), "OperationNotPermitted"},
		{detach(lone, off), "IncorrectState"},
		{detach(root, other), "InvalidAttachment.NotFound"},
		{start(off), "InvalidParameterValue"}, // without its root
		{stop(guarded, false), "OperationNotPermitted"},
		{stop(starting, false), "IncorrectInstanceState"},
		{stop(on, true), "DryRunOperation"},
		{stop("i-0", false), "InvalidInstanceID.NotFound"},
		{list(sdk.DescribeInstancesInput{MaxResults: aws.Int32(4)}), "InvalidParameterValue"},
		{list(sdk.DescribeInstancesInput{MaxResults: aws.Int32(5), InstanceIds: []string{on}}), "InvalidParameterCombination"},
		{list(sdk.DescribeInstancesInput{NextToken: aws.String("mine")}), "InvalidPaginationToken"},
		{list(sdk.DescribeInstancesInput{Filters: []types.Filter{{Name: aws.String("colour"), Values: []string{"red"}}}}), "InvalidParameterValue"},
		{list(sdk.DescribeInstancesInput{IncludeManagedResources: aws.Bool(true)}), "UnknownParameter"},
		{func() error { _, err := c.DescribeRegions(ctx, nil); return err }, "InvalidAction"},
		{func() error { _, err := client(t, s, "wrong").DescribeVolumes(ctx, nil); return err }, "SignatureDoesNotMatch"},
	} {
		if got := code(r.do()); got != r.want {
			t.Errorf("%q, want %q", got, r.want)
		}
	}
	if s.Changes() > 0 {
		t.Errorf("%d changes", s.Changes())
	}
}

// A change is not seen at once, then under way, then through; what is done twice is once.
func TestTime(t *testing.T) {
	s := ec2test.New("eu-west-1")
	id, volume := s.Launch(ec2test.Instance{}, ec2test.Volume{})
	c, ctx := client(t, s, s.Secret), t.Context()
	for range 2 {
		if _, err := c.StopInstances(ctx, &sdk.StopInstancesInput{InstanceIds: []string{id}}); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"running", "stopping", "stopped", "stopped"} {
		out, err := c.DescribeInstances(ctx, &sdk.DescribeInstancesInput{InstanceIds: []string{id}})
		if err != nil || string(out.Reservations[0].Instances[0].State.Name) != want {
			t.Errorf("%+v, %v, want %s", out, err, want)
		}
	}
	if _, err := c.DetachVolume(ctx, &sdk.DetachVolumeInput{VolumeId: &volume}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"attached", "detaching", ""} {
		out, err := c.DescribeVolumes(ctx, &sdk.DescribeVolumesInput{VolumeIds: []string{volume}})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, a := range out.Volumes[0].Attachments {
			got = string(a.State)
		}
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if s.Changes() != 2 {
		t.Errorf("%d changes", s.Changes())
	}
}
