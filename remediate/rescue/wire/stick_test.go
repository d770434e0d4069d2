package wire_test

import (
	"errors"
	"testing"
	"time"

	"unbrick/playbooks"
	"unbrick/remediate/rescue/wire"
)

func tokenOf(token string) func(string) (string, error) {
	return func(string) (string, error) { return token, nil }
}

// TestStickConfig: a stick's configuration, playbook and all, is read as it was written.
func TestStickConfig(t *testing.T) {
	pb, err := playbooks.Open("crowdstrike-291")
	if err != nil {
		t.Fatal(err)
	}
	c := wire.Config{URL: "https://10.1.2.3:8443", Pin: "ab", Token: "t", Stick: &wire.Stick{
		ID: "1a2b3c4d", By: "Zoë O'Neill", Sites: []string{"SYD"}, Until: time.Unix(1700000000, 0).UTC(), Patience: time.Minute, Playbook: pb.Source()}}
	b, err := c.Window()
	if err != nil || len(b) != wire.ConfigSize {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	got, err := wire.ParseConfig(b)
	if err != nil || got.Stick == nil || got.Stick.By != c.Stick.By || string(got.Stick.Playbook) != string(pb.Source()) || !got.Stick.Until.Equal(c.Stick.Until) {
		t.Errorf("%+v, %v", got.Stick, err)
	}
}

// FuzzStickReport: what opens was sealed with the token, and is read as it was sealed, also
// after another program changed the spaces. Nothing opens with another token.
func FuzzStickReport(f *testing.F) {
	sealed, err := wire.StickReport{Stick: "1a2b3c4d", Identity: wire.Identity{Serial: "<SN&1>"}, Report: wire.Report{Agent: "v1", Log: []string{"a"}}}.Seal("t")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed, "t")
	f.Add(sealed, "u")
	f.Add([]byte(`{"report":{},"hmac":""}`), "t")
	f.Add([]byte(`{"report":null}`), "")
	f.Add([]byte(`[`), "t")
	f.Fuzz(func(t *testing.T, b []byte, token string) {
		r, err := wire.OpenStickReport(b, tokenOf(token))
		if err != nil {
			return
		}
		again, err := r.Seal(token)
		if err != nil {
			t.Fatal(err)
		}
		same, err := wire.OpenStickReport(again, tokenOf(token))
		if err != nil || same.Stick != r.Stick || same.Identity.Serial != r.Identity.Serial {
			t.Errorf("sealed again it is %+v, %v; want %+v", same, err, r)
		}
		if _, err := wire.OpenStickReport(b, tokenOf(token+"x")); !errors.Is(err, wire.ErrForged) {
			t.Errorf("another token opens it: %v", err)
		}
	})
}
