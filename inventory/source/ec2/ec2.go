// Package ec2 lists the Windows instances of Amazon EC2, as virtual hosts with the way in by
// which their volumes can be swapped. It also makes the client that this way in uses.
//
// Credentials are found as Amazon's own tools find them: the environment, ~/.aws (with profiles,
// roles and IAM Identity Center), or the role of the instance that unbrick runs on. The least
// right is ec2:DescribeInstances. EC2 shows neither the serial number nor the UUID that Windows
// sees; MAC addresses join a host with what other systems know of it.
//
// Facts are those of the EC2 API Reference of version 2016-11-15. It was tried against ec2test
// alone: no account was at hand.
package ec2

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"unbrick/inventory"
)

// A Config says which instances are hosts. Each of IDs and Filters narrows them.
type Config struct {
	Profile  string   // of ~/.aws; AWS_PROFILE if empty
	Regions  []string // to look in; the profile's own if empty
	Endpoint string   // instead of Amazon's: a VPC endpoint, a simulator

	IDs     []string          // i-…
	Filters map[string]string // EC2's own: {"tag:Patch": "win", "placement-group-name": "web"}

	Fields  map[string]string // tag for a field: {"tier": "Criticality", "site": "Office"}
	All     bool              // also those that do not say that they are Windows
	Running bool              // only those that run: a host that loops does
	Page    int               // instances in one answer, 5 to 1,000; 1,000 if 0
}

// A Source is the instances of one account.
type Source struct{ cfg Config }

// maxPage is the limit of DescribeInstances.
const maxPage = 1000

// New checks the configuration. It does not reach EC2.
func New(cfg Config) (*Source, error) {
	if err := inventory.CheckFields(cfg.Fields); err != nil {
		return nil, fmt.Errorf("cannot use EC2: %w", err)
	}
	for _, id := range cfg.IDs {
		if !strings.HasPrefix(id, "i-") {
			return nil, fmt.Errorf("cannot use EC2: %q is no id of an instance; write i-0123456789abcdef0", id)
		}
	}
	if cfg.Page == 0 {
		cfg.Page = maxPage
	}
	if cfg.Page < 5 || cfg.Page > maxPage {
		return nil, errors.New("cannot use EC2: a page has from 5 to 1,000 instances")
	}
	return &Source{cfg}, nil
}

