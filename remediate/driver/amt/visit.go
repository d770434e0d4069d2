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

// identify makes sure that this AMT is the host's: both name a UUID or a serial, and they
// agree. A host of which the inventory knows neither is not checked.
func (v *visit) identify(h inventory.Host) error {
	if h.UUID == "" && h.Serial == "" {
		return nil
	}
	guid, serial := "", ""
	if h.UUID != "" {
		r, err := v.wsman.CIM.ComputerSystemPackage.Get()
		if err := v.check(err); err != nil {
			return err
		}
		guid = plain(r.Body.GetResponse.PlatformGUID)
		if guid != "" && (guid == plain(h.UUID) || guid == swapped(plain(h.UUID))) {
			return nil
		}
	}
	if h.Serial != "" {
		r, err := v.wsman.CIM.Chassis.Get()
		if err := v.check(err); err != nil {
			return err
		}
		serial = strings.TrimSpace(r.Body.PackageResponse.SerialNumber)
		if strings.EqualFold(serial, h.Serial) {
			return nil
		}
	}
	if guid == "" && serial == "" {
		return nil
	}
	return fmt.Errorf("AMT %s belongs to another host: it says serial %q, UUID %q, and the inventory says serial %q, UUID %q. Correct the address or the inventory",
		v.addr.host, v.clean(serial), v.clean(guid), h.Serial, h.UUID)
}

// plain returns a UUID as 32 lower-case digits, or nothing if it is unset: all zeros or all ones.
func plain(uuid string) string {
	uuid = strings.ToLower(strings.ReplaceAll(strings.TrimSpace(uuid), "-", ""))
	if len(uuid) != 32 || strings.Trim(uuid, "0") == "" || strings.Trim(uuid, "f") == "" {
		return ""
	}
	return uuid
}

// swapped returns a plain UUID with the bytes of its first three fields in the other order: AMT
// prints them as SMBIOS stores them.
func swapped(uuid string) string {
	if len(uuid) != 32 {
		return ""
	}
	var b strings.Builder
	for _, field := range []string{uuid[:8], uuid[8:12], uuid[12:16]} {
		for i := len(field) - 2; i >= 0; i -= 2 {
			b.WriteString(field[i : i+2])
		}
	}
	return b.String() + uuid[16:]
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
