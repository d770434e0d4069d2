// Package gce swaps the boot disks of instances of Google Compute Engine: see package swap for
// the order of things.
//
// # What is done, and how it is found again
//
// stop, detachDisk, attachDisk on the helper with the swap's mark as deviceName, and back:
// detachDisk, attachDisk with boot, deviceName, mode, interface and autoDelete as they were,
// start. Every request that changes something bears a requestId that is made of the mark, the
// step and when instance and disk last changed: said again, it is the same request, and its
// operation is waited for and not begun anew. A disk that is writable hangs on one instance at
// a time: Compute Engine itself refuses a second.
//
// The helper's guest sees the deviceName as the SCSI identifier of vendor type (VPD page 0x83),
// on machine types without SCSI in the vendor's part of the NVMe namespace identification:
// sources are the udev rules and google_nvme_id of GoogleCloudPlatform/guest-configs.
//
// # Rights
//
// compute.instances.get, .list, .stop, .start, .attachDisk, .detachDisk, .setDiskAutoDelete;
// compute.disks.get, .use; compute.zoneOperations.get, .list; iam.serviceAccounts.actAs on the
// account that an instance runs as. For snapshots also compute.disks.createSnapshot,
// compute.snapshots.create, .setLabels, .get (and compute.regionOperations.get for regional disks). The
// predefined role Compute Instance Admin (v1) with Service Account User has all of these.
//
// # What it was tried on
//
// gcetest, which is written after the API's reference; never a project of Google's.
package gce

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/oauth2"

	api "unbrick/inventory/source/gce"
	"unbrick/remediate"
	"unbrick/remediate/swap"
)

// Options say where helpers are, and how the API is reached.
type Options struct {
	// Helpers are names of instances, or labels as "label:KEY=VALUE", that disks are hung on:
	// those of them that run in the zone and project of a host serve it. "unbrick-helper" if empty.
	Helpers []string

	// DiscardLocalSSD lets instances be stopped that have local SSDs: all on those is lost.
	DiscardLocalSSD bool

	Endpoint  string             // of the API; Google's if empty
	Tokens    oauth2.TokenSource // application default credentials if nil
	Transport http.RoundTripper  // below the pace; one that is fit for the API if nil
	PerSecond float64            // requests, to begin with and at most; 20 if 0
}

// New returns the platform. Nothing is reached before it is used, and options that cannot be
// used are told then.
func New(o Options) swap.Platform {
	if len(o.Helpers) == 0 {
		o.Helpers = []string{"unbrick-helper"}
	}
	if o.Transport == nil {
		o.Transport = api.Transport()
	}
	pace := &swap.Pace{Next: o.Transport, PerSecond: o.PerSecond, Throttled: throttled}
	client, err := api.Dial(api.Connection{Endpoint: o.Endpoint, Transport: pace, Tokens: o.Tokens})
	return &platform{o, client, err}
}

func throttled(r *http.Response) bool {
	return r.StatusCode == http.StatusTooManyRequests || r.StatusCode == http.StatusServiceUnavailable ||
		r.StatusCode == http.StatusForbidden && swap.ThrottledBody(r, api.SaysThrottled)
}

type platform struct {
	opt    Options
	client *api.Client
	bad    error // the options
}

// Reach implements swap.Platform.
func (p *platform) Reach(ctx context.Context, t remediate.Target) (swap.Instance, error) {
	if p.bad != nil {
		return nil, p.bad
	}
	a, err := parseAddress(t.Route.Address)
	if err != nil {
		return nil, err
	}
	in := &instance{link: link{p.client, ctx}, at: a, opt: p.opt, group: t.Host.Group}
	if err := in.read(); err != nil {
		return nil, err
	}
	in.fresh = true
	return in, nil
}

// An instance is one during one call.
type instance struct {
	link
	at    address
	opt   Options
	group string // of the host, in the inventory

	now   api.Instance  // as it was read last
	fresh bool          // nothing was done since
	held  *disk         // of the entry, as the last look saw it, if it did
	by    *api.Instance // what had it then
	ended bool          // what was done last was a change of the instance, which has ended
}

// view reads the instance, unless it was read just now.
func (in *instance) view() error {
	if in.fresh {
		in.fresh = false
		return nil
	}
	return in.read()
}

// read asks how the instance stands.
func (in *instance) read() error {
	var now api.Instance
	err := in.get(in.at.in("instances", in.at.name), &now)
	if api.Is(err, http.StatusNotFound) {
		return fmt.Errorf("there is no instance %s, or the account may not see it: was it deleted or moved? correct the address of the route", in.at)
	}
	if err != nil {
		return in.say("cannot read instance "+in.at.String(), err)
	}
	in.now = now
	return nil
}

// ID implements swap.Instance. An instance that is made anew under an old name is another.
func (in *instance) ID() string { return "gce " + in.now.ID }

// Close implements swap.Instance.
func (in *instance) Close() error { return nil }

// powers are the states of an instance (cloud.google.com/compute/docs/instances/instance-life-cycle).
// What is suspended is neither on nor off: Describe refuses it.
var powers = map[string]swap.Power{
	"PROVISIONING": swap.Changing, "STAGING": swap.Changing, "RUNNING": swap.On, "PENDING_STOP": swap.Changing,
	"STOPPING": swap.Changing, "STOPPED": swap.Off, "TERMINATED": swap.Off, "REPAIRING": swap.Changing, "SUSPENDING": swap.Changing,
}

