package inventory_test

import (
	"fmt"
	"strings"
	"testing"

	"unbrick/inventory"
)

func TestDraft(t *testing.T) {
	const key = "123456-123456-123456-123456-123456-123456-123456-123456"
	at := inventory.Origin{Source: "x", Place: "x.example"}
	for _, tc := range []struct{ field, in, want, says string }{
		{"name", `CORP\PC1`, "PC1", ""}, {"name", "two words", "", `x.example 7: column "name": "two words": not a host name`}, {"name", "", "", "without a host name"},
		{"serial", " 5CG1 ", "5CG1", ""}, {"serial", "Default string", "", "no serial number"}, {"serial", "n/a", "", ""},
		{"uuid", "4C4C4544004435108052B4C04F4D3132", "4c4c4544-0044-3510-8052-b4c04f4d3132", ""}, {"uuid", "x", "", "not a UUID"}, {"uuid", "ffffffff-ffff-ffff-ffff-ffffffffffff", "", "no UUID"},
		{"mac", "52-54-00-12-34-56, 52:54:00:12:34:56 00:00:00:00:00:00", "[52:54:00:12:34:56]", ""}, {"mac", "hello", "[]", "not a MAC"},
		{"site", "a\nb\x1b[2J", "a b[2J", ""}, {"site", "key " + key, "", "holds a BitLocker recovery key"}, {"site", strings.Repeat("ü", 300), strings.Repeat("ü", 100) + "…", ""},
		{"country", "Germany", "", ""}, {"tier", "LOW", "low", ""}, {"tier", "urgent", "normal", "not a tier"}, {"state", "Lost/Stolen", "retired", ""}, {"state", "active", "", ""},
		{"redfish", "https://u:p@bmc", "[]", "without a login"}, {"redfish", "bmc1", "[{redfish bmc1}]", ""},
	} {
		var h inventory.Host
		var said []string
		for got, err := range inventory.Read(t.Context(), "x", func(emit func(*inventory.Draft) error) error {
			d := inventory.NewDraft(at, "7")
			d.Set(tc.field, tc.field, tc.in)
			if tc.field != "name" {
				d.Set("name", "name", "PC9")
			}
			return emit(d)
		}) {
			if err != nil {
				said = append(said, err.Error())
			} else {
				h = got
			}
		}
		got := map[string]any{"name": h.Name, "serial": h.Serial, "uuid": h.UUID, "mac": h.MAC, "site": h.Site, "country": h.Country, "tier": h.Tier, "state": h.State, "redfish": h.Routes}[tc.field]
		all := strings.Join(said, "\n")
		if fmt.Sprint(got) != tc.want || !strings.Contains(all, tc.says) || tc.says == "" && all != "" || strings.Contains(all, key) || strings.Contains(all, "u:p") {
			t.Errorf("%s %q: %v, said %q; want %q, %q", tc.field, tc.in, got, all, tc.want, tc.says)
		}
	}
	if err := inventory.CheckFields(map[string]string{"tierr": "x"}); err == nil || !strings.Contains(err.Error(), `no field "tierr"; the fields are name`) {
		t.Errorf("a field that is none: %v", err)
	}
}
