package ec2

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	source "unbrick/inventory/source/ec2"
	"unbrick/remediate"
)

// A region is EC2 in one, for one account. It is safe for concurrent use.
type region struct {
	client *sdk.Client
	name   string
	opt    Options

	instances *batch[types.Instance]
	volumes   *batch[types.Volume]
	helpers   *batch[[]types.Instance] // by nothing: all of them

	mu    sync.Mutex
	types map[types.InstanceType]types.InstanceTypeInfo
	free  map[string]bool // instances that are not protected against being stopped

	asking  chan struct{} // held by who asks for the rights
	allowed bool          // they are there
}

func newRegion(client *sdk.Client, name string, o Options) *region {
	r := &region{client: client, name: name, opt: o, types: map[types.InstanceType]types.InstanceTypeInfo{}, free: map[string]bool{}, asking: make(chan struct{}, 1)}
	r.instances = &batch[types.Instance]{fetch: r.fetchInstances, most: source.MaxValues}
	r.volumes = &batch[types.Volume]{fetch: r.fetchVolumes, most: source.MaxValues}
	r.helpers = &batch[[]types.Instance]{fetch: r.fetchHelpers, most: 1000}
	return r
}

// pause waits between two looks.
func (r *region) pause(ctx context.Context) error {
	select {
	case <-time.After(r.opt.Every):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func filter(name string, values ...string) types.Filter {
	return types.Filter{Name: aws.String(name), Values: values}
}

// pageSize is more than a batch or a team's helpers have, so that there is one page.
const pageSize = 1000

// list reads all instances that pass a filter. Asked by filter and not by id, EC2 does not
// refuse all when it does not know one.
func (r *region) list(ctx context.Context, f types.Filter) (all []types.Instance, err error) {
	in := &sdk.DescribeInstancesInput{Filters: []types.Filter{f}, MaxResults: aws.Int32(pageSize)}
	for {
		out, err := r.client.DescribeInstances(ctx, in)
		if err != nil {
			return nil, r.say(ctx, "cannot look at instances in "+r.name, err)
		}
		for _, res := range out.Reservations {
			all = append(all, res.Instances...)
		}
		if in.NextToken, err = next(in.NextToken, out.NextToken); err != nil || in.NextToken == nil {
			return all, err
		}
	}
}

// next returns the token of the next page, nil after the last.
func next(was, is *string) (*string, error) {
	if aws.ToString(is) == "" {
		return nil, nil
	}
	if aws.ToString(is) == aws.ToString(was) {
		return nil, errors.New("the pages of EC2 go round in a circle")
	}
	return is, nil
}

func (r *region) fetchInstances(ctx context.Context, ids []string) (map[string]types.Instance, error) {
	all, err := r.list(ctx, filter("instance-id", ids...))
	found := make(map[string]types.Instance, len(all))
	for _, in := range all {
		found[aws.ToString(in.InstanceId)] = in
	}
	return found, err
}

func (r *region) fetchVolumes(ctx context.Context, ids []string) (map[string]types.Volume, error) {
	found := make(map[string]types.Volume, len(ids))
	in := &sdk.DescribeVolumesInput{Filters: []types.Filter{filter("volume-id", ids...)}, MaxResults: aws.Int32(500)}
	for {
		out, err := r.client.DescribeVolumes(ctx, in)
		if err != nil {
			return nil, r.say(ctx, "cannot look at volumes in "+r.name, err)
		}
		for _, v := range out.Volumes {
			found[aws.ToString(v.VolumeId)] = v
		}
		if in.NextToken, err = next(in.NextToken, out.NextToken); err != nil || in.NextToken == nil {
			return found, err
		}
	}
}

// kind returns what EC2 says of an instance type. It is asked once.
func (r *region) kind(ctx context.Context, t types.InstanceType) (types.InstanceTypeInfo, error) {
	r.mu.Lock()
	info, ok := r.types[t]
	r.mu.Unlock()
	if ok {
		return info, nil
	}
	out, err := r.client.DescribeInstanceTypes(ctx, &sdk.DescribeInstanceTypesInput{InstanceTypes: []types.InstanceType{t}})
	if err != nil {
		return info, r.say(ctx, "cannot look at instance type "+string(t), err)
	}
	if len(out.InstanceTypes) != 1 {
		return info, fmt.Errorf("EC2 says nothing of instance type %s", t)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.types[t] = out.InstanceTypes[0]
	return r.types[t], nil
}

// later is when to come again after an error that passes by itself.
func later(code string) time.Duration {
	switch code {
	case "RequestLimitExceeded", "Throttling", "ThrottlingException", "RequestThrottled":
		return 5 * time.Second
	case "InternalError", "InternalFailure", "ServiceUnavailable", "Unavailable", "InvalidInstanceID.NotFound", "InvalidVolume.NotFound":
		return 10 * time.Second
	case "AttachmentLimitExceeded": // volumes go back from helpers
		return 20 * time.Second
	case "ConcurrentSnapshotLimitExceeded", "SnapshotCreationPerVolumeRateExceeded", "SnapshotLimitExceeded":
		return 20 * time.Second
	case "InsufficientInstanceCapacity", "InsufficientHostCapacity", "InsufficientCapacity":
		return time.Minute
	}
	return 0
}

// say explains an error of EC2's, and says whether it may pass.
func (r *region) say(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	var known *remediate.RetryError
	if errors.As(err, &known) {
		return err
	}
	said := source.Explain(ctx, what, err)
	if after := later(source.Code(err)); after > 0 && ctx.Err() == nil {
		return &remediate.RetryError{After: after, Err: said}
	}
	return said
}
