// Package keytest holds the suite that every escrow of recovery keys passes, keys to test with,
// and an eye for keys that got out.
package keytest

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"unbrick/bitlocker"
)

// NewKey returns a key of the right form. The same numbers give the same key: nobody should
// lock a volume with it that matters.
func NewKey(r rand.Source) bitlocker.Key {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:8], r.Uint64())
	binary.LittleEndian.PutUint64(b[8:], r.Uint64()|1) // never all zeros, which is no key
	return bitlocker.NewKey(b)
}

// NewKeyID returns the id of a protector.
func NewKeyID(r rand.Source) (id bitlocker.KeyID) {
	binary.BigEndian.PutUint64(id[:8], r.Uint64())
	binary.BigEndian.PutUint64(id[8:], r.Uint64()|1)
	return id
}

// Leaks says whether text has any group of the key's digits in it, or its bytes as hex, base64
// or a list of numbers.
func Leaks(k bitlocker.Key, text string) bool {
	b := k.Bytes()
	list := strings.Trim(fmt.Sprint(b[:]), "[]")
	forms := append(strings.Split(k.Reveal(), "-"),
		list, strings.ReplaceAll(list, " ", ", "), strings.ReplaceAll(list, " ", ","),
		hex.EncodeToString(b[:]), base64.StdEncoding.EncodeToString(b[:]), base64.URLEncoding.EncodeToString(b[:]))
	lower := strings.ToLower(text)
	for _, form := range forms {
		if form != "" && (strings.Contains(text, form) || strings.Contains(lower, form)) {
			return true
		}
	}
	return strings.Contains(text, string(b[:]))
}

// A Filing is one key as an escrow has it.
type Filing struct {
	ID   bitlocker.KeyID
	Host string
	Key  bitlocker.Key
}

// Run checks that a source keeps the promises of [bitlocker.Source], and those of
// [bitlocker.Indexer] if it is one. open returns a source that holds these keys and no other.
func Run(t *testing.T, open func(t *testing.T, keys []Filing) bitlocker.Source) {
	s := suite{keys: filings()}
	s.source = open(t, s.keys)
	t.Run("a key is found by its id", s.found)
	t.Run("the id decides, never the host", s.idDecides)
	t.Run("an escrow that has none says ErrNoKey", s.noKey)
	t.Run("a key filed under another host stays", s.wrongHost)
	t.Run("a lookup ends with its context", s.context)
	t.Run("many may ask at once", s.concurrent)
	t.Run("a source does not print its keys", s.print)
	if _, ok := s.source.(bitlocker.Indexer); ok {
		t.Run("the index shows what there is and no key", s.index)
	}
}

type suite struct {
	source bitlocker.Source
	keys   []Filing
}

// filings returns keys as fleets have them: several of one host, and two ids that a person who
// reads the first eight digits cannot tell apart.
func filings() []Filing {
	r := rand.NewPCG(2024, 719)
	hosts := []string{"SYD-PC-001", "SYD-PC-001", "SYD-PC-002", "mel-kiosk.corp.example", "DC01"}
	var keys []Filing
	for _, h := range hosts {
		keys = append(keys, Filing{NewKeyID(r), h, NewKey(r)})
	}
	copy(keys[2].ID[:4], keys[0].ID[:4])
	return keys
}

// lookup asks, and fails the test if the answer or the error shows a key.
func (s suite) lookup(ctx context.Context, t *testing.T, q bitlocker.Query) (bitlocker.Key, error) {
	t.Helper()
	key, err := s.source.Lookup(ctx, q)
	if err == nil && key.IsZero() {
		t.Errorf("no key for %v and no error", q)
	}
	if err != nil {
		if !key.IsZero() {
			t.Errorf("a key for %v beside an error", q)
		}
		for _, f := range s.keys {
			if Leaks(f.Key, fmt.Sprintf("%v %+v %#v", err, err, err)) {
				t.Errorf("the error for %v shows a key: errors carry no digit of any key", q)
			}
		}
	}
	return key, err
}

func (s suite) found(t *testing.T) {
	for _, f := range s.keys {
		short, _, _ := strings.Cut(f.Host, ".")
		for _, host := range []string{"", f.Host, short, strings.ToLower(short), strings.ToUpper(short) + ".AD.EXAMPLE"} {
			key, err := s.lookup(t.Context(), t, bitlocker.Query{ID: f.ID, Host: host})
			if err != nil {
				t.Errorf("%s as of host %q: %v", f.ID, host, err)
			} else if !key.Equal(f.Key) {
				t.Errorf("%s as of host %q: another key", f.ID, host)
			}
		}
	}
}