// Look implements swap.Instance.
func (in *instance) Look(_ context.Context, e swap.Entry) (swap.State, error) {
	if e.Number > 0 && !in.ended { // what another process began may have ended since
		in.fresh = false
	}
	if err := in.view(); err != nil {
		return swap.State{}, err
	}
	power, known := powers[in.now.Status]
	if !known {
		power = swap.Power(strings.ToLower(in.now.Status))
	}
	s := swap.State{Power: power, Volume: swap.Own}
	if power == swap.Off {
		s.Stopped, _ = time.Parse(time.RFC3339, in.now.LastStop) // zero for one that never ran
	}
	if e.Slot.Volume == "" {
		return s, nil
	}
	if err := in.where(e, &s); err != nil {
		return s, err
	}
	if !in.ended && (s.Volume == swap.Own && s.Power == swap.Off || s.Volume == swap.Free) {
		busy, err := in.busy() // another process may have begun it
		if err != nil {
			return s, err
		}
		if busy {
			s.Volume = swap.Moving
		}
	}
	if e.Snapshot && s.Volume == swap.Own {
		return s, in.lookSnapshot(e, &s)
	}
	return s, nil
}

// where finds the disk of an entry. Instance and disk each say what they know of the other, and
// not at the same moment: while they do not agree it is on its way.
func (in *instance) where(e swap.Entry, s *swap.State) error {
	in.held, in.by = nil, nil
	if hung(&in.now, e.Slot.Volume) != nil {
		return nil
	}
	d, err := in.disk(e)
	if err != nil {
		return err
	}
	in.held = &d
	if len(d.Users) == 0 {
		s.Volume = swap.Free
		return nil
	}
	s.On = api.Last(d.Users[0])
	if api.Partial(d.Users[0]) == api.Partial(in.now.SelfLink) {
		s.Volume = swap.Moving
		return nil
	}
	var user api.Instance
	if err := in.get(api.Partial(d.Users[0]), &user); err != nil {
		return in.say("cannot read instance "+s.On, err)
	}
	in.by = &user
	switch k := hung(&user, e.Slot.Volume); {
	case k == nil:
		s.Volume = swap.Moving
	case strings.HasPrefix(k.DeviceName, markPrefix):
		s.Volume = swap.Lent
	default:
		s.Volume = swap.Elsewhere
	}
	return nil
}

// markPrefix begins the deviceNames of disks that swap hung on a helper.
const markPrefix = "unbrick-"

// hung returns how a disk hangs on an instance, nil if it does not.
func hung(i *api.Instance, volume string) *api.AttachedDisk {
	k := slices.IndexFunc(i.Disks, func(d api.AttachedDisk) bool { return d.Source != "" && api.Partial(d.Source) == volume })
	if k < 0 {
		return nil
	}
	return &i.Disks[k]
}

// A disk is what is read of one.
type disk struct {
	ID           string   `json:"id"`
	Users        []string `json:"users"`
	Status       string   `json:"status"`
	Licenses     []string `json:"licenses"`
	Access       string   `json:"accessMode"`
	MultiWriter  bool     `json:"multiWriter"`
	Confidential bool     `json:"enableConfidentialCompute"`
	LastAttach   string   `json:"lastAttachTimestamp"`
	LastDetach   string   `json:"lastDetachTimestamp"`
}

// disk reads the disk of an entry, and makes sure that it is that one and not another that was
// given its name.
func (in *instance) disk(e swap.Entry) (d disk, err error) {
	if err := in.get(e.Slot.Volume, &d); err != nil {
		return d, in.say("cannot read disk "+e.Slot.Volume, err)
	}
	was, err := readDetail(e.Slot)
	if err == nil && d.ID != was.Disk {
		err = fmt.Errorf("disk %s is not the one that was taken off %s (its id is %s, and was %s): look who made it anew", e.Slot.Volume, in.at, d.ID, was.Disk)
	}
	return d, err
}

// lastDisk is the disk of an entry as the look before this step saw it.
func (in *instance) lastDisk(e swap.Entry) (disk, error) {
	if in.held != nil {
		return *in.held, nil
	}
	return in.disk(e)
}

// A detail is how the boot disk hangs on its instance.
type detail struct {
	Disk       string   `json:"disk"` // its numeric id
	DeviceName string   `json:"device"`
	AutoDelete bool     `json:"auto_delete"`
	Mode       string   `json:"mode"`
	Interface  string   `json:"interface"`
	Index      int      `json:"index"`
	Others     []string `json:"others,omitempty"` // the other disks, in their order
}

func detailOf(i *api.Instance, k *api.AttachedDisk, id string) detail {
	d := detail{Disk: id, DeviceName: k.DeviceName, AutoDelete: k.AutoDelete, Mode: k.Mode, Interface: cmp.Or(k.Interface, "SCSI"), Index: k.Index}
	for n := range i.Disks {
		if o := &i.Disks[n]; o.Source != k.Source {
			d.Others = append(d.Others, fmt.Sprintf("%d %s %s", o.Index, o.DeviceName, api.Partial(o.Source)))
		}
	}
	return d
}

func readDetail(s swap.Slot) (d detail, err error) {
	if err = json.Unmarshal(s.Detail, &d); err != nil {
		err = fmt.Errorf("the journal does not say how %s hung: %w", s.Volume, err)
	}
	return d, err
}
