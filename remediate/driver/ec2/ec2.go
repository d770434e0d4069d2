// Package ec2 swaps the root volumes of Amazon EC2 instances: see package swap for the order of
// things.
//
// # Rights
//
// ec2:DescribeInstances, DescribeVolumes, DescribeInstanceTypes, DescribeInstanceAttribute,
// StopInstances, StartInstances, DetachVolume, AttachVolume and ModifyInstanceAttribute; with
// snapshots DescribeSnapshots, CreateSnapshot and CreateTags. For volumes that a customer's key
// encrypts also kms:CreateGrant on it, with kms:GrantIsForAWSResource. The rights to change are
// asked for by dry runs, once in each region and account, before the first instance is stopped.
//
// # How the helper's agent knows a volume
//
// EBS gives a volume no mark of ours. On instances of the Nitro system, which a helper must be,
// its id is the serial number of the NVMe disk, without the hyphen ("Map Amazon EBS volumes to
// NVMe device names", EBS User Guide): that is [swap.Marker]'s mark. A helper is called by its
// tag Name, or by its id where it has none.
//
// # What is repeated
//
// No action but one has a token by which EC2 would know a repeated request: each is safe to
// repeat all the same, since EC2 refuses what is done already. CreateSnapshot alone is not; it
// is looked for by its tag before, and after a reply that was lost.
//
// It was tried against ec2test, which is as strict as EC2's documents; no account was at hand.
package ec2

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go/middleware"

	source "unbrick/inventory/source/ec2"
	"unbrick/remediate"
	"unbrick/remediate/swap"
)

// Options say where helpers are, and how EC2 is reached.
type Options struct {
	// Helpers are the instances that volumes are hung on: ids, names (their tag Name) or tags
	// ("tag:KEY=VALUE"). Those that run in the zone of a host serve it. "unbrick-helper" if empty.
	Helpers []string

	Profile  string // of ~/.aws, for addresses that name none; AWS_PROFILE if empty
	Region   string // for addresses that name none; the profile's own if empty
	Endpoint string // instead of Amazon's

	Every    time.Duration // between two looks at what a change came to; 2 s if 0
	Patience time.Duration // with what is stopping, or leaving a helper, before it is forced; 5 min if 0
	Rate     float64       // requests of one action a second, to begin with; what an account has if 0
}

// New returns the platform. It reaches nobody.
func New(o Options) swap.Platform {
	if len(o.Helpers) == 0 {
		o.Helpers = []string{"unbrick-helper"}
	}
	o.Every = cmp.Or(o.Every, 2*time.Second)
	o.Patience = cmp.Or(o.Patience, 5*time.Minute)
	return &platform{opt: o, regions: map[string]*region{}}
}

type platform struct {
	opt Options

	mu      sync.Mutex
	regions map[string]*region // by profile and region, as addresses have them
}

// Reach implements swap.Platform. That there is the instance shows when it is looked at.
func (p *platform) Reach(ctx context.Context, t remediate.Target) (swap.Instance, error) {
	a, err := parseAddress(t.Route.Address)
	if err != nil {
		return nil, err
	}
	r, err := p.region(ctx, cmp.Or(a.profile, p.opt.Profile), cmp.Or(a.region, p.opt.Region))
	if err != nil {
		return nil, err
	}
	return &instance{region: r, id: a.instance, done: map[swap.Step]int{}}, nil
}

// region returns the region of a profile, the same to all that ask: they share its rate.
func (p *platform) region(ctx context.Context, profile, name string) (*region, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := profile + "\n" + name
	if r := p.regions[key]; r != nil {
		return r, nil
	}
	client, real, err := source.Connect(ctx, source.Connection{Profile: profile, Region: name, Endpoint: p.opt.Endpoint, Backoff: 2 * p.opt.Every,
		Wrap: func(next http.RoundTripper) http.RoundTripper { return &paces{next: next, rate: p.opt.Rate} }})
	if err != nil {
		return nil, err
	}
	r := newRegion(client, real, p.opt)
	p.regions[key] = r
	return r, nil
}

