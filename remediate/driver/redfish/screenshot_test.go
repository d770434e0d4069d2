package redfish_test

import (
	"bytes"
	"errors"
	picture "image"
	"image/color"
	"image/jpeg"
	"image/png"
	"strings"
	"testing"

	"unbrick/remediate/driver/redfish"
	"unbrick/remediate/driver/redfish/redfishtest"
)

func TestScreenshot(t *testing.T) {
	blue := picture.NewRGBA(picture.Rect(0, 0, 8, 8))
	for i := range 64 {
		blue.Set(i%8, i/8, color.RGBA{B: 0xd7, A: 0xff})
	}
	encoded := map[string]func() []byte{
		"png":  func() []byte { var b bytes.Buffer; png.Encode(&b, blue); return b.Bytes() },
		"jpeg": func() []byte { var b bytes.Buffer; jpeg.Encode(&b, blue, nil); return b.Bytes() },
		"text": func() []byte { return []byte("no picture") },
	}
	for _, m := range redfishtest.Models() {
		can := m.Name == "iDRAC9-4" || m.Name == "iDRAC9" || m.Name == "iDRAC10"
		for kind, screen := range encoded {
			r := newRack(t, redfishtest.Options{Model: m, Screen: screen})
			b, err := redfish.New(options()).Screenshot(t.Context(), r.target())
			switch {
			case !can && !errors.Is(err, errors.ErrUnsupported):
				t.Errorf("%s: %v, want unsupported", m.Name, err)
			case can && kind == "text" && (err == nil || !strings.Contains(err.Error(), "neither PNG nor JPEG")):
				t.Errorf("%s: what is no picture: %v", m.Name, err)
			case can && kind != "text":
				img, decodeErr := png.Decode(bytes.NewReader(b))
				if err != nil || decodeErr != nil || img.Bounds().Dx() != 8 {
					t.Errorf("%s, %s: %v, %v", m.Name, kind, err, decodeErr)
				}
			}
			if s := r.State(); s.Sessions != 0 || len(r.did()) > 0 {
				t.Errorf("%s: a look did %v and left %d sessions", m.Name, r.did(), s.Sessions)
			}
		}
	}
}
