package ec2

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	source "unbrick/inventory/source/ec2"
)

// CommandOptions say which helpers commands are run on, in one region, and how EC2 and Systems
// Manager are reached.
type CommandOptions struct {
	Helpers     []string // as in Options
	Profile     string   // of ~/.aws; AWS_PROFILE if empty
	Region      string   // the profile's own if empty
	Endpoint    string   // instead of Amazon's
	SSMEndpoint string   // instead of Amazon's, for Systems Manager; Endpoint if empty

	Every time.Duration // between two looks at what became of a command; 2 s if 0
}

// Commands run scripts on helpers by Run Command of Systems Manager, which keeps what it ran, and
// what that wrote, for 30 days, for all to read that may: no secret that lasts may be in either.
//
// The rights are ssm:DescribeInstanceInformation, ssm:GetCommandInvocation, ssm:ListCommands, and
// ssm:SendCommand on the document AWS-RunShellScript and on the helpers, beside
// ec2:DescribeInstances. The helpers run the SSM agent, and have a role with
// AmazonSSMManagedInstanceCore.
type Commands struct {
	region *region
	client *ssm.Client
}

// A CommandHelper is an instance that the options name.
type CommandHelper struct {
	ID, Name     string
	Region, Zone string
	Not          string // why commands cannot be run on it, and what to do; empty: they can
}

// NewCommands connects. It reaches nobody, as source.Connect does.
func NewCommands(ctx context.Context, o CommandOptions) (*Commands, error) {
	if len(o.Helpers) == 0 {
		o.Helpers = []string{"unbrick-helper"}
	}
	o.Every = cmp.Or(o.Every, 2*time.Second)
	at := source.Connection{Profile: o.Profile, Region: o.Region, Endpoint: o.Endpoint, Backoff: 2 * o.Every}
	client, name, err := source.Connect(ctx, at)
	if err != nil {
		return nil, err
	}
	cfg, err := source.Configure(ctx, at)
	if err != nil {
		return nil, err
	}
	commands := ssm.NewFromConfig(cfg, func(s *ssm.Options) {
		if endpoint := cmp.Or(o.SSMEndpoint, o.Endpoint); endpoint != "" {
			s.BaseEndpoint = aws.String(endpoint)
		}
	})
	return &Commands{newRegion(client, name, Options{Helpers: o.Helpers, Every: o.Every}), commands}, nil
}

// Helpers returns the helpers of the region, and for each whether commands can be run on it.
// There is at least one.
func (c *Commands) Helpers(ctx context.Context) (all []CommandHelper, err error) {
	found, err := c.region.fetchHelpers(ctx, []string{""})
	if err != nil {
		return nil, err
	}
	var ask []string
	for _, in := range found[""] {
		h := CommandHelper{ID: aws.ToString(in.InstanceId), Name: nameOf(&in), Region: c.region.name, Zone: zoneOf(&in), Not: notForCommands(&in)}
		if in.State != nil && (in.State.Name == types.InstanceStateNameTerminated || in.State.Name == types.InstanceStateNameShuttingDown) {
			continue
		}
		if h.Not == "" {
			ask = append(ask, h.ID)
		}
		all = append(all, h)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no helper is in %s: none of its instances is called, or has the tag, %s\nstart one there: a Nitro type with Ubuntu, and ntfs-3g", c.region.name, strings.Join(c.region.opt.Helpers, ", "))
	}
	managed, err := c.managed(ctx, ask)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].Not == "" {
			all[i].Not = unmanaged(managed[all[i].ID])
		}
	}
	slices.SortFunc(all, func(a, b CommandHelper) int { return cmp.Or(cmp.Compare(a.Zone, b.Zone), cmp.Compare(a.ID, b.ID)) })
	return all, nil
}

// notForCommands says what EC2 knows against running our script on an instance.
func notForCommands(in *types.Instance) string {
	switch {
	case in.State == nil || in.State.Name != types.InstanceStateNameRunning:
		return "it does not run: start it"
	case isWindows(in):
		return "it runs Windows: a helper is a Linux instance"
	case in.Architecture != "" && in.Architecture != types.ArchitectureValuesX8664:
		return fmt.Sprintf("it is of the architecture %s: the agent is for x86_64, so take an Intel or AMD type", in.Architecture)
	}
	return ""
}

// unmanaged says what Systems Manager knows against it.
func unmanaged(i *ssmtypes.InstanceInformation) string {
	switch {
	case i == nil:
		return "Systems Manager does not know it: it needs the SSM agent, a role with AmazonSSMManagedInstanceCore, and a way to Systems Manager's endpoints"
	case i.PlatformType != ssmtypes.PlatformTypeLinux:
		return fmt.Sprintf("Systems Manager says that it runs %s: a helper is a Linux instance", i.PlatformType)
	case i.PingStatus != ssmtypes.PingStatusOnline:
		return fmt.Sprintf("its SSM agent is not online (%s since %s): look whether it runs, and whether it reaches Systems Manager",
			i.PingStatus, aws.ToTime(i.LastPingDateTime).UTC().Format(time.RFC3339))
	}
	return ""
}

