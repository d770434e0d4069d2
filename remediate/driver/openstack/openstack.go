// Package openstack repairs servers of OpenStack in Nova's rescue mode.
//
// # Why not by swapping volumes
//
// Nova does not let go of the volume that a server starts from: its API answers 400, "Cannot
// detach a root device volume" (nova/api/openstack/compute/volume_attachments.py; API reference,
// "Detach a volume from an instance"). Shelving a server first, or deleting and making it anew
// around its volume, gives up its place, its ports and, where it starts from an image, its disk.
// Rescue mode is what Nova has for this: the server itself boots an image of ours, with all of
// its own disks attached, and later its own disk again. So this is an ordinary driver, and the
// rescue image runs on the host itself, with the SMBIOS UUID that the host always has.
//
// Rescue has two kinds (nova, doc/source/user/rescue.rst). Without hw_rescue_* properties on the
// image, the disks change places and a server that starts from a volume cannot be rescued. With
// them everything keeps its place, and microversion 2.87 (Ussuri) takes servers that start from
// volumes too, on libvirt. Images that this driver makes always have hw_rescue_device=cdrom.
//
// # What is done
//
//	Enter: the host's own image to Glance, rescue with it
//	Leave: unrescue, the image deleted
//
// Each host has an image of its own: it bears the host's one-time token. The image's name bears
// the server's UUID, and its property unbrick_source the digest of the address that it came
// from: by that a call that was cut off anywhere is found again. The image is there from before
// the rescue until after its end, and a server that is in rescue mode without one was put there
// by somebody else: hands off.
//
// # Rights
//
// Nova's policies os_compute_api:servers:show, :os-rescue, :os-unrescue, servers:start and
// :reboot, and Glance's add_image, upload_image, get_images and delete_image: any member of the
// project has them where nobody changed the policies. Computes must reach Glance, and hosts in
// rescue mode the rescue server, by the network that they always have.
//
// # What it was tried on
//
// openstacktest, which is written after the API reference and Nova's source; never a real cloud.
package openstack

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	api "unbrick/inventory/source/openstack"
	"unbrick/remediate"
	"unbrick/remediate/swap"
)

// Options say how servers are rescued.
type Options struct {
	Cloud string // in clouds.yaml, for addresses that name none; what OS_CLOUD or OS_AUTH_URL say if empty

	// Bus is how the image is attached, hw_rescue_bus: scsi, usb, ide, sata, virtio. Nova chooses
	// by the server's machine type if empty.
	Bus string

	Every     time.Duration // how often to look how a change goes; 3 s if 0
	PerSecond float64       // requests, to begin with and at most; 20 if 0
}

// A Driver is the way in by rescue mode. It is safe for concurrent use.
type Driver struct {
	opt Options

	mu     sync.Mutex
	clouds map[string]*api.Client
}

var _ remediate.Driver = (*Driver)(nil)

// New returns a driver. It reaches nothing.
func New(o Options) *Driver {
	o.Every = cmp.Or(o.Every, 3*time.Second)
	return &Driver{opt: o, clouds: map[string]*api.Client{}}
}

// client returns that of a cloud.
func (d *Driver) client(cloud string) (*api.Client, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c := d.clouds[cloud]; c != nil {
		return c, nil
	}
	c, err := api.Dial(api.Connection{Cloud: cloud, Wrap: func(next http.RoundTripper) http.RoundTripper {
		return &swap.Pace{Next: next, PerSecond: d.opt.PerSecond, Throttled: throttled}
	}})
	if err == nil {
		d.clouds[cloud] = c
	}
	return c, err
}

// throttled: 413 is what Nova said before it said 429. An image that is too large is no request
// that comes too fast.
func throttled(r *http.Response) bool {
	switch r.StatusCode {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return true
	case http.StatusRequestEntityTooLarge:
		return r.Request == nil || r.Request.Method != http.MethodPut
	}
	return false
}

// An address is the UUID of a server, behind the name of its cloud in clouds.yaml if there are
// several: UUID, CLOUD/UUID.
type address struct{ cloud, server string }

var uuid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

