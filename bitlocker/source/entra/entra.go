// Package entra reads recovery keys from Microsoft Entra ID through Microsoft Graph, by REST.
//
// Listing names protectors and devices and never a key. A key is one request with exactly
// $select=key, and each such request is an event in the tenant's audit log ("Read BitLocker
// key"): tell the people who watch it before a run. Facts are those of the Graph reference
// (bitlockerRecoveryKey, device) as of 2026; no tenant was at hand to prove them.
package entra

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"unbrick/bitlocker"
	"unbrick/inventory/secret"
)

// A Config says which tenant to ask, and as whom: as an application by ClientID and Secret, or
// with a Token that something else obtains, such as
// "exec:az account get-access-token --resource https://graph.microsoft.com --query accessToken -o tsv".
type Config struct {
	Tenant   string // id or domain
	ClientID string
	Secret   secret.Ref
	Token    secret.Ref

	// NoNames does without device names, for accounts that lack Device.Read.All: keys are then
	// filed under no host, and nobody notices when a host asks for the key of another.
	NoNames bool

	Graph     string // empty is "https://graph.microsoft.com"; other clouds have others
	Authority string // empty is "https://login.microsoftonline.com"

	// Start and Most are requests per second: where to begin and how far to go up. Zero is 5
	// and 50. Microsoft publishes no limit for keys.
	Start, Most float64
}

// A Tenant is one Entra ID tenant.
type Tenant struct {
	cfg    Config
	client *http.Client
	tokens tokens
	pace   pace
}

const timeout = 60 * time.Second // of one request

