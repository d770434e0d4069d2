package bitlocker_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"unbrick/bitlocker"
)

// TestStretched: the same key and salt make the same bytes, another salt others, and nothing
// prints them.
func TestStretched(t *testing.T) {
	key, err := bitlocker.ParseKey("496298-461032-321464-595518-463221-173943-033616-139579")
	if err != nil {
		t.Fatal(err)
	}
	salt := bytes.Repeat([]byte{7}, bitlocker.SaltSize)
	one, err := key.Stretch(salt)
	if err != nil {
		t.Fatal(err)
	}
	b := one.Bytes()
	again, err := bitlocker.NewStretched(b[:])
	if err != nil || again.Bytes() != b {
		t.Errorf("what went out did not come in: %v", err)
	}
	salt[0]++
	if other, err := key.Stretch(salt); err != nil || other.Bytes() == b {
		t.Errorf("another salt made the same key (%v)", err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", one, "in", struct{ k bitlocker.Stretched }{one})
	text, err := json.Marshal(map[string]any{"key": one})
	if err != nil {
		t.Fatal(err)
	}
	said := log.String() + string(text) + fmt.Sprintf("%v %+v %#v %s %x %d %v", one, one, one, one, one, one, &struct{ k *bitlocker.Stretched }{&one})
	if strings.Contains(said, hex.EncodeToString(b[:4])) || strings.Contains(said, fmt.Sprint(b[0], b[1])) {
		t.Errorf("it printed itself: %s", said)
	}
	for _, bad := range [][]byte{nil, salt[1:]} {
		if _, err := key.Stretch(bad); err == nil {
			t.Errorf("a salt of %d bytes was taken", len(bad))
		}
	}
	if _, err := (bitlocker.Key{}).Stretch(salt); err == nil {
		t.Error("no key was stretched")
	}
	if _, err := bitlocker.NewStretched(b[1:]); err == nil {
		t.Error("31 bytes were taken for a key")
	}
}
