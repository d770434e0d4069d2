// Package vault reads recovery keys from the key-value store (version 2) of HashiCorp Vault or
// OpenBao, over its REST interface. One secret per protector, named after its id:
//
//	vault kv put -mount=secret bitlocker/4290B6C0-B17A-497A-8552-272CC30E80D4 recovery_key=-
//	vault kv metadata put -mount=secret -custom-metadata=host=PC1 bitlocker/4290B6C0-…
//
// The host is custom metadata, so that an index can be made without reading a key.
package vault

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"unbrick/bitlocker"
	"unbrick/inventory/secret"
)

// A Config says where the keys are and how to log in: by Token or by AppRole, not both.
type Config struct {
	URL       string // "https://vault.corp.example:8200"; http only to this host itself
	Namespace string // of Vault Enterprise and OpenBao
	CA        string // PEM file with the only authorities to trust; empty is the system's
	Mount     string // of the store; empty is "secret"
	Prefix    string // folder of the keys; empty is "bitlocker"
	Field     string // of the secret, that holds the 48 digits; empty is "recovery_key"
	Token     secret.Ref
	AppRole   *AppRole
}

// An AppRole is an account for programs.
type AppRole struct {
	Mount    string // empty is "approle"
	RoleID   string
	SecretID secret.Ref
}

// A Vault is one folder of keys.
type Vault struct {
	cfg    Config
	client *http.Client

	mu    sync.Mutex
	token secret.Value // of the role, while it is good
	until time.Time
}

// New checks the configuration. It does not reach the server: [Vault.Probe] does.
func New(cfg Config) (*Vault, error) {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("cannot use vault %s: %w", cfg.URL, fmt.Errorf(format, args...))
	}
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" || u.User != nil {
		return nil, errors.New("cannot use vault: write its address as https://vault.corp.example:8200")
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())) {
		return nil, bad("its address has to begin with https, or the keys are readable on the way")
	}
	if (cfg.Token == "") == (cfg.AppRole == nil) {
		return nil, bad("give a token or an AppRole, and not both")
	}
	if cfg.AppRole != nil && cfg.AppRole.RoleID == "" {
		return nil, bad("the AppRole has no role id")
	}
	cfg.URL = strings.TrimRight(cfg.URL, "/")
	cfg.Mount = cmp.Or(strings.Trim(cfg.Mount, "/"), "secret")
	cfg.Prefix = cmp.Or(strings.Trim(cfg.Prefix, "/"), "bitlocker")
	cfg.Field = cmp.Or(cfg.Field, "recovery_key")
	client, err := newClient(cfg.CA)
	if err != nil {
		return nil, bad("%w", err)
	}
	return &Vault{cfg: cfg, client: client}, nil
}

// String names the folder: it is what the ledger calls this source.
func (v *Vault) String() string { return "vault " + v.cfg.URL + " " + v.cfg.Mount + "/" + v.cfg.Prefix }

// Close closes the connections that are not in use.
func (v *Vault) Close() error {
	v.client.CloseIdleConnections()
	return nil
}

// hostKey is the custom metadata, or else the field, that has the name of the host.
const hostKey = "host"

// Lookup implements [bitlocker.Source]. The host is checked before the key is read.
func (v *Vault) Lookup(ctx context.Context, q bitlocker.Query) (bitlocker.Key, error) {
	if q.ID.IsZero() {
		return bitlocker.Key{}, fmt.Errorf("%w: without the id of a protector", bitlocker.ErrNoKey)
	}
	// People and scripts write ids in either case, and Vault tells them apart.
	for _, name := range []string{q.ID.String(), strings.ToLower(q.ID.String())} {
		n, err := v.note(ctx, name)
		if errors.Is(err, bitlocker.ErrNoKey) {
			continue
		}
		if err != nil {
			return bitlocker.Key{}, err
		}
		if err := sameHost(q, n.host); err != nil {
			return bitlocker.Key{}, err
		}
		return v.read(ctx, q, name)
	}
	return bitlocker.Key{}, bitlocker.ErrNoKey
}

func sameHost(q bitlocker.Query, host string) error {
	if q.Host == "" || host == "" || bitlocker.SameHost(q.Host, host) {
		return nil
	}
	return &bitlocker.WrongHostError{ID: q.ID, Host: q.Host, Filed: []string{host}}
}

// A note is the metadata of a secret.
type note struct {
	host    string // may be empty
	gone    bool   // its newest version was deleted or destroyed
	created time.Time
}

// note asks for the metadata of a secret.
func (v *Vault) note(ctx context.Context, name string) (note, error) {
	var res struct {
		Data struct {
			Custom   map[string]string `json:"custom_metadata"`
			Current  int               `json:"current_version"`
			Versions map[string]struct {
				Created   time.Time `json:"created_time"`
				Deletion  string    `json:"deletion_time"` // may lie in the future
				Destroyed bool      `json:"destroyed"`
			} `json:"versions"`
		} `json:"data"`
	}
	if err := v.call(ctx, http.MethodGet, v.path("metadata", name), nil, &res); err != nil {
		return note{}, err
	}
	now := res.Data.Versions[strconv.Itoa(res.Data.Current)]
	deleted, err := time.Parse(time.RFC3339Nano, now.Deletion)
	return note{host: res.Data.Custom[hostKey], created: now.Created,
		gone: now.Destroyed || err == nil && time.Now().After(deleted)}, nil
}