// New checks the configuration. It does not reach the tenant: [Tenant.Probe] does.
func New(cfg Config) (*Tenant, error) {
	bad := func(reason string) error { return fmt.Errorf("cannot use Entra ID %s: %s", cfg.Tenant, reason) }
	cfg.Graph = strings.TrimRight(cmp.Or(cfg.Graph, "https://graph.microsoft.com"), "/")
	cfg.Authority = strings.TrimRight(cmp.Or(cfg.Authority, "https://login.microsoftonline.com"), "/")
	for _, address := range []string{cfg.Graph, cfg.Authority} {
		u, err := url.Parse(address)
		if err != nil || u.Host == "" {
			return nil, bad("an address is not a URL")
		}
		if ip := net.ParseIP(u.Hostname()); u.Scheme != "https" && (ip == nil || !ip.IsLoopback()) {
			return nil, bad("addresses have to begin with https, or the keys are readable on the way")
		}
	}
	switch {
	case (cfg.Token == "") == (cfg.Secret == ""):
		return nil, bad("give the secret of an application or a token, and not both")
	case cfg.Secret != "" && (cfg.Tenant == "" || cfg.ClientID == ""):
		return nil, bad("an application needs its tenant and its client id")
	}
	// A token must not follow a redirect to wherever it points.
	client := &http.Client{Timeout: timeout, Transport: http.DefaultTransport.(*http.Transport).Clone(),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return &Tenant{cfg: cfg, client: client, pace: newPace(cmp.Or(cfg.Start, 5), cmp.Or(cfg.Most, 50))}, nil
}

// String names the tenant: it is what the ledger calls this source.
func (t *Tenant) String() string { return strings.TrimSpace("Entra ID " + t.cfg.Tenant) }

// Close closes the connections that are not in use.
func (t *Tenant) Close() error {
	t.client.CloseIdleConnections()
	return nil
}

const keysPath = "/v1.0/informationProtection/bitlocker/recoveryKeys"

// What a request needs, as the permissions reference spells it.
const (
	readKeys    = "BitlockerKey.Read.All"
	listKeys    = "BitlockerKey.ReadBasic.All"
	readDevices = "Device.Read.All"
)

// A recoveryKey is what Graph says of a key. Its other properties come in several types and are
// not needed.
type recoveryKey struct {
	ID       string    `json:"id"`
	DeviceID string    `json:"deviceId"`
	Created  time.Time `json:"createdDateTime"`
	Key      string    `json:"key"`
}

// Lookup implements [bitlocker.Source]. The host is checked before the key is read: a key that
// stays leaves no trace in the audit log.
func (t *Tenant) Lookup(ctx context.Context, q bitlocker.Query) (key bitlocker.Key, err error) {
	if q.ID.IsZero() {
		return key, fmt.Errorf("%w: without the id of a protector", bitlocker.ErrNoKey)
	}
	path := keysPath + "/" + strings.ToLower(q.ID.String())
	if q.Host != "" && !t.cfg.NoNames {
		if err := t.checkHost(ctx, q, path); err != nil {
			return key, err
		}
	}
	k, err := t.one(ctx, path+"?$select=key", readKeys)
	switch {
	case isNotFound(err):
		return key, bitlocker.ErrNoKey
	case err != nil:
		return key, err
	case k.Key == "":
		return key, errors.New("Graph left the key out of its answer")
	}
	if key, err = bitlocker.ParseKey(k.Key); err != nil {
		return bitlocker.Key{}, fmt.Errorf("%w: the one there cannot be used: %v", bitlocker.ErrNoKey, err)
	}
	return key, nil
}

// checkHost finds out whose key it is. One of a device that is gone is nobody's.
func (t *Tenant) checkHost(ctx context.Context, q bitlocker.Query, path string) error {
	k, err := t.one(ctx, path, listKeys)
	if isNotFound(err) {
		return bitlocker.ErrNoKey
	}
	if err != nil || k.DeviceID == "" {
		return err
	}
	raw, err := t.get(ctx, "/v1.0/devices(deviceId='"+url.PathEscape(quote(k.DeviceID))+"')?$select=deviceId,displayName", readDevices)
	if isNotFound(err) {
		return nil
	}
	var d device
	if err == nil {
		err = decode(raw, &d)
	}
	if err != nil || d.Name == "" || bitlocker.SameHost(d.Name, q.Host) {
		return err
	}
	return &bitlocker.WrongHostError{ID: q.ID, Host: q.Host, Filed: []string{d.Name}}
}

// one reads one key. Older answers wrap it in "value".
func (t *Tenant) one(ctx context.Context, path, permission string) (k recoveryKey, err error) {
	raw, err := t.get(ctx, path, permission)
	if err != nil {
		return k, err
	}
	var wrapped struct {
		Value json.RawMessage `json:"value"`
	}
	if json.Unmarshal(raw, &wrapped) == nil && len(wrapped.Value) > 0 {
		raw = wrapped.Value
	}
	return k, decode(raw, &k)
}

// A device is what Graph says of one. Its display name is the name of the host.
type device struct {
	ID   string `json:"deviceId"`
	Name string `json:"displayName"`
}

// Index implements [bitlocker.Indexer]. It reads no key, so no entry is Valid.
func (t *Tenant) Index(ctx context.Context, host string) ([]bitlocker.Entry, error) {
	if host != "" {
		return t.indexHost(ctx, host)
	}
	names := map[string]string{}
	if !t.cfg.NoNames {
		devices, err := pages[device](ctx, t, "/v1.0/devices?$select=deviceId,displayName&$top=999", readDevices)
		if err != nil {
			return nil, err
		}
		for _, d := range devices {
			names[strings.ToLower(d.ID)] = d.Name
		}
	}
	keys, err := pages[recoveryKey](ctx, t, keysPath, listKeys)
	if err != nil {
		return nil, err
	}
	return t.entries(keys, names), nil
}

func (t *Tenant) indexHost(ctx context.Context, host string) ([]bitlocker.Entry, error) {
	if t.cfg.NoNames {
		return nil, fmt.Errorf("files keys under no host name, so those of %s are not known", host)
	}
	devices, err := t.devices(ctx, host)
	if err != nil {
		return nil, err
	}
	var all []bitlocker.Entry
	for _, d := range devices {
		keys, err := pages[recoveryKey](ctx, t, keysPath+"?$filter="+url.QueryEscape("deviceId eq '"+quote(d.ID)+"'"), listKeys)
		if err != nil {
			return nil, err
		}
		all = append(all, t.entries(keys, map[string]string{strings.ToLower(d.ID): d.Name})...)
	}
	return all, nil
}

func (t *Tenant) entries(keys []recoveryKey, names map[string]string) []bitlocker.Entry {
	all := make([]bitlocker.Entry, 0, len(keys))
	for _, k := range keys {
		e := bitlocker.Entry{Host: names[strings.ToLower(k.DeviceID)], Source: t.String(), Created: k.Created}
		var err error
		if e.ID, err = bitlocker.ParseKeyID(k.ID); err != nil {
			e.Reason = "Graph gives it an id that is none"
		}
		all = append(all, e)
	}
	return all
}

// quote doubles the quotes within an OData string.
func quote(s string) string { return strings.ReplaceAll(s, "'", "''") }

// Probe implements [bitlocker.Prober]. It looks into the token for the permissions, then lists
// one page, and asks for the key of an id that cannot exist. A *[PermissionError] says what is
// missing.
func (t *Tenant) Probe(ctx context.Context) error {
	token, err := t.tokens.get(ctx, t, "")
	if err != nil {
		return err
	}
	want := []string{readKeys}
	if !t.cfg.NoNames {
		want = append(want, readDevices)
	}
	if c, ok := readClaims(token); ok {
		lacks := func(p string) bool { return !c.has(p) }
		if missing := slices.DeleteFunc(want, func(p string) bool { return !lacks(p) }); len(missing) > 0 {
			return &PermissionError{Missing: missing, AppOnly: c.appOnly()}
		}
	}
	if _, err := t.get(ctx, keysPath, listKeys); err != nil {
		return err
	}
	if !t.cfg.NoNames {
		if _, err := t.get(ctx, "/v1.0/devices?$select=deviceId&$top=1", readDevices); err != nil {
			return err
		}
	}
	_, err = t.get(ctx, keysPath+"/00000000-0000-0000-0000-000000000000?$select=key", readKeys)
	if isNotFound(err) {
		return nil
	}
	return err
}
