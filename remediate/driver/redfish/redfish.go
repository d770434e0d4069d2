// Package redfish reaches hosts through the Redfish service of their BMC: it boots the rescue
// image from virtual media, once, and puts the host back.
//
// # The order of things
//
// A host that crashes on its own resets every minute, and a reset between two of our requests
// would use the boot override up. So everything is done while the power is off:
//
//	Enter: power off, image in, override for one start, power on
//	Leave: power off, image out, override cleared, power on
//
// From that order follows what a call can conclude when an earlier one was cut off anywhere.
// Our image is in and the power is on: the host was started with it, and Enter is done. Our
// image is not in and the power is on: Leave is done. Nothing else needs to be remembered,
// no host is started twice with an image, and a Windows that runs is never powered off,
// unless it came up with our image in the slot.
//
// What a BMC answers to a change counts for little: after each one the resource is read until
// it shows the change. A change whose answer was lost is never repeated before that.
package redfish

import (
	"context"
	"net/url"
	"strings"
	"time"

	"unbrick/inventory/secret"
	"unbrick/remediate"
	"unbrick/remediate/power"
	"unbrick/remediate/tlspin"
)

// Options say how to reach BMCs. Login is needed; TLS pins by default and then needs Records.
type Options struct {
	// Login returns the credentials of a BMC.
	Login func(ctx context.Context, t remediate.Target) (user string, password secret.Value, err error)
	TLS   tlspin.Policy
	// Ours recognises the URL of a rescue image, of whatever run. Without it, that is one
	// whose path ends in /i/TOKEN/rescue.iso.
	Ours func(image string) bool
	// MaxPerBMC is how many calls go to one address at a time, which matters for a chassis
	// that manages many hosts. 2 if 0.
	MaxPerBMC int
	Times     Times
}

// Times are limits of time. The zero value of each has a default that suits slow BMCs.
type Times struct {
	Request time.Duration // for one request, with its repetitions: 60 s
	Settle  time.Duration // for a change to show: 90 s
	Logout  time.Duration // for the end of a session, after everything else failed: 3 s
	Poll    time.Duration // between two looks: 1 s
	Retry   time.Duration // what a RetryError says if the BMC does not: 15 s
}

// A Driver is the way in by Redfish. An address is a host name or IP address, with a port if
// it is not 443, or an https URL; the path of one system may follow, where a BMC has several:
// https://chassis/redfish/v1/Systems/3.
type Driver struct {
	opt   Options
	limit *power.Limit // of calls to one address
}

var _ remediate.Driver = (*Driver)(nil)

// New returns a driver.
func New(o Options) *Driver {
	if o.Ours == nil {
		o.Ours = rescueImage
	}
	if o.MaxPerBMC <= 0 {
		o.MaxPerBMC = 2
	}
	o.Times = Times{
		Request: or(o.Times.Request, time.Minute),
		Settle:  or(o.Times.Settle, 90*time.Second),
		Logout:  or(o.Times.Logout, 3*time.Second),
		Poll:    or(o.Times.Poll, time.Second),
		Retry:   or(o.Times.Retry, 15*time.Second),
	}
	return &Driver{opt: o, limit: power.NewLimit(o.MaxPerBMC)}
}

func or(d, def time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return def
}

// rescueImage recognises what rescue.Server gives out.
func rescueImage(image string) bool {
	u, err := url.Parse(image)
	if err != nil {
		return false
	}
	parts := strings.Split(u.Path, "/")
	n := len(parts)
	return n >= 3 && parts[n-1] == "rescue.iso" && parts[n-3] == "i"
}

// Observe implements remediate.Driver. It also refuses a host that Enter could not treat: no
// virtual media, no way to boot it, a BMC that belongs to another host.
//
// The posture's details: "bmc" for people; "media PATH" the image in the slot of that path;
// "override" the target of a boot override that was there, and "enabled" for how long. An
// image of ours, left by a call that was cut off, is not part of how the host stood.
func (d *Driver) Observe(ctx context.Context, t remediate.Target) (p remediate.Posture, err error) {
	err = d.visit(ctx, t, func(v *visit) error {
		p, err = v.observe(ctx)
		return err
	})
	return p, err
}

// Enter implements remediate.Driver.
func (d *Driver) Enter(ctx context.Context, t remediate.Target, img remediate.Image) error {
	return d.visit(ctx, t, func(v *visit) error { return v.enter(ctx, img.URL) })
}

// Leave implements remediate.Driver. It ejects images of ours, whichever run they are from,
// and puts back what before names. An override for one start is not put back: Windows would
// not be what starts. A host that is up is not powered off for it.
func (d *Driver) Leave(ctx context.Context, t remediate.Target, before remediate.Posture) error {
	return d.visit(ctx, t, func(v *visit) error { return v.leave(ctx, before, t.Up) })
}
