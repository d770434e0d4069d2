package redfish

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/stmcginnis/gofish"
	"github.com/stmcginnis/gofish/schemas"

	"unbrick/inventory"
	"unbrick/inventory/secret"
	"unbrick/remediate"
)

// A visit is one call of one method: one session at one BMC.
type visit struct {
	driver   *Driver
	addr     address
	password secret.Value
	client   *gofish.APIClient
	courier  *courier
	admitted bool // a request with our credentials was answered

	system   *schemas.ComputerSystem
	managers []*schemas.Manager
	first    *standing // what the system said when it was found, until it is used
}

// visit logs in, finds the host's system, calls do, and logs out, whatever happens.
func (d *Driver) visit(ctx context.Context, t remediate.Target, do func(*visit) error) error {
	addr, err := parseAddress(t.Route.Address)
	if err != nil {
		return err
	}
	leave, err := d.limit.Enter(ctx, addr.host)
	if err != nil {
		return err
	}
	defer leave()
	v := &visit{driver: d, addr: addr}
	err = v.connect(ctx, t)
	if err == nil {
		defer v.close(ctx)
		if err = v.find(ctx, t.Host); err == nil {
			err = do(v)
		}
	}
	return v.explain(ctx, err)
}

// connect opens a session, or uses Basic where a BMC has no sessions, or none left. A login
// whose answer is lost leaves a session that we cannot name; the BMC ends it by itself.
func (v *visit) connect(ctx context.Context, t remediate.Target) error {
	user, password, err := v.driver.opt.Login(ctx, t)
	if err != nil {
		return fmt.Errorf("cannot log in to BMC %s: %w", v.addr.host, err)
	}
	v.password = password
	conf, err := v.driver.opt.TLS.Config(ctx, v.addr.host)
	if err != nil {
		return err
	}
	client, courier := newClient(v.addr.host, conf, v.driver.opt.Times)
	v.courier = courier
	config := gofish.ClientConfig{
		Endpoint: v.addr.endpoint(), Username: user, Password: password.Reveal(),
		HTTPClient: client, NoModifyTransport: true,
	}
	v.client, err = gofish.ConnectContext(ctx, config)
	if err == nil {
		v.admitted = true
		return nil
	}
	status, _ := answer(err)
	if kindOf(err) != full && status != http.StatusMethodNotAllowed && status != http.StatusNotImplemented {
		return err
	}
	config.BasicAuth = true
	v.client, err = gofish.ConnectContext(ctx, config)
	return err
}

// close ends the session, with time of its own: ctx may be over. Sessions are few, so it tries
// more than once.
func (v *visit) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), v.driver.opt.Times.Logout)
	defer cancel()
	client := v.client.WithContext(ctx)
	for range tries {
		if s, err := client.GetSession(); err != nil || s.ID == "" {
			break // ended, or Basic
		}
		client.Logout()
		if ctx.Err() != nil {
			break
		}
	}
	v.courier.CloseIdleConnections()
}

// find picks the system that is the host, and makes sure that it is.
func (v *visit) find(ctx context.Context, h inventory.Host) error {
	systems, err := v.systems()
	if err != nil {
		return err
	}
	v.admitted = true
	if v.system, err = v.pick(systems, h); err != nil {
		return err
	}
	v.first = &standing{etag: v.system.ODataEtag}
	if err := json.Unmarshal(v.system.RawData, v.first); err != nil {
		return err
	}
	v.managers, err = v.system.ManagedBy()
	if err == nil && len(v.managers) == 0 && len(systems) == 1 {
		v.managers, err = v.client.Service.Managers()
	}
	return err
}

func (v *visit) systems() ([]*schemas.ComputerSystem, error) {
	if v.addr.system == "" {
		return v.client.Service.Systems()
	}
	s, err := schemas.GetObject[schemas.ComputerSystem](v.client, v.addr.system)
	if err != nil {
		return nil, err
	}
	return []*schemas.ComputerSystem{s}, nil
}

