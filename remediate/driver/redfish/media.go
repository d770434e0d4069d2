package redfish

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/stmcginnis/gofish/schemas"
)

// A slot is a place for virtual media.
type slot struct {
	Path         string `json:"@odata.id"`
	ID           string `json:"Id"`
	MediaTypes   []string
	ConnectedVia string
	Inserted     *bool
	Image        string
	ImageName    string
	Actions      struct {
		Insert schemas.ActionTarget `json:"#VirtualMedia.InsertMedia"`
		Eject  schemas.ActionTarget `json:"#VirtualMedia.EjectMedia"`
	}
	etag string
}

// full says whether an image is in the slot. ConnectedVia counts most: Supermicro leaves all
// the rest as it was after an eject.
func (s slot) full() bool {
	switch {
	case s.ConnectedVia == "NotConnected":
		return false
	case s.Inserted != nil:
		return *s.Inserted
	}
	return s.Image != "" || s.ImageName != ""
}

// image names what is in the slot.
func (s slot) image() string {
	switch {
	case s.Image != "":
		return s.Image
	case s.ImageName != "":
		return s.ImageName
	}
	return "unknown"
}

// holds says whether the slot shows that image: by its URL, or by its last part where the BMC
// shows no more.
func (s slot) holds(image string) bool {
	if s.Image == "" {
		return s.ImageName != "" && (s.ImageName == image || s.ImageName == path.Base(image))
	}
	if un, err := url.PathUnescape(s.Image); err == nil && un == image {
		return true
	}
	return s.Image == image
}

// disc says whether the slot is for discs. Cisco's are for DVD and not for CD.
func (s slot) disc() bool {
	return len(s.MediaTypes) == 0 || slices.Contains(s.MediaTypes, "CD") || slices.Contains(s.MediaTypes, "DVD")
}

// slots reads every slot: those of the system, then those of its managers.
func (v *visit) slots() ([]slot, error) {
	media, err := v.system.VirtualMedia()
	if err != nil {
		return nil, err
	}
	for _, m := range v.managers {
		more, err := m.VirtualMedia()
		if err != nil {
			return nil, err
		}
		media = append(media, more...)
	}
	var slots []slot
	for _, m := range media {
		s := slot{etag: m.ODataEtag}
		if err := json.Unmarshal(m.RawData, &s); err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(slots, func(x slot) bool { return x.Path == s.Path }) {
			slots = append(slots, s)
		}
	}
	return slots, nil
}

// usable returns the slots that may take our image, best first.
func (v *visit) usable(all []slot) []slot {
	var action, patch []slot
	for _, s := range all {
		switch {
		case !s.disc():
		case v.lenovo() && (strings.HasPrefix(s.ID, "RDOC") || strings.HasPrefix(s.ID, "Remote")):
			// For images uploaded into the BMC, and for a browser.
		case v.idrac() >= 10 && s.ID != "1":
			// Takes an image, and is never booted from.
		case s.Actions.Insert.Target != "":
			action = append(action, s)
		default:
			patch = append(patch, s)
		}
	}
	return append(action, patch...)
}

func (v *visit) noSlot() error {
	return fmt.Errorf("BMC %s has no virtual media that takes a URL (%s): it may need a licence", v.addr.host, v.product())
}

// insert puts the image into the first usable slot that takes it, and returns when the BMC
// shows it there.
func (v *visit) insert(ctx context.Context, all []slot, image string) error {
	slots := v.usable(all)
	if len(slots) == 0 {
		return v.noSlot()
	}
	var why []string
	for _, s := range slots {
		err := v.insertInto(ctx, s, image)
		if kindOf(err) != refused && kindOf(err) != missing {
			return err
		}
		status, text := answer(err)
		why = append(why, fmt.Sprintf("slot %s: %d %s", s.ID, status, v.clean(text)))
	}
	return fmt.Errorf("BMC %s does not take the image %s: %s", v.addr.host, path.Base(image), strings.Join(why, "; "))
}

// maxForms is how many forms of an insert are tried in one slot.
const maxForms = 7

// insertInto tries the forms that makes of BMC want: first the standard one, then the image
// alone (HPE, Supermicro), then with what the refusal names (AMI, NVIDIA, Dell). A request
// whose answer is lost is not repeated here: the next call looks at the slots first.
func (v *visit) insertInto(ctx context.Context, s slot, image string) error {
	body := map[string]any{"Image": image, "Inserted": true, "WriteProtected": true}
	for range maxForms {
		err := v.sendInsert(s, body)
		switch kindOf(err) {
		case none:
			return v.await(ctx, s, image)
		case refused:
			if _, text := answer(err); !adapt(body, s, text) {
				return err
			}
		default:
			return err
		}
	}
	return fmt.Errorf("BMC %s wants an insert in a form that is not known (%s)", v.addr.host, v.product())
}

func (v *visit) sendInsert(s slot, body map[string]any) error {
	if s.Actions.Insert.Target != "" {
		return v.post(s.Actions.Insert.Target, body)
	}
	return v.patch(s.Path, s.etag, body)
}

// adapt changes the form of an insert after a refusal that says text. It returns false if
// there is no other form to try.
func adapt(body map[string]any, s slot, text string) bool {
	protocol := "HTTP"
	if image, _ := body["Image"].(string); strings.HasPrefix(image, "https:") {
		protocol = "HTTPS"
	}
	for _, p := range [][2]string{{"TransferProtocolType", protocol}, {"TransferMethod", "Stream"}, {"UserName", "none"}, {"Password", "none"}} {
		if _, have := body[p[0]]; !have && strings.Contains(text, p[0]) {
			body[p[0]] = p[1]
			return true
		}
	}
	if _, have := body["Inserted"]; have && s.Actions.Insert.Target != "" { // a PATCH must carry Inserted
		delete(body, "Inserted")
		delete(body, "WriteProtected")
		return true
	}
	return false
}

// await reads the slot until it shows the image. Some show it as not connected before the
// host has used it.
func (v *visit) await(ctx context.Context, s slot, image string) error {
	ok, err := v.until(ctx, func() (bool, error) {
		var now slot
		_, err := v.read(s.Path, &now)
		return err == nil && now.holds(image) && (now.full() || now.Inserted != nil && *now.Inserted), err
	})
	if err == nil && !ok {
		err = v.later(fmt.Errorf("BMC %s took the image and does not show it in slot %s", v.addr.host, s.ID))
	}
	return err
}

// eject empties a slot, and returns when the BMC shows it empty. A refusal may mean that it is
// empty already, and that what is shown is old.
func (v *visit) eject(ctx context.Context, s slot) error {
	return v.settle(ctx, "eject of slot "+s.ID, func() (bool, error) {
		now := slot{}
		tag, err := v.read(s.Path, &now)
		s.etag = tag
		return err == nil && !now.full(), err
	}, func() error { return v.sendEject(s) }, refused)
}

func (v *visit) sendEject(s slot) error {
	if s.Actions.Eject.Target != "" {
		return v.post(s.Actions.Eject.Target, map[string]any{}) // HPE wants a body
	}
	return v.patch(s.Path, s.etag, map[string]any{"Image": nil, "Inserted": false})
}
