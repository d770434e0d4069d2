package entra

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"time"

	"unbrick/bitlocker"
	"unbrick/bitlocker/laps"
)

// readPasswords is what a password needs; a person who signed in also has to be Cloud Device or
// Intune Service Administrator.
const readPasswords = "DeviceLocalCredential.Read.All"

// LocalPasswords implements [laps.Source]. A device that was joined anew is there twice: the
// passwords of all devices of the name are returned. Each is an event in the tenant's audit log.
func (t *Tenant) LocalPasswords(ctx context.Context, host string) ([]laps.Password, error) {
	devices, err := t.devices(ctx, host)
	if err != nil {
		return nil, err
	}
	var all []laps.Password
	for _, d := range devices {
		found, err := t.passwords(ctx, d.ID)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%w in %s", laps.ErrNone, t)
	}
	slices.SortStableFunc(all, func(p, q laps.Password) int { return q.Updated.Compare(p.Updated) })
	return all, nil
}

// passwords returns those of one device, if it has any.
func (t *Tenant) passwords(ctx context.Context, id string) (all []laps.Password, err error) {
	raw, err := t.get(ctx, "/v1.0/directory/deviceLocalCredentials/"+url.PathEscape(id)+"?$select=credentials", readPasswords)
	if isNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var info struct {
		Credentials []struct {
			Account  string    `json:"accountName"`
			Backup   time.Time `json:"backupDateTime"`
			Password string    `json:"passwordBase64"`
		} `json:"credentials"`
	}
	if err := decode(raw, &info); err != nil {
		return nil, err
	}
	for _, c := range info.Credentials {
		v, err := laps.ParseEntra(c.Password)
		if err != nil {
			return nil, err
		}
		all = append(all, laps.Password{Account: c.Account, Value: v, Updated: c.Backup, Source: t.String()})
	}
	return all, nil
}

// devices returns those whose name is that of the host.
func (t *Tenant) devices(ctx context.Context, host string) ([]device, error) {
	filter := "startswith(displayName,'" + quote(bitlocker.FoldHost(host)) + "')"
	all, err := pages[device](ctx, t, "/v1.0/devices?$select=deviceId,displayName&$filter="+url.QueryEscape(filter), readDevices)
	return slices.DeleteFunc(all, func(d device) bool { return !bitlocker.SameHost(d.Name, host) }), err
}
