package openstack

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/gophercloud/gophercloud/v2/openstack/utils"

	api "unbrick/inventory/source/openstack"
	"unbrick/remediate"
)

// What a server may be (API reference, "Server concepts", status); those that rescue mode is
// not for are in unfit.
const (
	running = "ACTIVE"
	shutoff = "SHUTOFF"
	failing = "ERROR"
	rescue  = "RESCUE"
)

// active is what an image is that is all there.
const active = "active"

// A visit is one call for one server.
type visit struct {
	*api.Services
	ctx context.Context
	opt Options
	at  address

	now    api.Server     // as it was read last
	images []images.Image // of ours, for this server
}

func (d *Driver) visit(ctx context.Context, t remediate.Target) (*visit, error) {
	a, err := parseAddress(t.Route.Address)
	if err != nil {
		return nil, err
	}
	if a.cloud == "" {
		a.cloud = d.opt.Cloud
	}
	c, err := d.client(a.cloud)
	if err != nil {
		return nil, err
	}
	v := &visit{ctx: ctx, opt: d.opt, at: a}
	if v.Services, err = c.Open(ctx); err != nil {
		return nil, v.say("cannot reach server "+a.server, err)
	}
	return v, nil
}

// read asks how the server stands, and which images of ours there are for it.
func (v *visit) read() error {
	var now api.Server
	err := api.Explain(v.ctx, servers.Get(v.ctx, v.Compute, v.at.server).ExtractInto(&now))
	if api.Is(err, http.StatusNotFound) {
		return fmt.Errorf("the cloud has no server %s, or it is another project's: was it deleted? correct the address of the route", v.at.server)
	}
	if err != nil {
		return v.say("cannot read server "+v.at.server, err)
	}
	v.now = now
	page, err := images.List(v.Image, images.ListOpts{Name: v.imageName()}).AllPages(v.ctx)
	if err != nil {
		return v.say("cannot list images", err)
	}
	if v.images, err = images.ExtractImages(page); err != nil {
		return v.say("cannot list images", err)
	}
	v.images = slices.DeleteFunc(v.images, func(i images.Image) bool { return i.Status == "deleted" || i.Status == "pending_delete" })
	return nil
}

// settle reads until nothing is being done to the server.
func (v *visit) settle() error {
	for {
		if err := v.read(); err != nil || v.now.Task == "" {
			return err
		}
		select {
		case <-time.After(v.opt.Every):
		case <-v.ctx.Done():
			return fmt.Errorf("server %s is %s: %w", v.at.server, v.now.Task, context.Cause(v.ctx))
		}
	}
}

func (v *visit) imageName() string { return "unbrick-rescue-" + v.at.server }

// source is what an image knows the address by that it came from: that is as good as a password.
func source(url string) string {
	sum := sha256.Sum256([]byte(url))
	return hex.EncodeToString(sum[:16])
}

// pick returns the image of a source, and all others, which are of earlier attempts, or were made
// twice since an answer was lost.
func (v *visit) pick(source string) (mine *images.Image, others []images.Image) {
	for i := range v.images {
		switch {
		case v.images[i].Properties[propSource] != source:
			others = append(others, v.images[i])
		case mine == nil:
			mine = &v.images[i]
		case v.images[i].Status == active && mine.Status != active:
			others = append(others, *mine)
			mine = &v.images[i]
		default:
			others = append(others, v.images[i])
		}
	}
	return mine, others
}

// act has Nova do something to the server. It does not wait for it.
func (v *visit) act(action, why string, body any) error {
	compute := *v.Compute
	if action == "rescue" && v.now.ImageID() == "" {
		compute.Microversion = volumeRescue
	}
	resp, err := compute.Post(v.ctx, compute.ServiceURL("servers", v.at.server, "action"), map[string]any{action: body}, nil,
		&gophercloud.RequestOpts{OkCodes: []int{http.StatusOK, http.StatusAccepted}})
	if err == nil {
		resp.Body.Close()
	}
	return v.say(fmt.Sprintf("cannot have server %s %s", v.at.server, why), err)
}

// volumeRescue is the microversion from which servers that start from volumes can be rescued
// (Nova's REST API version history, 2.87).
const volumeRescue = "2.87"

