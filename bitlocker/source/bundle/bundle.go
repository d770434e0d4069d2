// Package bundle keeps the keys of one site in a file for the day when no escrow can be
// reached. It is made before that day, signed, and opened by two persons together.
//
// The file is three lines of text and a body:
//
//	unbrick-bundle/1
//	{"site":"SYD","made":"…","expires":"…","keys":812,"sha256":"…"}
//	base64 of the Ed25519 signature over the two lines above, newlines included
//	age(first persons, age(second persons, one JSON object per key and line))
//
// The hash is that of the body, so the signature covers all of it. Where this program is not
// at hand either, two persons open it with age alone:
//
//	tail -n +4 syd.bundle | age -d -i first.txt | age -d -i second.txt
package bundle

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"unbrick/bitlocker"
)

// A Header is what everybody may read of a bundle.
type Header struct {
	Site    string         `json:"site"`
	Made    time.Time      `json:"made"`
	Expires time.Time      `json:"expires"`
	Keys    int            `json:"keys"`
	From    map[string]int `json:"from,omitempty"` // keys by the escrow that they came from
	SHA256  string         `json:"sha256"`         // of the body, in hex
}

// A Row is one key of a bundle.
type Row struct {
	ID   bitlocker.KeyID
	Host string
	Key  bitlocker.Key
	From string // the escrow that it came from; only counted
}

// A Bundle is one that was opened. It holds its keys in memory until [Bundle.Close], and
// nowhere else.
type Bundle struct {
	name   string
	header Header
	keys   map[bitlocker.KeyID][]Row // cloned disks share their ids
	ids    []bitlocker.KeyID         // in the order of the file
}

// Open opens the file with both persons' identities. Errors that can be told apart are
// *[TamperedError], *[ExpiredError] and *[PersonError].
func Open(path string, o Opening) (*Bundle, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot open bundle: %w", err)
	}
	defer f.Close()
	return Read(path, f, o)
}

// Read opens the bundle in r, which errors and the ledger call name.
func Read(name string, r io.Reader, o Opening) (*Bundle, error) {
	header, body, err := verify(r, o.Signer)
	if err == nil {
		err = o.inTime(header)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open bundle %s: %w", name, err)
	}
	b := &Bundle{name: name, header: header, keys: make(map[bitlocker.KeyID][]Row, header.Keys)}
	rows, err := o.decrypt(bytes.NewReader(body), header.Keys)
	if err != nil {
		return nil, fmt.Errorf("cannot open bundle %s: %w", name, err)
	}
	for _, row := range rows {
		if _, ok := b.keys[row.ID]; !ok {
			b.ids = append(b.ids, row.ID)
		}
		b.keys[row.ID] = append(b.keys[row.ID], row)
	}
	return b, nil
}

// String names the bundle: it is what the ledger calls this source.
func (b *Bundle) String() string {
	return fmt.Sprintf("bundle %s of %s", b.header.Site, b.header.Made.UTC().Format("2006-01-02 15:04Z"))
}

// Header returns what everybody may read.
func (b *Bundle) Header() Header { return b.header }

// Close forgets the keys. No method may be called after it.
func (b *Bundle) Close() error {
	b.keys, b.ids = nil, nil
	return nil
}

// Lookup implements [bitlocker.Source].
func (b *Bundle) Lookup(ctx context.Context, q bitlocker.Query) (bitlocker.Key, error) {
	if err := ctx.Err(); err != nil {
		return bitlocker.Key{}, err
	}
	rows := b.keys[q.ID]
	if len(rows) == 0 {
		return bitlocker.Key{}, fmt.Errorf("%w in the bundle made %s", bitlocker.ErrNoKey, b.header.Made.UTC().Format(time.RFC3339))
	}
	var filed []string
	for _, r := range rows { // all have the same key: Make and Read see to it
		if q.Host == "" || r.Host == "" || bitlocker.SameHost(r.Host, q.Host) {
			return r.Key, nil
		}
		filed = append(filed, r.Host)
	}
	return bitlocker.Key{}, &bitlocker.WrongHostError{ID: q.ID, Host: q.Host, Filed: filed}
}

// Index implements [bitlocker.Indexer].
func (b *Bundle) Index(ctx context.Context, host string) (entries []bitlocker.Entry, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	homeless := 0
	for _, id := range b.ids {
		for _, r := range b.keys[id] {
			if r.Host == "" {
				homeless++
			}
			if host == "" || bitlocker.SameHost(r.Host, host) {
				entries = append(entries, bitlocker.Entry{ID: id, Host: r.Host, Source: b.String(), Valid: true})
			}
		}
	}
	if host != "" && len(entries) == 0 && homeless > 0 {
		return nil, fmt.Errorf("has %d keys under no host name, and none of %s", homeless, host)
	}
	return entries, nil
}
