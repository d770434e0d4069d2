package redfishtest

import (
	"crypto/tls"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"
)

func (b *BMC) hasSlots(manager bool) bool {
	for _, m := range b.media {
		if m.slot.Manager == manager {
			return true
		}
	}
	return false
}

// virtualMedia serves the slots under a system or manager. The caller holds mu.
func (b *BMC) virtualMedia(c call, owner string, manager bool) reply {
	at := owner + "/VirtualMedia"
	if !b.hasSlots(manager) {
		return notFound()
	}
	if len(c.parts) == 3 {
		var ids []string
		for _, m := range b.media {
			if m.slot.Manager == manager {
				ids = append(ids, m.slot.ID)
			}
		}
		return found(collection(at, "#VirtualMediaCollection.VirtualMediaCollection", ids))
	}
	for _, m := range b.media {
		if m.slot.Manager == manager && m.slot.ID == c.parts[3] {
			return b.slot(c, at+"/"+m.slot.ID, m)
		}
	}
	return notFound()
}

func (b *BMC) slot(c call, at string, m *medium) reply {
	actions := !b.model.PatchInsert && !m.slot.NoURL
	switch {
	case len(c.parts) == 4 && c.Method == http.MethodGet:
		r := b.tagged(c, b.medium(at, m))
		if r.header == nil {
			r.header = http.Header{}
		}
		r.header.Set("Allow", "GET, HEAD") // DSP0266, "Response headers": which methods there are for it
		if b.model.PatchInsert && !m.slot.NoURL {
			r.header.Set("Allow", "GET, HEAD, PATCH")
		}
		return r
	case len(c.parts) == 4 && c.Method == http.MethodPatch:
		if actions || m.slot.NoURL {
			return notAllowed()
		}
		if r, ok := b.precondition(c); !ok {
			return r
		}
		if _, ok := c.body["Inserted"].(bool); !ok {
			return refuse(http.StatusBadRequest, "Base.1.8.PropertyMissing", "The property Inserted is required.")
		}
		if c.text("Image") == "" {
			return b.eject(m)
		}
		return b.insert(c, m)
	case c.Method != http.MethodPost || !actions:
		return notFound()
	case c.parts[5] == "VirtualMedia.InsertMedia":
		if c.body == nil {
			return refuse(http.StatusBadRequest, "Base.1.8.MalformedJSON", "The request body submitted was malformed JSON.")
		}
		return b.insert(c, m)
	case c.parts[5] == "VirtualMedia.EjectMedia":
		if b.model.EjectBody && c.body == nil {
			return refuse(http.StatusBadRequest, "Base.1.4.MalformedJSON", "The request body submitted was malformed JSON.")
		}
		return b.eject(m)
	}
	return notFound()
}

// medium is a slot as a client reads it.
func (b *BMC) medium(at string, m *medium) map[string]any {
	shown := m.inserted && !time.Now().Before(m.from)
	image, via := m.image, "URI"
	if m.stale > 0 {
		m.stale--
		shown = true
	} else if !m.inserted {
		via = "NotConnected"
		if b.model.KeepsImage {
			shown = image != ""
		} else {
			image = ""
		}
	}
	v := map[string]any{
		"@odata.id": at, "@odata.type": "#VirtualMedia.v1_3_2.VirtualMedia", "Id": m.slot.ID, "Name": "Virtual Media " + m.slot.ID,
		"MediaTypes": m.slot.Types, "ConnectedVia": via, "Inserted": shown, "WriteProtected": true,
		"Image": nil, "ImageName": nil,
	}
	if image != "" {
		v["Image"], v["ImageName"] = image, path.Base(image)
	}
	if !b.model.PatchInsert && !m.slot.NoURL {
		v["Actions"] = map[string]any{
			"#VirtualMedia.InsertMedia": map[string]any{"target": at + "/Actions/VirtualMedia.InsertMedia"},
			"#VirtualMedia.EjectMedia":  map[string]any{"target": at + "/Actions/VirtualMedia.EjectMedia"},
		}
	}
	return v
}