func (s suite) idDecides(t *testing.T) {
	a, b := s.keys[0], s.keys[1]
	for _, f := range []Filing{a, b} {
		if key, err := s.lookup(t.Context(), t, bitlocker.Query{ID: f.ID, Host: a.Host}); err != nil || !key.Equal(f.Key) {
			t.Errorf("%s has two keys, and asked for %s it was not that one: %v", a.Host, f.ID, err)
		}
	}
}

func (s suite) noKey(t *testing.T) {
	near := s.keys[0].ID
	near[15] ^= 0xff
	for _, q := range []bitlocker.Query{
		{ID: near, Host: s.keys[0].Host}, // the host has others
		{ID: near},
		{ID: near, Host: "nobody"},
		{Host: s.keys[3].Host}, // the host has one, but no id was asked for
	} {
		if _, err := s.lookup(t.Context(), t, q); !errors.Is(err, bitlocker.ErrNoKey) {
			t.Errorf("%v: error %v, want one wrapping ErrNoKey", q, err)
		}
	}
}

func (s suite) wrongHost(t *testing.T) {
	for _, f := range s.keys {
		key, err := s.lookup(t.Context(), t, bitlocker.Query{ID: f.ID, Host: "somebody-else"})
		var wrong *bitlocker.WrongHostError
		switch {
		case errors.As(err, &wrong):
			if errors.Is(err, bitlocker.ErrNoKey) {
				t.Errorf("%s: %v is both a wrong host and no key", f.ID, err)
			}
		case s.files():
			t.Errorf("%s of host %s asked for as of another: error %v, want a *WrongHostError", f.ID, f.Host, err)
		case err != nil || !key.Equal(f.Key):
			t.Errorf("%s from a source that files under no host: %v", f.ID, err)
		}
	}
}

// files says whether the source knows of which host a key is.
func (s suite) files() bool {
	x, ok := s.source.(bitlocker.Indexer)
	if !ok {
		return false
	}
	all, err := x.Index(context.Background(), "")
	return err == nil && len(all) > 0 && all[0].Host != ""
}

func (s suite) context(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.lookup(ctx, t, bitlocker.Query{ID: s.keys[0].ID})
	if !errors.Is(err, context.Canceled) || errors.Is(err, bitlocker.ErrNoKey) {
		t.Errorf("after the context ended: error %v, want context.Canceled: nothing is known", err)
	}
}

func (s suite) concurrent(t *testing.T) {
	var wg sync.WaitGroup
	for range 4 {
		for _, f := range s.keys {
			wg.Go(func() {
				if key, err := s.source.Lookup(t.Context(), bitlocker.Query{ID: f.ID}); err != nil || !key.Equal(f.Key) {
					t.Errorf("%s: %v", f.ID, err)
				}
			})
		}
	}
	wg.Wait()
}

func (s suite) print(t *testing.T) {
	text := fmt.Sprintf("%v %+v %#v %s", s.source, s.source, s.source, s.source)
	for _, f := range s.keys {
		if Leaks(f.Key, text) {
			t.Error("the source prints a key")
		}
	}
}

func (s suite) index(t *testing.T) {
	x := s.source.(bitlocker.Indexer)
	all, err := x.Index(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	s.compare(t, "", all)
	if !s.files() {
		return
	}
	for _, host := range []string{s.keys[0].Host, strings.ToLower(s.keys[2].Host), "MEL-KIOSK", "nobody"} {
		entries, err := x.Index(t.Context(), host)
		if err != nil {
			t.Fatal(err)
		}
		s.compare(t, host, entries)
	}
}

// compare checks that the entries are those of the host, and show no key.
func (s suite) compare(t *testing.T, host string, entries []bitlocker.Entry) {
	t.Helper()
	got := map[bitlocker.KeyID]bitlocker.Entry{}
	for _, e := range entries {
		got[e.ID] = e
		if e.Source == "" {
			t.Errorf("entry %s does not name its source", e.ID)
		}
	}
	want := 0
	for _, f := range s.keys {
		if host != "" && !bitlocker.SameHost(host, f.Host) {
			continue
		}
		want++
		e, ok := got[f.ID]
		if !ok {
			t.Errorf("%q: no entry for %s", host, f.ID)
		} else if e.Host != "" && !bitlocker.SameHost(e.Host, f.Host) {
			t.Errorf("entry %s is of host %s, want %s", e.ID, e.Host, f.Host)
		}
		if text, _ := json.Marshal(entries); Leaks(f.Key, string(text)) {
			t.Error("the index shows a key")
		}
	}
	if len(entries) != want {
		t.Errorf("%q: %d entries, want %d", host, len(entries), want)
	}
}
