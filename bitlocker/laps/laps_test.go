package laps_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"unbrick/bitlocker"
	"unbrick/bitlocker/laps"
	"unbrick/inventory/secret"
)

func TestParseWindows(t *testing.T) {
	for name, test := range map[string]struct {
		text, account, password, at string // at is empty: an error
	}{
		"as documented":  {`{"n":"Administrator","t":"1d8161b41c41cde","p":"A6a3#7%eb!57be4a4B95Z43394ba956de69e5d8975#$8a6d)4f82da6ad500HGx"}`, "Administrator", "A6a3#7%eb!57be4a4B95Z43394ba956de69e5d8975#$8a6d)4f82da6ad500HGx", "2022-01-30T20:52:13Z"},
		"the epoch":      {`{"n":"a","t":"19DB1DED53E8000","p":"x"}`, "a", "x", "1970-01-01T00:00:00Z"},
		"no time":        {`{"n":"a","p":"pw-not-shown"}`, "", "", ""},
		"time too large": {`{"n":"a","t":"ffffffffffffffff","p":"pw-not-shown"}`, "", "", ""},
		"no password":    {`{"n":"a","t":"1d8161b41c41cde","p":""}`, "", "", ""},
		"no JSON":        {`pw-not-shown`, "", "", ""},
		"nothing":        {``, "", "", ""},
	} {
		p, err := laps.ParseWindows(test.text)
		if test.at == "" {
			if err == nil || strings.Contains(err.Error(), "pw-not-shown") {
				t.Errorf("%s: error %v", name, err)
			}
			continue
		}
		if err != nil || p.Account != test.account || p.Value.Reveal() != test.password || p.Updated.Truncate(time.Second).Format(time.RFC3339) != test.at {
			t.Errorf("%s: %s at %s, %v", name, p.Account, p.Updated, err)
		}
	}
}

func TestParseEntra(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"ascii":        {"UABhADUAcwB3ADAAcgBkAA==", "Pa5sw0rd"},
		"beyond ascii": {"5ACsIA==", "ä€"},
		"a surrogate":  {"PdgA3g==", "😀"},
		"half of one":  {"Pdg=", ""},
		"odd":          {"UABh", ""},
		"UTF-8":        {base64.StdEncoding.EncodeToString([]byte("pw\x00\x00")), ""},
		"no base64":    {"pw-not-shown", ""},
		"nothing":      {"", ""},
	} {
		v, err := laps.ParseEntra(test.text)
		if (err == nil) != (test.want != "") || v.Reveal() != test.want || err != nil && strings.Contains(err.Error(), "pw-not") {
			t.Errorf("%s: %q, %v", name, v.Reveal(), err)
		}
	}
}

// FuzzParse: no text crashes a parser, what parses has a password, and no error repeats it.
func FuzzParse(f *testing.F) {
	f.Add(`{"n":"Administrator","t":"1d8161b41c41cde","p":"secret-12"}`)
	f.Add("UABhADUAcwB3ADAAcgBkAA==")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := laps.ParseWindows(text)
		v, err2 := laps.ParseEntra(text)
		if err == nil && p.Value.Reveal() == "" || err2 == nil && v.Reveal() == "" {
			t.Errorf("%q parses to nothing", text)
		}
		for _, e := range []error{err, err2} {
			if e != nil && len(text) > 20 && strings.Contains(e.Error(), text) {
				t.Errorf("the error repeats %q", text)
			}
		}
	})
}

type source struct {
	name string
	has  []laps.Password
	err  error
}

func (s source) String() string { return s.name }

func (s source) LocalPasswords(ctx context.Context, _ string) ([]laps.Password, error) {
	if s.name == "silent" {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return s.has, s.err
}

func password(account, text, at string) laps.Password {
	when, _ := time.Parse(time.DateOnly, at)
	return laps.Password{Account: account, Value: secret.New(text), Updated: when, Source: "AD"}
}

func TestRelease(t *testing.T) {
	none := source{name: "Entra ID", err: fmt.Errorf("%w there", laps.ErrNone)}
	has := source{name: "AD", has: []laps.Password{password("", "canary-old", "2024-01-01"), password("Ann", "canary-new", "2024-07-01")}}
	down := source{name: "AD2", err: errors.New("down")}
	locked := source{name: "AD3", err: &laps.EncryptedError{Host: "PC1"}}
	for name, test := range map[string]struct {
		sources []laps.Source
		want    string // the first password
		err     string
		none    bool
	}{
		"newest first":            {[]laps.Source{none, has}, "canary-new", "", false},
		"one is down":             {[]laps.Source{down, has}, "canary-new", "AD2: down", false},
		"one is silent":           {[]laps.Source{source{name: "silent"}, has}, "canary-new", "silent: ", false},
		"none has any":            {[]laps.Source{none}, "", "host PC1", true},
		"none that was reached":   {[]laps.Source{none, down}, "", "not known whether there is a password of host PC1: AD2: down", false},
		"encrypted is not absent": {[]laps.Source{none, locked}, "", "Get-LapsADPassword -Identity PC1", false},
		"nowhere to ask":          {nil, "", "no directory is configured", false},
	} {
		t.Run(name, func(t *testing.T) {
			ledger, err := bitlocker.OpenLedger(filepath.Join(t.TempDir(), "ledger"))
			if err != nil {
				t.Fatal(err)
			}
			defer ledger.Close()
			b := laps.Broker{Sources: test.sources, Ledger: ledger, Wait: 50 * time.Millisecond}
			all, err := b.Release(t.Context(), "PC1", bitlocker.Recipient{Actor: "alice", Person: true, Reason: "INC1"})
			if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) || errors.Is(err, laps.ErrNone) != test.none {
				t.Errorf("error %v, want %s", err, test.err)
			}
			if strings.Contains(fmt.Sprintf("%+v %v", all, err), "canary") {
				t.Error("a password prints itself")
			}
			past, _ := ledger.Past(t.Context())
			if test.want == "" {
				if len(all) != 0 || len(past) != 0 {
					t.Errorf("%d passwords, %d records", len(all), len(past))
				}
				return
			}
			if len(all) != 2 || all[0].Value.Reveal() != test.want {
				t.Errorf("%+v", all)
			}
			if len(past) != 1 || past[0].Account != "Ann, local administrator" || past[0].Release.Source != "AD" || !past[0].ID.IsZero() {
				t.Errorf("on the ledger: %+v", past)
			}
		})
	}
}

type full struct{}

func (full) Record(context.Context, bitlocker.Release) error { return errors.New("disk full") }

func TestNothingWithoutLedger(t *testing.T) {
	b := laps.Broker{Sources: []laps.Source{source{name: "AD", has: []laps.Password{password("Ann", "x", "2024-07-01")}}}, Ledger: full{}}
	if all, err := b.Release(t.Context(), "PC1", bitlocker.Recipient{}); err == nil || all != nil || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("%v, %v", all, err)
	}
}