// insert checks what real ones check, in their order, and then takes the image.
func (b *BMC) insert(c call, m *medium) reply {
	if r, refused := b.refuseInsert(c, m); refused {
		return r
	}
	image := c.text("Image")
	if b.opt.FetchOnInsert {
		b.mu.Unlock() // a fetch takes time, and the BMC answers others meanwhile
		err := b.fetch(c.Request, image)
		b.mu.Lock()
		if err != nil {
			return refuse(http.StatusInternalServerError, "IDRAC.2.8.VRM0013", "Unable to locate the image or folder in the location specified.")
		}
		if m.inserted {
			return occupied()
		}
	}
	m.image, m.inserted, m.from, m.stale = image, true, time.Now().Add(b.opt.InsertDelay), 0
	b.record(Insert, m.slot.ID+" "+image)
	return b.done()
}

func (b *BMC) refuseInsert(c call, m *medium) (reply, bool) {
	if b.opt.Unlicensed {
		id := b.model.NoLicence
		if id == "" {
			id = "Base.1.8.LicenseRequired"
		}
		return refuse(http.StatusForbidden, id, "A license key is required to complete this operation."), true
	}
	if m.slot.Refuses {
		return refuse(http.StatusBadRequest, "Base.1.8.ActionNotSupported", "The action InsertMedia is not supported by the resource."), true
	}
	if b.model.BareImage {
		for _, name := range []string{"Inserted", "WriteProtected"} {
			if _, ok := c.body[name]; ok {
				return refuse(http.StatusBadRequest, "Base.1.4.PropertyUnknown", "The property "+name+" is not in the list of valid properties for the resource."), true
			}
		}
	}
	need := []string{"Image"}
	if b.model.NeedUser {
		need = append(need, "UserName", "Password")
	}
	if b.model.NeedProto {
		need = append(need, "TransferProtocolType")
	}
	for _, name := range need {
		if c.text(name) == "" {
			return refuse(http.StatusBadRequest, "Base.1.8.ActionParameterMissing", "The action InsertMedia requires that the parameter "+name+" be present in the request body."), true
		}
	}
	if why := badImage(c.text("Image")); why != "" {
		return refuse(http.StatusBadRequest, "Base.1.8.ActionParameterValueFormatError", "The value of the parameter Image "+why+"."), true
	}
	if m.inserted {
		return occupied(), true
	}
	return b.inPOST()
}

func occupied() reply {
	return refuse(http.StatusBadRequest, "IDRAC.2.8.VRM0012", "The Virtual Media image server is already connected.")
}

// badImage says what is wrong with the URL of an image, or nothing.
func badImage(image string) string {
	u, err := url.Parse(image)
	switch {
	case err != nil || u.Host == "":
		return "is not a URL"
	case u.Scheme != "http" && u.Scheme != "https":
		return "has a protocol that is not supported"
	case strings.ContainsAny(image, "?&"):
		return "has a character that is not supported"
	case !strings.HasSuffix(strings.ToLower(u.Path), ".iso"):
		return "is not an image"
	}
	return ""
}

// fetch asks for the image as the BMC does before it takes it. It trusts any certificate.
func (b *BMC) fetch(r *http.Request, image string) error {
	req, err := http.NewRequestWithContext(r.Context(), http.MethodHead, image, nil)
	if err != nil {
		return err
	}
	t := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: t, Timeout: 10 * time.Second}).Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode >= 300 {
		return http.ErrMissingFile
	}
	return nil
}

func (b *BMC) eject(m *medium) reply {
	if r, refused := b.inPOST(); refused {
		return r
	}
	if !m.inserted {
		if b.model.KeepsImage || b.model.PatchInsert {
			return b.done()
		}
		return refuse(http.StatusBadRequest, "IDRAC.2.8.VRM0009", "No Virtual Media devices are currently connected.")
	}
	m.inserted = false
	if !b.model.KeepsImage {
		m.stale = 0
	}
	if b.silent(StaleMedia) {
		m.stale = 2
	}
	b.record(Eject, m.slot.ID)
	return b.done()
}