// paces keep a rate for each action: EC2 counts each by itself ("Request throttling", EC2
// Developer Guide).
type paces struct {
	next http.RoundTripper
	rate float64

	mu sync.Mutex
	of map[string]*swap.Pace
}

// Rates that an account has at least, as that page has them: what reads, by filters or pages,
// and what changes.
const (
	readRate   = 20
	changeRate = 5
)

// RoundTrip implements http.RoundTripper.
func (p *paces) RoundTrip(r *http.Request) (*http.Response, error) {
	action := middleware.GetOperationName(r.Context())
	p.mu.Lock()
	if p.of == nil {
		p.of = map[string]*swap.Pace{}
	}
	pace := p.of[action]
	if pace == nil {
		rate := cmp.Or(p.rate, changeRate)
		if strings.HasPrefix(action, "Describe") {
			rate = cmp.Or(p.rate, readRate)
		}
		pace = &swap.Pace{Next: p.next, PerSecond: rate}
		p.of[action] = pace
	}
	p.mu.Unlock()
	return pace.RoundTrip(r)
}

// An instance is one during one call. It is used by one goroutine.
type instance struct {
	*region
	id string

	seen   types.Instance // at the last look
	volume types.Volume   // the entry's
	state  swap.State     // what the last look said
	fresh  bool           // state is of this moment: the step that was done has looked
	sure   bool           // no other process began what reads do not show
	done   map[swap.Step]int

	stopping, detaching hanger

	lender struct{ id, name string } // the helper that has the volume, or had it
}

// A hanger is a change that may hang, and is forced then, once.
type hanger struct {
	since  time.Time // it was first seen under way
	forced bool
}

// hangs notes whether the change is under way, and says whether it is to be forced.
func (h *hanger) hangs(under bool, patience time.Duration) bool {
	switch {
	case !under:
		h.since = time.Time{}
	case h.since.IsZero():
		h.since = time.Now()
	}
	return under && !h.forced && time.Since(h.since) >= patience
}

var _ swap.Marker = (*instance)(nil)

// ID implements swap.Instance.
func (in *instance) ID() string { return "ec2 " + in.name + "/" + in.id }

// Close implements swap.Instance.
func (in *instance) Close() error { return nil }

// Mark implements swap.Marker.
func (in *instance) Mark(e swap.Entry) string { return strings.Replace(e.Slot.Volume, "-", "", 1) }

// sureLooks is how often an instance is looked at that runs with its volume while a swap of it is
// on record: another process may have stopped it a moment ago, and reads do not show it yet.
const sureLooks = 3

// Look implements swap.Instance.
func (in *instance) Look(ctx context.Context, e swap.Entry) (s swap.State, err error) {
	if in.fresh {
		in.fresh = false
		return in.state, nil
	}
	for n := 1; ; n++ {
		if s, err = in.look(ctx, e); err != nil {
			return s, err
		}
		doubt := e.Number > 0 && s.Volume == swap.Own && s.Power == swap.On
		if !doubt || in.sure || n == sureLooks {
			break
		}
		if err := in.pause(ctx); err != nil {
			return s, err
		}
	}
	in.state, in.sure = s, in.sure || e.Number > 0
	return s, nil
}

func (in *instance) look(ctx context.Context, e swap.Entry) (s swap.State, err error) {
	if err = in.read(ctx); err != nil {
		return s, err
	}
	s.Volume, s.Stopped = swap.Own, stopped(in.seen)
	if s.Power, err = in.power(); err != nil || e.Slot.Volume == "" {
		return s, err
	}
	if err = in.readVolume(ctx, e.Slot.Volume); err != nil {
		return s, err
	}
	if s.Volume, s.On, err = in.place(ctx); err != nil {
		return s, err
	}
	if e.Snapshot && s.Volume == swap.Own && s.Power == swap.Off {
		s.Snapshot, err = in.hasSnapshot(ctx, e)
	}
	return s, err
}