// unfit says what to do with servers that rescue mode is not for.
var unfit = map[string]string{
	"PAUSED":            "it is paused\nunpause it and look",
	"SUSPENDED":         "its memory was saved, and would go on with a disk that has changed\nresume it and look",
	"SHELVED":           "it is shelved\nunshelve it and look",
	"SHELVED_OFFLOADED": "it is shelved\nunshelve it and look",
	"VERIFY_RESIZE":     "it waits for somebody to confirm its new size\nconfirm or revert that",
	"RESIZE":            "it is being resized\nwait until that has ended",
	"MIGRATING":         "it is being moved\nwait until that has ended",
	"REBUILD":           "it is being made anew\nwait until that has ended, and look",
	"BUILD":             "it is being made\nwait until that has ended, and look",
	"DELETED":           "it was deleted",
	"SOFT_DELETED":      "it was deleted\nrestore it first",
}

// rescuable says why a server must not be rescued, or cannot be.
func (v *visit) rescuable() error {
	s := &v.now
	switch {
	case s.Status == rescue && len(v.images) == 0:
		return errors.New("it is in rescue mode already, and it was not unbrick that put it there\nlook who repairs it, or unrescue it")
	case unfit[s.Status] != "":
		return errors.New(unfit[s.Status])
	case !slices.Contains([]string{running, shutoff, failing, rescue}, s.Status):
		return fmt.Errorf("it is %s\nwait until it is ACTIVE or SHUTOFF", s.Status)
	case s.Locked:
		return errors.New("it is locked: somebody wants it left alone\nask who locked it, and unlock it (openstack server unlock)")
	case s.Flavor.Specs["hw:tpm_version"] != "":
		return errors.New("it has a virtual TPM, with which Nova rescues no server\nrepair it by another way in")
	case s.Task != "":
		return &remediate.RetryError{After: 10 * time.Second, Err: fmt.Errorf("something is being done to it (%s)\nwait until that has ended", s.Task)}
	case s.ImageID() != "" || s.Status == rescue:
		return nil
	}
	known, err := utils.GetSupportedMicroversions(v.ctx, v.Compute)
	if err != nil {
		return v.say("cannot ask which versions Nova speaks", err)
	}
	if ok, err := known.IsSupported(volumeRescue); err != nil || !ok {
		return fmt.Errorf("it starts from a volume, and this Nova rescues only servers that start from images (it speaks %d.%d, and %s is needed)\nrepair it by another way in", known.MaxMajor, known.MaxMinor, volumeRescue)
	}
	return nil
}

func (v *visit) stranger() error {
	return fmt.Errorf("server %s is in rescue mode, and it was not unbrick that put it there: look who repairs it; nothing was changed", v.at.server)
}

func (v *visit) failed(why string) error {
	text := fmt.Sprintf("server %s did not %s: it is %s", v.at.server, why, v.now.Status)
	if m := v.now.Fault.Message; m != "" {
		text += ", since " + strings.Join(strings.Fields(m), " ")
	}
	return errors.New(text + "\nlook at openstack server event list, or ask who runs the cloud")
}

func (v *visit) undone() error {
	return fmt.Errorf("somebody or something undoes what is done: server %s is %s after %d steps; look who else manages it", v.at.server, v.now.Status, maxSteps)
}

// say puts an error into words: one that may pass is a *remediate.RetryError.
func (v *visit) say(what string, err error) error {
	if err = api.Explain(v.ctx, err); err == nil {
		return nil
	}
	if v.ctx.Err() != nil {
		return fmt.Errorf("%s: %w", what, context.Cause(v.ctx))
	}
	var lost *api.LostError
	var said *api.Error
	errors.As(err, &said)
	err = fmt.Errorf("%s: %w", what, err)
	switch {
	case errors.As(err, &lost):
		return &remediate.RetryError{After: 5 * time.Second, Err: err}
	case said != nil && (said.Passing() || said.Status == http.StatusConflict && strings.Contains(said.Message, "task_state")):
		return &remediate.RetryError{After: 10 * time.Second, Err: err}
	case said != nil && said.Status == http.StatusNotAcceptable:
		return fmt.Errorf("%w\nthis Nova is older than what unbrick asks (microversion %s)", err, api.Microversion)
	}
	return err
}
