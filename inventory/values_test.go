package inventory_test

import (
	"encoding/json"
	"strings"
	"testing"

	"unbrick/inventory"
)

func TestParseValues(t *testing.T) {
	const uuid = "4c4c4544-0044-3510-8052-b4c04f4d3132"
	for _, tc := range []struct {
		kind     string
		parse    func(string) (string, error)
		in, want string // empty: an error
	}{
		{"uuid", inventory.ParseUUID, uuid, uuid},
		{"uuid", inventory.ParseUUID, " {" + strings.ToUpper(uuid) + "} ", uuid},
		{"uuid", inventory.ParseUUID, strings.ReplaceAll(uuid, "-", ""), uuid},
		{"uuid", inventory.ParseUUID, uuid[:35], ""},
		{"uuid", inventory.ParseUUID, uuid[:35] + "g", ""},
		{"uuid", inventory.ParseUUID, strings.Replace(uuid, "-", "_", 1), ""},
		{"uuid", inventory.ParseUUID, "4c4c45440044-3510-8052-b4c04f4d3132-", ""},
		{"uuid", inventory.ParseUUID, "", ""},
		{"mac", inventory.ParseMAC, "52:54:00:AB:CD:EF", "52:54:00:ab:cd:ef"},
		{"mac", inventory.ParseMAC, "52-54-00-ab-cd-ef", "52:54:00:ab:cd:ef"},
		{"mac", inventory.ParseMAC, "5254.00ab.cdef", "52:54:00:ab:cd:ef"},
		{"mac", inventory.ParseMAC, "525400ABCDEF", "52:54:00:ab:cd:ef"},
		{"mac", inventory.ParseMAC, "01:00:5e:00:00:01", ""},
		{"mac", inventory.ParseMAC, "52:54:00:ab:cd", ""},
		{"mac", inventory.ParseMAC, "02:00:5e:10:00:00:00:01", ""},
		{"name", inventory.ParseName, " SYD-PC_01.corp ", "SYD-PC_01.corp"},
		{"name", inventory.ParseName, "München", "München"},
		{"name", inventory.ParseName, "a b", ""},
		{"name", inventory.ParseName, "a/b", ""},
		{"name", inventory.ParseName, `CORP\a`, ""},
		{"name", inventory.ParseName, "..", ""},
		{"name", inventory.ParseName, "-rf", ""},
		{"name", inventory.ParseName, "a\x1b[2J", ""},
		{"name", inventory.ParseName, "a\u202eb", ""},
		{"name", inventory.ParseName, "a\xff", ""},
		{"name", inventory.ParseName, strings.Repeat("a", 256), ""},
		{"name", inventory.ParseName, "", ""},
	} {
		got, err := tc.parse(tc.in)
		if got != tc.want || (err == nil) != (tc.want != "") {
			t.Errorf("%s %q: got %q, %v, want %q", tc.kind, tc.in, got, err, tc.want)
		}
	}
}

func TestFake(t *testing.T) {
	for _, s := range []string{"To be filled by O.E.M.", " to be filled by O.E.M. ", "None", "0", "0000000", "XXXXXX", "Default string", "System Serial Number", "Not Specified", "...", "123456789"} {
		if !inventory.FakeSerial(s) {
			t.Errorf("%q is no serial number", s)
		}
	}
	for _, s := range []string{"", "5CG1234XYZ", "PF0ABCDE", "00001", "VMware-56 4d 01"} {
		if inventory.FakeSerial(s) {
			t.Errorf("%q is a serial number", s)
		}
	}
	for _, s := range []string{"00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff", "03000200-0400-0500-0006-000700080009"} {
		if !inventory.FakeUUID(s) {
			t.Errorf("%s is no UUID", s)
		}
	}
	if inventory.FakeUUID("4c4c4544-0044-3510-8052-b4c04f4d3132") || inventory.FakeUUID("") {
		t.Error("a UUID is taken for a fake, or nothing for one")
	}
	if !inventory.FakeMAC("00:00:00:00:00:00") || inventory.FakeMAC("52:54:00:12:34:56") {
		t.Error("FakeMAC")
	}
}

// FuzzParse: what a parser returns, it returns again for its own result.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"4C4C4544004435108052B4C04F4D3132", "52-54-00-ab-cd-ef", "{4c4c4544-0044-3510-8052-b4c04f4d3132}", "SYD-PC-01 "} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, parse := range []func(string) (string, error){inventory.ParseUUID, inventory.ParseMAC, inventory.ParseName} {
			one, err := parse(s)
			if err != nil {
				continue
			}
			if two, err := parse(one); err != nil || two != one {
				t.Errorf("%q gives %q, and that %q, %v", s, one, two, err)
			}
		}
	})
}

func TestTierText(t *testing.T) {
	for _, tier := range []inventory.Tier{inventory.Dependency, inventory.Critical, inventory.Normal, inventory.Low} {
		b, err := json.Marshal(tier)
		var back inventory.Tier
		if err != nil || json.Unmarshal(b, &back) != nil || back != tier {
			t.Errorf("%s: %s, %v, %s", tier, b, err, back)
		}
	}
	if _, err := inventory.ParseTier("urgent"); err == nil {
		t.Error("no such tier")
	}
}

func TestTally(t *testing.T) {
	tally := inventory.NewTally()
	for _, h := range []inventory.Host{
		{Name: "a", Site: "X", Serial: "s", Country: "DE", Routes: []inventory.Route{{Driver: "redfish"}, {Driver: "ipmi"}, {Driver: "ipmi"}}},
		{Name: "b", Site: "X", Tier: inventory.Low, State: inventory.Retired, Conflicts: []inventory.Conflict{{Field: "site"}}},
	} {
		tally.Add(&h)
	}
	b, _ := json.Marshal(tally)
	const want = `{"hosts":2,"sites":{"X":2},"drivers":{"ipmi":1,"redfish":1},"tiers":{"dependency":1,"low":1},"no_route":1,"no_zone":1,"no_identity":1,"states":{"retired":1},"conflicts":1}`
	if string(b) != want {
		t.Errorf("got %s\nwant %s", b, want)
	}
}
