package amt

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/device-management-toolkit/go-wsman-messages/v2/pkg/wsman"
	"github.com/device-management-toolkit/go-wsman-messages/v2/pkg/wsman/client"

	"unbrick/inventory"
	"unbrick/inventory/secret"
	"unbrick/remediate"
)

// A visit is one call of one method.
type visit struct {
	driver   *Driver
	target   remediate.Target
	addr     address
	password secret.Value
	courier  *courier
	wsman    wsman.Messages
	admitted bool // a request with our credentials was answered
}

// visit makes sure that AMT belongs to the host, and calls do. There is no session to end.
func (d *Driver) visit(ctx context.Context, t remediate.Target, do func(*visit) error) error {
	addr, err := parseAddress(t.Route.Address)
	if err != nil {
		return err
	}
	v := &visit{driver: d, target: t, addr: addr}
	back, err := d.limit.Enter(ctx, addr.host)
	if err != nil {
		return v.explain(ctx, err)
	}
	defer back()
	if err = v.connect(ctx); err == nil {
		defer v.courier.next.CloseIdleConnections()
		if err = v.identify(t.Host); err == nil {
			err = do(v)
		}
	}
	return v.explain(ctx, err)
}

// connect makes a client; nothing is sent yet.
func (v *visit) connect(ctx context.Context) error {
	opt := v.driver.opt
	user, password, err := opt.Login(ctx, v.target)
	if err != nil {
		return fmt.Errorf("cannot log in to AMT %s: %w", v.addr.host, err)
	}
	v.password = password
	conf, err := opt.TLS.Config(ctx, v.addr.host)
	if err != nil {
		return err
	}
	name := v.addr.name
	if strings.Contains(name, ":") {
		name = "[" + name + "]"
	}
	v.courier = newCourier(ctx, v.addr.host, conf, opt.Times.Request)
	v.wsman = wsman.NewMessages(client.Parameters{
		Target: name, UseTLS: true, UseDigest: true, Transport: v.courier,
		Username: user, Password: password.Reveal(),
	})
	if c, ok := v.wsman.Client.(*client.Target); ok {
		c.Timeout = 0 // the courier's limits hold
		c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	return nil
}

// identify makes sure that this AMT is the host's: what both name, of UUID and serial, agrees.
// A host of which the inventory knows neither is not checked.
func (v *visit) identify(h inventory.Host) error {
	guid, serial := "", ""
	if h.UUID != "" {
		r, err := v.wsman.CIM.ComputerSystemPackage.Get()
		if err := v.check(err); err != nil {
			return err
		}
		guid = r.Body.GetResponse.PlatformGUID
	}
	if h.Serial != "" {
		r, err := v.wsman.CIM.Chassis.Get()
		if err := v.check(err); err != nil {
			return err
		}
		serial = strings.TrimSpace(r.Body.PackageResponse.SerialNumber)
	}
	if _, wrong := h.Compare(v.clean(guid), v.clean(serial)); wrong != nil {
		return fmt.Errorf("AMT %s belongs to another host: %v. Correct the address or the inventory", v.addr.host, wrong)
	}
	return nil
}

// output returns what was answered, if anything was.
func output(m *client.Message) string {
	if m == nil {
		return ""
	}
	return m.XMLOutput
}

// maxPages is how many answers an enumeration may take.
const maxPages = 64

// list enumerates a class to its end: firmware gives as many instances as fit into an answer,
// and the library does not say whether there are more.
func list[T any](v *visit, begin func() (id string, err error), pull func(id string) (items []T, raw string, err error)) ([]T, error) {
	id, err := begin()
	if err := v.check(err); err != nil {
		return nil, err
	}
	var all []T
	for range maxPages {
		items, raw, err := pull(id)
		if err := v.check(err); err != nil {
			return nil, err
		}
		all = append(all, items...)
		var page struct {
			End  *struct{} `xml:"Body>PullResponse>EndOfSequence"`
			Next string    `xml:"Body>PullResponse>EnumerationContext"`
		}
		if err := xml.Unmarshal([]byte(raw), &page); err != nil {
			return nil, err // the library has just read it
		}
		if page.End != nil || page.Next == "" {
			return all, nil
		}
		id = page.Next
	}
	return nil, errors.New("AMT " + v.addr.host + " goes on listing without an end")
}