// pick returns the system that is the host. The only one is taken unless it contradicts the
// inventory; of several, the one that agrees in most and contradicts in nothing.
func (v *visit) pick(systems []*schemas.ComputerSystem, h inventory.Host) (*schemas.ComputerSystem, error) {
	var best *schemas.ComputerSystem
	most, others := 0, ""
	var alike []string
	for _, s := range systems {
		agrees, wrong := h.Compare(s.UUID, serials(s, h)...)
		switch {
		case wrong != nil && len(systems) == 1:
			return nil, fmt.Errorf("BMC %s belongs to another host: %v. Correct the address or the inventory", v.addr.host, wrong)
		case wrong != nil:
			others += fmt.Sprintf("; of %s, %v", s.ODataID, wrong)
		case len(systems) == 1:
			return s, nil
		case len(agrees) > most:
			best, most, alike = s, len(agrees), []string{s.ODataID}
		case len(agrees) == most && most > 0:
			alike = append(alike, s.ODataID)
		}
	}
	switch {
	case len(alike) == 1:
		return best, nil
	case len(alike) > 1:
		return nil, fmt.Errorf("BMC %s manages %d systems, of which %.400s agree with the inventory alike. Give the system's path in the address, %s/redfish/v1/Systems/ID, or the host's serial in the inventory",
			v.addr.host, len(systems), strings.Join(alike, " and "), v.addr.endpoint())
	}
	return nil, fmt.Errorf("BMC %s manages %d systems, and none is this host by its serial and UUID%.400s. Give the system's path in the address, %s/redfish/v1/Systems/ID, or correct the inventory",
		v.addr.host, len(systems), others, v.addr.endpoint())
}

// serials are what a system says its serial is. Dell puts the service tag into SKU, which is
// the number of a product elsewhere: there it proves that this is the host, but not the contrary.
func serials(s *schemas.ComputerSystem, h inventory.Host) []string {
	all := []string{s.SerialNumber}
	if _, wrong := h.Compare("", s.SKU); wrong == nil || strings.Contains(s.Manufacturer, "Dell") {
		all = append(all, s.SKU)
	}
	return all
}

// product names the BMC for people.
func (v *visit) product() string {
	if v.system == nil {
		return "unknown"
	}
	name := v.system.Manufacturer + " " + v.system.Model
	for _, m := range v.managers {
		name += ", " + m.Model + " " + m.FirmwareVersion
	}
	return strings.TrimSpace(name)
}

// read reads a resource into dst and returns its entity tag.
func (v *visit) read(path string, dst any) (etag string, err error) {
	resp, err := v.client.Get(path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	var tag struct {
		ETag string `json:"@odata.etag"`
	}
	if err := json.Unmarshal(raw, &tag); err != nil {
		return "", err
	}
	if h := resp.Header.Get("ETag"); h != "" {
		tag.ETag = h
	}
	return tag.ETag, json.Unmarshal(raw, dst)
}

// post sends an action, once.
func (v *visit) post(path string, body any) error {
	resp, err := v.client.Post(path, body)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// patch changes a resource whose entity tag was read as tag. BMCs differ in what they take
// there, and a tag grows old: a 412 says that nothing was done, and another form is tried.
func (v *visit) patch(path, tag string, body any) error {
	var err error
	for try := range 4 {
		if err = v.patchIf(path, tag, body); err == nil {
			return nil
		}
		status, _ := answer(err)
		if status != http.StatusPreconditionFailed && status != http.StatusPreconditionRequired {
			return err
		}
		strong, weak := strings.CutPrefix(tag, "W/")
		switch {
		case weak:
			tag = strong
		case try < 2:
			if tag, err = v.read(path, &struct{}{}); err != nil {
				return err
			}
		default:
			tag = ""
		}
	}
	return err
}

// patchIf sends one PATCH; the empty tag means no condition.
func (v *visit) patchIf(path, tag string, body any) error {
	header := map[string]string{}
	if tag != "" {
		header["If-Match"] = tag
	}
	resp, err := v.client.PatchWithHeaders(path, body, header)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