func parseAddress(text string) (a address, err error) {
	a.server = text
	if i := strings.LastIndexByte(text, '/'); i >= 0 {
		a.cloud, a.server = text[:i], text[i+1:]
	}
	a.server = strings.ToLower(a.server)
	if !uuid.MatchString(a.server) || strings.ContainsAny(a.cloud, "/?# ") || a.cloud == "" && a.server != strings.ToLower(text) {
		return a, fmt.Errorf("%q is no address of a server of OpenStack\nwrite its UUID (openstack server show -c id NAME), or CLOUD/UUID", text)
	}
	return a, nil
}

// Observe implements remediate.Driver. It also refuses what rescue mode would harm, or could not
// take.
func (d *Driver) Observe(ctx context.Context, t remediate.Target) (remediate.Posture, error) {
	v, err := d.visit(ctx, t)
	if err != nil {
		return remediate.Posture{}, err
	}
	if err := v.read(); err != nil {
		return remediate.Posture{}, err
	}
	if err := v.rescuable(); err != nil {
		return remediate.Posture{}, fmt.Errorf("server %s is not rescued: %w", v.at.server, err)
	}
	p := remediate.Posture{Power: "on", Detail: map[string]string{"status": v.now.Status, "boots": "its image's disk"}}
	if v.now.ImageID() == "" {
		p.Detail["boots"] = "a volume"
	}
	if v.now.Status == shutoff {
		p.Power = "off"
	}
	if v.now.Zone != "" {
		p.Detail["zone"] = v.now.Zone
	}
	return p, nil
}

// maxSteps ends a climb in which somebody undoes each step.
const maxSteps = 12

// Enter implements remediate.Driver.
func (d *Driver) Enter(ctx context.Context, t remediate.Target, img remediate.Image) error {
	v, err := d.visit(ctx, t)
	if err != nil {
		return err
	}
	asked := false
	for range maxSteps {
		if err := v.settle(); err != nil {
			return err
		}
		mine, old := v.pick(source(img.URL))
		rescued := v.now.Status == rescue
		switch {
		case rescued && mine != nil && mine.Status == active:
			return nil
		case rescued && len(v.images) == 0:
			return v.stranger()
		case rescued:
			err = v.act("unrescue", "leave rescue mode, of an earlier attempt", nil)
		case asked:
			return v.failed("go into rescue mode")
		case len(old) > 0:
			err = v.remove(old[0])
		case mine == nil || mine.Status != active:
			err = v.upload(img.URL, mine)
		default:
			if err = v.rescuable(); err == nil {
				asked = true
				err = v.act("rescue", "go into rescue mode", map[string]string{"rescue_image_ref": mine.ID})
			}
		}
		if err != nil {
			return err
		}
	}
	return v.undone()
}

// Leave implements remediate.Driver.
func (d *Driver) Leave(ctx context.Context, t remediate.Target, before remediate.Posture) error {
	v, err := d.visit(ctx, t)
	if err != nil {
		return err
	}
	asked := ""
	for range maxSteps {
		if err := v.settle(); err != nil {
			return err
		}
		action, why := "", ""
		switch v.now.Status {
		case rescue:
			// Without an image of ours it may be that somebody has tidied up too early.
			if len(v.images) == 0 && before.Detail["status"] == "" {
				return v.stranger()
			}
			action, why = "unrescue", "leave rescue mode"
		case shutoff:
			action, why = "os-start", "start"
		case failing: // its definition is made anew, as it was before the rescue
			if t.Up {
				return fmt.Errorf("windows was seen up on server %s, which Nova says is in ERROR, so it is not started anew: look what runs there", v.at.server)
			}
			action, why = "reboot", "start anew after an error"
		case running:
			if len(v.images) == 0 {
				return nil
			}
			if err := v.remove(v.images[0]); err != nil {
				return err
			}
			continue
		default:
			return fmt.Errorf("server %s is %s, and it was not unbrick that made it so: look who else manages it", v.at.server, v.now.Status)
		}
		if action == asked {
			return v.failed(why)
		}
		asked = action
		var body any
		if action == "reboot" {
			body = map[string]string{"type": "HARD"}
		}
		if err := v.act(action, why, body); err != nil {
			return err
		}
	}
	return v.undone()
}