// managed returns what Systems Manager knows of instances, by id.
func (c *Commands) managed(ctx context.Context, ids []string) (map[string]*ssmtypes.InstanceInformation, error) {
	known := map[string]*ssmtypes.InstanceInformation{}
	for some := range slices.Chunk(ids, 100) { // values of one filter (InstanceInformationStringFilter)
		in := &ssm.DescribeInstanceInformationInput{MaxResults: aws.Int32(50),
			Filters: []ssmtypes.InstanceInformationStringFilter{{Key: aws.String("InstanceIds"), Values: some}}}
		for more := true; more; {
			out, err := c.client.DescribeInstanceInformation(ctx, in)
			if err != nil {
				return nil, source.Explain(ctx, "cannot ask Systems Manager for the helpers in "+c.region.name, err)
			}
			for i := range out.InstanceInformationList {
				known[aws.ToString(out.InstanceInformationList[i].InstanceId)] = &out.InstanceInformationList[i]
			}
			if in.NextToken, err = next(in.NextToken, out.NextToken); err != nil {
				return nil, err
			}
			more = in.NextToken != nil
		}
	}
	return known, nil
}

const (
	delivery   = 600 // seconds that Systems Manager tries to bring a command
	execution  = 600 // seconds that it may take
	sendTries  = 5   // of a request that was throttled, and not heard
	findLooks  = 5   // for a command whose id was lost
	hiddenLoss = 15  // looks at a command that Systems Manager does not know yet
	told       = 1500
)

// Run runs a script as root on an instance, and returns what it wrote, up to 24,000 characters,
// when it has ended. The error of one that failed has the end of what it said. The remark, of at
// most 100 characters, is known to no other command: a command is found by it whose id was lost
// with a reply, so that it does not run twice.
//
// When ctx ends the script goes on: nothing takes it back.
func (c *Commands) Run(ctx context.Context, id, remark, script string) (string, error) {
	command, err := c.send(ctx, id, remark, script)
	if err != nil {
		return "", err
	}
	for unknown := 0; ; {
		out, err := c.client.GetCommandInvocation(ctx, &ssm.GetCommandInvocationInput{CommandId: &command, InstanceId: &id})
		switch {
		case source.Code(err) == "InvocationDoesNotExist" && unknown < hiddenLoss: // so new that not all have heard of it
			unknown++
		case err != nil:
			return "", source.Explain(ctx, "cannot ask what became of the command "+command+" on "+id, err)
		case ended(out.Status):
			return aws.ToString(out.StandardOutputContent), c.outcome(out)
		}
		if err := c.region.pause(ctx); err != nil {
			return "", fmt.Errorf("the command %s goes on on %s: %w", command, id, err)
		}
	}
}

// send has the command brought, and returns its id.
func (c *Commands) send(ctx context.Context, id, remark, script string) (string, error) {
	in := &ssm.SendCommandInput{DocumentName: aws.String("AWS-RunShellScript"), InstanceIds: []string{id}, Comment: &remark, TimeoutSeconds: aws.Int32(delivery),
		Parameters: map[string][]string{"commands": {script}, "executionTimeout": {fmt.Sprint(execution)}}}
	for try := 1; ; try++ {
		out, err := c.client.SendCommand(ctx, in, func(o *ssm.Options) { o.Retryer = aws.NopRetryer{} })
		if err == nil {
			return aws.ToString(out.Command.CommandId), nil
		}
		said := source.Explain(ctx, "cannot send a command to "+id, err)
		var answer *smithyhttp.ResponseError
		switch {
		case ctx.Err() != nil:
			return "", said
		case !errors.As(err, &answer) || answer.HTTPStatusCode()/100 != 4:
			return c.find(ctx, id, remark, said) // it may have been heard
		case later(source.Code(err)) == 0 || try == sendTries:
			return "", said
		}
		if err := c.region.pause(ctx); err != nil {
			return "", err
		}
	}
}

// find returns the id of the command with the remark, or the error that lost it.
func (c *Commands) find(ctx context.Context, id, remark string, lost error) (string, error) {
	for range findLooks {
		if err := c.region.pause(ctx); err != nil {
			return "", err
		}
		out, err := c.client.ListCommands(ctx, &ssm.ListCommandsInput{InstanceId: &id, MaxResults: aws.Int32(50)}) // the newest first
		if err != nil {
			return "", errors.Join(lost, source.Explain(ctx, "cannot look for the command whose reply was lost", err))
		}
		for _, cmd := range out.Commands {
			if aws.ToString(cmd.Comment) == remark {
				return aws.ToString(cmd.CommandId), nil
			}
		}
	}
	return "", fmt.Errorf("%w\nSystems Manager has no such command", lost)
}

// ended says whether a status is the last (User Guide, "Understanding command statuses").
func ended(s ssmtypes.CommandInvocationStatus) bool {
	return slices.Contains([]ssmtypes.CommandInvocationStatus{"Success", "Cancelled", "TimedOut", "Failed"}, s)
}

// outcome says what went wrong, or is nil.
func (c *Commands) outcome(out *ssm.GetCommandInvocationOutput) error {
	if out.Status == ssmtypes.CommandInvocationStatusSuccess {
		return nil
	}
	why := cmp.Or(aws.ToString(out.StatusDetails), string(out.Status))
	said := tail(aws.ToString(out.StandardErrorContent))
	if said == "" {
		said = tail(aws.ToString(out.StandardOutputContent))
	}
	if said == "" {
		said = "it said nothing; aws ssm list-command-invocations --details --region " + c.region.name + " --command-id " + aws.ToString(out.CommandId)
	}
	return fmt.Errorf("Systems Manager says %s (exit code %d)\n%s", why, out.ResponseCode, said)
}

// tail is the end of a text, in whole lines where it has some, without what a terminal would obey.
func tail(text string) string {
	text = strings.Map(func(r rune) rune {
		if r != '\n' && !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(text), "failed to run commands: exit status 1")))
	if len(text) > told {
		text = text[len(text)-told:]
		if _, rest, ok := strings.Cut(text, "\n"); ok {
			text = rest
		}
	}
	return text
}