// read reads the secret itself.
func (v *Vault) read(ctx context.Context, q bitlocker.Query, name string) (key bitlocker.Key, err error) {
	var res struct {
		Data struct {
			Data map[string]any `json:"data"`
		} `json:"data"`
	}
	if err := v.call(ctx, http.MethodGet, v.path("data", name), nil, &res); err != nil {
		return key, err
	}
	if host, ok := res.Data.Data[hostKey].(string); ok {
		if err := sameHost(q, host); err != nil {
			return key, err
		}
	}
	text, ok := res.Data.Data[v.cfg.Field].(string)
	if !ok {
		return key, fmt.Errorf("%w: the secret has no text in its field %q", bitlocker.ErrNoKey, v.cfg.Field)
	}
	key, err = bitlocker.ParseKey(text)
	if err != nil {
		return key, fmt.Errorf("%w: the one there cannot be used: %v", bitlocker.ErrNoKey, err)
	}
	return key, nil
}

// indexers is how many requests an index makes at once.
const indexers = 8

// Index implements [bitlocker.Indexer]: one request for the list, and one for the metadata of
// each secret. It reads no key, so no entry is Valid. Secrets that are not named after an id
// are left out.
func (v *Vault) Index(ctx context.Context, host string) ([]bitlocker.Entry, error) {
	var res struct {
		Data struct {
			Keys []string `json:"keys"`
		} `json:"data"`
	}
	err := v.call(ctx, "LIST", v.path("metadata", ""), nil, &res)
	if err != nil && !errors.Is(err, bitlocker.ErrNoKey) {
		return nil, err
	}
	all, err := v.entries(ctx, res.Data.Keys)
	if err != nil || host == "" {
		return all, err
	}
	homeless := 0
	of := slices.DeleteFunc(all, func(e bitlocker.Entry) bool {
		if e.Host == "" {
			homeless++
		}
		return !bitlocker.SameHost(e.Host, host)
	})
	if len(of) == 0 && homeless > 0 {
		return nil, fmt.Errorf("has %d keys under no host name, and none of %s", homeless, host)
	}
	return of, nil
}

// entries asks for the metadata of each secret. One that is gone by then has no entry.
func (v *Vault) entries(ctx context.Context, names []string) ([]bitlocker.Entry, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work := make(chan string)
	var mu sync.Mutex
	var all []bitlocker.Entry
	var wg sync.WaitGroup
	for range min(indexers, len(names)) {
		wg.Go(func() {
			for name := range work {
				id, err := bitlocker.ParseKeyID(name)
				if err != nil {
					continue
				}
				n, err := v.note(ctx, name)
				if errors.Is(err, bitlocker.ErrNoKey) {
					continue
				}
				if err != nil {
					cancel(err)
					continue
				}
				e := bitlocker.Entry{ID: id, Host: n.host, Source: v.String(), Created: n.created}
				if n.gone {
					e.Reason = "its secret was deleted"
				}
				mu.Lock()
				all = append(all, e)
				mu.Unlock()
			}
		})
	}
	for _, name := range names {
		if ctx.Err() != nil {
			break
		}
		work <- name
	}
	close(work)
	wg.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	slices.SortFunc(all, func(a, b bitlocker.Entry) int { return slices.Compare(a.ID[:], b.ID[:]) })
	return all, nil
}

// Probe implements [bitlocker.Prober]: it logs in and asks what this account may do.
func (v *Vault) Probe(ctx context.Context) error {
	const some = "00000000-0000-0000-0000-000000000001"
	data, metadata, list := v.path("data", some), v.path("metadata", some), v.path("metadata", "")+"/"
	var res struct {
		Data map[string][]string `json:"data"`
	}
	if err := v.call(ctx, http.MethodPost, "sys/capabilities-self", map[string]any{"paths": []string{data, metadata, list}}, &res); err != nil {
		return err
	}
	var missing []string
	for _, want := range []struct{ path, capability string }{{data, "read"}, {metadata, "read"}, {list, "list"}} {
		has := res.Data[want.path]
		if !slices.Contains(has, want.capability) && !slices.Contains(has, "root") {
			missing = append(missing, want.capability+" on "+strings.Replace(want.path, some, "*", 1))
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("the policy of this account lacks: %s", strings.Join(missing, ", "))
	}
	return nil
}

func (v *Vault) path(kind, name string) string {
	p := v.cfg.Mount + "/" + kind + "/" + v.cfg.Prefix
	if name == "" {
		return p
	}
	return p + "/" + name
}
