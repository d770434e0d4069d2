package redfish

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"image/jpeg"
	"image/png"
	"io"
	"strings"

	"unbrick/remediate"
)

var _ remediate.Screenshotter = (*Driver)(nil)

// maxScreenshot is in bytes, as JSON.
const maxScreenshot = 32 << 20

// Screenshot implements remediate.Screenshotter. The standard has no such thing: an iDRAC 9 or
// 10 has, and of other BMCs the error wraps errors.ErrUnsupported.
func (d *Driver) Screenshot(ctx context.Context, t remediate.Target) (picture []byte, err error) {
	err = d.visit(ctx, t, func(v *visit) error {
		if v.idrac() < 9 {
			return fmt.Errorf("BMC %s cannot show the host's screen by Redfish (%s): %w", v.addr.host, v.product(), errors.ErrUnsupported)
		}
		picture, err = v.dellScreenshot()
		return err
	})
	return picture, err
}

// dellScreenshot calls an action that old firmware has in another place.
func (v *visit) dellScreenshot() ([]byte, error) {
	const action = "/DellLCService/Actions/DellLCService.ExportServerScreenShot"
	manager := v.managers[0].ODataID
	var last error
	for _, path := range []string{
		manager + "/Oem/Dell" + action,
		"/redfish/v1/Dell" + strings.TrimPrefix(manager, "/redfish/v1") + action,
	} {
		resp, err := v.client.Post(path, map[string]string{"FileType": "ServerScreenShot"})
		if kindOf(err) == missing {
			last = err
			continue
		}
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		var answer struct{ ServerScreenShotFile string }
		if err := json.NewDecoder(io.LimitReader(resp.Body, maxScreenshot)).Decode(&answer); err != nil {
			return nil, fmt.Errorf("BMC %s answers with something else than a screenshot: %v", v.addr.host, err)
		}
		return pngOf(answer.ServerScreenShotFile)
	}
	return nil, last
}

// pngOf decodes a picture: an iDRAC sends PNG or JPEG, whatever its documentation says.
func pngOf(text string) ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil {
		return nil, errors.New("the screenshot is not base64")
	}
	if bytes.HasPrefix(b, []byte("\x89PNG\r\n")) {
		return b, nil
	}
	img, err := jpeg.Decode(bytes.NewReader(b))
	if err != nil {
		return nil, errors.New("the screenshot is neither PNG nor JPEG")
	}
	var out bytes.Buffer
	err = png.Encode(&out, img)
	return out.Bytes(), err
}
