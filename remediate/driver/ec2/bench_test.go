package ec2_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	source "unbrick/inventory/source/ec2"
	"unbrick/remediate/driver/ec2"
	"unbrick/remediate/driver/ec2/ec2test"
	"unbrick/remediate/rescue"
	"unbrick/remediate/swap"
	"unbrick/remediate/swap/swaptest"
)

const (
	thousand = 1000
	atOnce   = 200
	helpers  = 12
	latency  = 10 * time.Millisecond // of a request
	every    = 20 * time.Millisecond // between looks
)

// BenchmarkThousand takes the volumes of 1,000 instances to helpers and back, 100 at a time, on
// a simulated region that takes 20 ms for a request: by bare calls of the SDK, each of which is
// polled for its own instance, and by the driver, which looks before it acts and joins looks.
// It reports the calls for each host, and how long the busiest action takes at the rate that an
// account has: that, and not the wall time here, is what a real region makes of it.
func BenchmarkThousand(b *testing.B) {
	b.Run("bare", func(b *testing.B) {
		bench(b, func(url string) func(context.Context, job) error {
			c, _, err := source.Connect(b.Context(), source.Connection{Region: where, Endpoint: url})
			if err != nil {
				b.Fatal(err)
			}
			return func(ctx context.Context, j job) error { return bare(ctx, c, j) }
		})
	})
	b.Run("driver", func(b *testing.B) {
		bench(b, func(url string) func(context.Context, job) error {
			o := ec2.Options{Endpoint: url, Every: every, Rate: 1e6}
			for n := range helpers {
				o.Helpers = append(o.Helpers, fmt.Sprint("helper-", n))
			}
			d := swap.New(swap.Options{Way: "ec2", Platform: ec2.New(o), Desk: &swaptest.Desk{}, Records: &rescue.MemRecords{}, PerHelper: 20, Every: every})
			return func(ctx context.Context, j job) error {
				return swaptest.Through(ctx, d, target(where+"/"+j.instance), every)
			}
		})
	})
}

// A job is one instance with its volume, and a place on a helper for who chooses none.
type job struct {
	instance, volume, helper, device string
}

// bench makes a region and does all of it, as often as is asked for.
func bench(b *testing.B, prepare func(url string) func(context.Context, job) error) {
	for b.Loop() {
		b.StopTimer()
		s := ec2test.New(where)
		login(b, s)
		var places []string
		for n := range helpers {
			places = append(places, helper(s, ec2test.Instance{Tags: map[string]string{"Name": fmt.Sprint("helper-", n)}}))
		}
		line := swaptest.NewLine(b, swaptest.API{Changes: ec2test.Changes, Server: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(latency)
			s.ServeHTTP(w, r)
		})})
		do := prepare(line.URL)
		var jobs []job
		for n := range thousand {
			id, volume := s.Launch(windows(ec2test.Instance{}), ec2test.Volume{})
			jobs = append(jobs, job{id, volume, places[n%helpers], fmt.Sprintf("/dev/xvdb%c", 'a'+n/helpers%26)})
		}
		b.StartTimer()
		swaptest.Each(b, thousand, atOnce, func(n int) error { return do(b.Context(), jobs[n]) })
		b.StopTimer()
		report(b, s)
		b.StartTimer()
	}
}

// report says what it took, and makes sure that all is as it was.
func report(b *testing.B, s *ec2test.Server) {
	total, busiest := 0, 0.0
	for action, n := range s.Calls() {
		total += n
		rate := 5.0
		if len(action) > 8 && action[:8] == "Describe" {
			rate = 20
		}
		busiest = max(busiest, float64(n)/rate)
	}
	b.ReportMetric(float64(total)/thousand, "calls/host")
	b.ReportMetric(busiest, "s-at-AWS-rates")
	b.ReportMetric(float64(s.Changes())/thousand, "changes/host")
}

// bare is one host with nothing around it: no look before, no journal, no refusals.
func bare(ctx context.Context, c *sdk.Client, j job) error {
	ids := []string{j.instance}
	power := func(want types.InstanceStateName) error {
		for {
			out, err := c.DescribeInstances(ctx, &sdk.DescribeInstancesInput{InstanceIds: ids})
			if err != nil || out.Reservations[0].Instances[0].State.Name == want {
				return err
			}
			time.Sleep(every)
		}
	}
	place := func(want types.VolumeAttachmentState) error {
		for {
			out, err := c.DescribeVolumes(ctx, &sdk.DescribeVolumesInput{VolumeIds: []string{j.volume}})
			if err != nil {
				return err
			}
			a := out.Volumes[0].Attachments
			if len(a) == 0 && want == "" || len(a) > 0 && a[0].State == want {
				return nil
			}
			time.Sleep(every)
		}
	}
	detach := func() error {
		if _, err := c.DetachVolume(ctx, &sdk.DetachVolumeInput{VolumeId: &j.volume}); err != nil {
			return err
		}
		return place("")
	}
	attach := func(to, device string) error {
		if _, err := c.AttachVolume(ctx, &sdk.AttachVolumeInput{VolumeId: &j.volume, InstanceId: &to, Device: &device}); err != nil {
			return err
		}
		return place(types.VolumeAttachmentStateAttached)
	}
	for _, do := range []func() error{
		func() error { _, err := c.StopInstances(ctx, &sdk.StopInstancesInput{InstanceIds: ids}); return err },
		func() error { return power(types.InstanceStateNameStopped) },
		detach,
		func() error { return attach(j.helper, j.device) },
		detach,
		func() error { return attach(j.instance, "/dev/sda1") },
		func() error {
			_, err := c.ModifyInstanceAttribute(ctx, &sdk.ModifyInstanceAttributeInput{InstanceId: &j.instance, BlockDeviceMappings: []types.InstanceBlockDeviceMappingSpecification{
				{DeviceName: aws.String("/dev/sda1"), Ebs: &types.EbsInstanceBlockDeviceSpecification{DeleteOnTermination: aws.Bool(true)}}}})
			return err
		},
		func() error { _, err := c.StartInstances(ctx, &sdk.StartInstancesInput{InstanceIds: ids}); return err },
		func() error { return power(types.InstanceStateNameRunning) },
	} {
		if err := do(); err != nil {
			return err
		}
	}
	return nil
}
