package openstack

import (
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/imagedata"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"

	api "unbrick/inventory/source/openstack"
	"unbrick/remediate"
)

// The properties of images that we make.
const (
	propSource = "unbrick_source"
	propServer = "unbrick_server"
)

// upload brings the image at an address to Glance, as the server's own. An image that is
// there, and that nothing was brought to, is filled; one that was left half full is not used.
func (v *visit) upload(url string, there *images.Image) error {
	if there != nil && there.Status != "queued" {
		return v.remove(*there)
	}
	if there == nil {
		var err error
		if there, err = v.create(source(url)); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(v.ctx, http.MethodGet, url, nil)
	if err != nil {
		return errors.New("cannot fetch the rescue image: its address is not valid") // and not to be repeated
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return v.say("cannot fetch the rescue image", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("cannot fetch the rescue image: the image server answers %s", resp.Status)
	}
	counted := &counter{Reader: resp.Body, sum: sha512.New()}
	err = imagedata.Upload(v.ctx, v.Image, there.ID, counted).ExtractErr()
	if err = api.Explain(v.ctx, err); err != nil {
		return v.say("cannot bring the rescue image to Glance", err)
	}
	return v.verify(there.ID, counted)
}

func (v *visit) create(source string) (*images.Image, error) {
	private := images.ImageVisibilityPrivate
	props := map[string]string{"hw_rescue_device": "cdrom", propSource: source, propServer: v.at.server}
	if v.opt.Bus != "" {
		props["hw_rescue_bus"] = v.opt.Bus
	}
	// Glance and Nova look into what they are given: a raw disk in which an ISO is found is refused.
	made, err := images.Create(v.ctx, v.Image, images.CreateOpts{Name: v.imageName(), Visibility: &private, ContainerFormat: "bare", DiskFormat: "iso", Properties: props}).Extract()
	return made, v.say("cannot make an image in Glance", err)
}

// verify makes sure that Glance has what was sent. It has not where the token ended during the
// upload: the library then sends the rest of the image as if it were all of it.
func (v *visit) verify(id string, sent *counter) error {
	got, err := images.Get(v.ctx, v.Image, id).Extract()
	if err != nil {
		return v.say("cannot read the image in Glance", err)
	}
	sum, _ := got.Properties["os_hash_value"].(string)
	algorithm, _ := got.Properties["os_hash_algo"].(string)
	if got.Status == active && got.SizeBytes == sent.n && (algorithm != "sha512" || sum == hex.EncodeToString(sent.sum.Sum(nil))) {
		return nil
	}
	if err := v.remove(*got); err != nil {
		return err
	}
	return &remediate.RetryError{After: 5 * time.Second, Err: fmt.Errorf("the image in Glance is not what was sent (%s, %d of %d bytes)", got.Status, got.SizeBytes, sent.n)}
}

// counter is a reader that remembers what was read.
type counter struct {
	io.Reader
	n   int64
	sum hash.Hash
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.n += int64(n)
	c.sum.Write(b[:n])
	return n, err
}

// remove deletes an image. One that is gone is no error.
func (v *visit) remove(i images.Image) error {
	err := api.Explain(v.ctx, images.Delete(v.ctx, v.Image, i.ID).ExtractErr())
	switch {
	case api.Is(err, http.StatusNotFound):
		return nil
	case api.Is(err, http.StatusConflict): // what was cloned of it is not gone yet
		return &remediate.RetryError{After: 10 * time.Second, Err: fmt.Errorf("cannot delete image %s yet, which unbrick made: %w", i.ID, err)}
	}
	return v.say("cannot delete image "+i.ID+", which unbrick made", err)
}
