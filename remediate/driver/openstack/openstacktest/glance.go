package openstacktest

import (
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
)

// An image is one of Glance's.
type image struct {
	Object
	data []byte
}

func (c *Cloud) image(id string) *image {
	for _, i := range c.images {
		if i.Object["id"] == id {
			return i
		}
	}
	return nil
}

func (c *Cloud) glance(w http.ResponseWriter, r *http.Request, p []string) *refusal {
	switch {
	case r.Method == http.MethodGet && len(p) == 2:
		return c.listImages(w, r)
	case r.Method == http.MethodPost && len(p) == 2:
		return c.createImage(w, r)
	case len(p) < 3 || c.image(p[2]) == nil:
		return &refusal{404, "itemNotFound", "Failed to find image"}
	case r.Method == http.MethodGet && len(p) == 3:
		reply(w, c.image(p[2]).Object)
		return nil
	case r.Method == http.MethodPut && len(p) == 4 && p[3] == "file":
		return c.fill(w, r, c.image(p[2]))
	case r.Method == http.MethodDelete && len(p) == 3:
		return c.deleteImage(w, p[2])
	}
	return notFound("Path", r.URL.Path)
}

// listImages pages by the id of the last image (api-ref, image v2, "Paginating responses":
// next). Hidden images there are none.
func (c *Cloud) listImages(w http.ResponseWriter, r *http.Request) *refusal {
	q := r.URL.Query()
	started, items, page := q.Get("marker") == "", []any{}, Object{}
	if !started && c.image(q.Get("marker")) == nil {
		return &refusal{400, "badRequest", "Invalid marker. Image could not be found."}
	}
	for _, i := range c.images {
		if !started {
			started = i.Object["id"] == q.Get("marker")
			continue
		}
		if name := q.Get("name"); name != "" && i.Object["name"] != name || q.Get("os_hidden") == "True" {
			continue
		}
		if len(items) == most {
			q.Set("marker", items[most-1].(Object)["id"].(string))
			page["next"] = "/v2/images?" + q.Encode()
			break
		}
		items = append(items, i.Object)
	}
	page["images"] = items
	reply(w, page)
	return nil
}

// createImage makes an image without data (api-ref, image v2, "Create image": queued).
func (c *Cloud) createImage(w http.ResponseWriter, r *http.Request) *refusal {
	if err := c.permit("add_image"); err != nil {
		return err
	}
	var o Object
	if err := json.NewDecoder(r.Body).Decode(&o); err != nil {
		return &refusal{400, "badRequest", "not JSON"}
	}
	c.ids++
	c.actions++
	o["id"], o["status"] = fmt.Sprintf("00000000-0000-4000-8000-%012d", c.ids), "queued"
	c.images = append(c.images, &image{Object: o})
	w.WriteHeader(http.StatusCreated)
	reply(w, o)
	return nil
}

// fill takes the data, once (api-ref, "Upload binary image data": 409 if it is not queued).
func (c *Cloud) fill(w http.ResponseWriter, r *http.Request, i *image) *refusal {
	if i.Object["status"] != "queued" {
		return &refusal{409, "conflictingRequest", "Image status transition from " + fmt.Sprint(i.Object["status"]) + " to saving is not allowed"}
	}
	data, err := io.ReadAll(r.Body)
	if err != nil { // what came half stays so
		i.Object["status"] = "saving"
		return &refusal{500, "error", "it broke off"}
	}
	c.actions++
	sum := sha512.Sum512(data)
	i.data, i.Object["status"], i.Object["size"] = data, "active", len(data)
	i.Object["os_hash_algo"], i.Object["os_hash_value"] = "sha512", hex.EncodeToString(sum[:])
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// deleteImage: one that a server is being rescued with, or runs from in rescue mode, is in use
// where images are cloned and not copied (Ceph): 409.
func (c *Cloud) deleteImage(w http.ResponseWriter, id string) *refusal {
	for _, s := range c.servers {
		if n := len(s.boots); s.vm == "rescued" && n > 0 && s.boots[n-1] == string(c.image(id).data) {
			return &refusal{409, "conflictingRequest", "Image " + id + " could not be deleted because it is in use"}
		}
	}
	c.actions++
	c.images = slices.DeleteFunc(c.images, func(i *image) bool { return i.Object["id"] == id })
	w.WriteHeader(http.StatusNoContent)
	return nil
}