// absentTries is how often an instance is looked for that EC2 does not know: it may be so new
// that not every part of EC2 has heard of it.
const absentTries = 3

// read looks at the instance.
func (in *instance) read(ctx context.Context) error {
	for try := 1; ; try++ {
		found, ok, err := in.instances.get(ctx, in.id)
		if err != nil {
			return err
		}
		if ok {
			in.seen = found
			return nil
		}
		if try == absentTries {
			return fmt.Errorf("EC2 has no instance %s in %s: was it terminated, or is it another account's or region's?\ncorrect the address of the route (REGION/i-…?profile=…)", in.id, in.name)
		}
		if err := in.pause(ctx); err != nil {
			return err
		}
	}
}

// power says whether the instance runs. One that has been stopping for long is on: the step
// that follows from that forces it.
func (in *instance) power() (swap.Power, error) {
	state := types.InstanceStateName("")
	if in.seen.State != nil {
		state = in.seen.State.Name
	}
	if in.stopping.hangs(state == types.InstanceStateNameStopping, in.opt.Patience) {
		return swap.On, nil
	}
	switch state {
	case types.InstanceStateNameRunning:
		return swap.On, nil
	case types.InstanceStateNameStopped:
		return swap.Off, nil
	case types.InstanceStateNamePending, types.InstanceStateNameStopping:
		return swap.Changing, nil
	}
	return "", fmt.Errorf("instance %s is %s: somebody or something terminates it, so nothing is done to it\nlook who does; its volume goes with it unless DeleteOnTermination is off", in.id, state)
}

// readVolume looks at the entry's volume.
func (in *instance) readVolume(ctx context.Context, id string) error {
	v, ok, err := in.volumes.get(ctx, id)
	if err == nil && !ok {
		err = fmt.Errorf("EC2 has no volume %s in %s: was it deleted? (aws ec2 describe-volumes --region %s --volume-ids %s)", id, in.name, in.name, id)
	}
	in.volume = v
	return err
}

// place says where the volume is, as it was read last. One that a helper has not let go of for
// long is still lent: the step that follows from that forces it.
func (in *instance) place(ctx context.Context) (swap.Place, string, error) {
	switch n := len(in.volume.Attachments); {
	case n == 0:
		return swap.Free, "", nil
	case n > 1:
		return swap.Elsewhere, fmt.Sprintf("%d instances", n), nil
	}
	a := in.volume.Attachments[0]
	has := aws.ToString(a.InstanceId)
	leaves := a.State == types.VolumeAttachmentStateDetaching || a.State == types.VolumeAttachmentStateBusy
	hangs := in.detaching.hangs(leaves && has != in.id, in.opt.Patience)
	switch {
	case a.State != types.VolumeAttachmentStateAttached && !hangs:
		return swap.Moving, "", nil
	case has == in.id:
		return swap.Own, "", nil
	}
	if has != in.lender.id {
		other, ok, err := in.instances.get(ctx, has)
		if err != nil {
			return "", "", err
		}
		if !ok || !in.opt.isHelper(&other) {
			return swap.Elsewhere, has, nil
		}
		in.lender.id, in.lender.name = has, nameOf(&other)
	}
	return swap.Lent, in.lender.name, nil
}

// A detail is how a volume hangs on its instance.
type detail struct {
	Region string `json:"region"`
	Zone   string `json:"zone"`
	Device string `json:"device"`        // the root device
	Key    string `json:"key,omitempty"` // that encrypts it
}

// onTermination is the remark that says what becomes of the volume when its instance is
// terminated. It is no part of the detail: EC2 sets it in a request of its own, after the volume
// is back, and a volume for which that is still to be done was not put back by somebody else.
const (
	onTermination = "on_termination"
	deleted       = "deleted"
	kept          = "kept"
)

func readDetail(s swap.Slot) (d detail, err error) {
	if err = json.Unmarshal(s.Detail, &d); err != nil {
		err = fmt.Errorf("the journal does not say how %s hung: %w", s.Volume, err)
	}
	return d, err
}