// Hosts implements [inventory.Source].
func (s *Source) Hosts(ctx context.Context) iter.Seq2[inventory.Host, error] {
	return inventory.Read(ctx, "EC2", func(emit func(*inventory.Draft) error) error {
		return s.each(ctx, func(c *sdk.Client, region string) error {
			for _, ids := range parts(s.cfg.IDs) {
				if err := s.list(ctx, c, region, ids, emit); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// Check connects to every region and reads one row. Its error names the right that is missing.
func (s *Source) Check(ctx context.Context) error {
	return s.each(ctx, func(c *sdk.Client, region string) error {
		_, err := c.DescribeInstances(ctx, &sdk.DescribeInstancesInput{MaxResults: aws.Int32(5)})
		return Explain(ctx, "cannot list the instances of "+region, err)
	})
}

// each calls do with a client of every region.
func (s *Source) each(ctx context.Context, do func(*sdk.Client, string) error) error {
	regions := s.cfg.Regions
	if len(regions) == 0 {
		regions = []string{""}
	}
	for _, region := range regions {
		c, region, err := Connect(ctx, Connection{Profile: s.cfg.Profile, Region: region, Endpoint: s.cfg.Endpoint})
		if err != nil {
			return err
		}
		if err := do(c, region); err != nil {
			return err
		}
	}
	return nil
}

// MaxValues is how many values a filter may have.
const MaxValues = 200

// parts cuts ids into as many as a filter takes. No ids are one part: no such filter.
func parts(ids []string) [][]string {
	if len(ids) == 0 {
		return [][]string{nil}
	}
	return slices.Collect(slices.Chunk(ids, MaxValues))
}

// list emits the instances of a region that have one of the ids.
func (s *Source) list(ctx context.Context, c *sdk.Client, region string, ids []string, emit func(*inventory.Draft) error) error {
	in := &sdk.DescribeInstancesInput{MaxResults: aws.Int32(int32(s.cfg.Page)), Filters: s.filters(ids)}
	seen := map[string]bool{}
	for {
		out, err := c.DescribeInstances(ctx, in)
		if err != nil {
			return Explain(ctx, "cannot list the instances of "+region, err)
		}
		for _, r := range out.Reservations {
			for i := range r.Instances {
				if d := s.draft(region, &r.Instances[i]); d != nil {
					if err := emit(d); err != nil {
						return err
					}
				}
			}
		}
		next := aws.ToString(out.NextToken)
		if next == "" {
			return nil
		}
		if seen[next] {
			return errors.New("the pages of EC2 go round in a circle")
		}
		seen[next], in.NextToken = true, &next
	}
}

func (s *Source) filters(ids []string) []types.Filter {
	states := []string{"running", "pending"}
	if !s.cfg.Running {
		states = append(states, "stopping", "stopped")
	}
	all := []types.Filter{{Name: aws.String("instance-state-name"), Values: states}}
	if !s.cfg.All {
		all = append(all, types.Filter{Name: aws.String("platform"), Values: []string{"windows"}})
	}
	if len(ids) > 0 {
		all = append(all, types.Filter{Name: aws.String("instance-id"), Values: ids})
	}
	for _, name := range slices.Sorted(maps.Keys(s.cfg.Filters)) {
		all = append(all, types.Filter{Name: aws.String(name), Values: []string{s.cfg.Filters[name]}})
	}
	return all
}

// draft makes a host of an instance, or nothing of one that is gone.
func (s *Source) draft(region string, in *types.Instance) *inventory.Draft {
	id, state := aws.ToString(in.InstanceId), stateOf(in)
	if state == types.InstanceStateNameTerminated || state == types.InstanceStateNameShuttingDown {
		return nil
	}
	tags := Tags(in.Tags)
	d := inventory.NewDraft(inventory.Origin{Source: "ec2", Place: "EC2 in " + region}, id)
	for _, field := range slices.Sorted(maps.Keys(s.cfg.Fields)) {
		d.Set(field, "tag "+s.cfg.Fields[field], tags[s.cfg.Fields[field]])
	}
	if name := tags["Name"]; name != "" {
		if _, err := inventory.ParseName(name); err == nil { // "SQL server 1" is no name of a host
			d.Name("tag Name", name)
		} else {
			d.Label("title", name)
		}
	}
	d.Name("instance-id", id)
	d.Twin(id)
	for _, n := range in.NetworkInterfaces {
		d.MAC("mac-address", aws.ToString(n.MacAddress))
	}
	d.Set("address", "private-ip-address", aws.ToString(in.PrivateIpAddress))
	if in.Placement != nil {
		d.Set("site", "availability-zone", aws.ToString(in.Placement.AvailabilityZone))
	}
	d.Set("region", "region", region)
	d.Label("instance", id)
	d.Label("state", string(state))
	d.Label("type", string(in.InstanceType))
	d.Label("image", aws.ToString(in.ImageId))
	d.Label("autoscaling", tags[GroupTag])
	d.Route("ec2", "instance-id", s.address(region, id))
	return d
}

// GroupTag is the tag of instances that belong to an Auto Scaling group.
const GroupTag = "aws:autoscaling:groupName"

// address is that of an instance as the driver takes it.
func (s *Source) address(region, id string) string {
	if s.cfg.Profile == "" {
		return region + "/" + id
	}
	return region + "/" + id + "?profile=" + s.cfg.Profile
}

func stateOf(in *types.Instance) types.InstanceStateName {
	if in.State == nil {
		return ""
	}
	return in.State.Name
}

// Tags returns tags by their keys.
func Tags(all []types.Tag) map[string]string {
	m := make(map[string]string, len(all))
	for _, t := range all {
		m[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	return m
}
