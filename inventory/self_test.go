package inventory_test

import (
	"strings"
	"testing"

	"unbrick/inventory"
)

func TestCompare(t *testing.T) {
	const uuid, turned, other = "4c4c4544-0044-3510-8052-b4c04f4d3132", "44454C4C-4400-1035-8052-B4C04F4D3132", "11111111-2222-3333-4444-555555555555"
	for _, tt := range []struct {
		name         string
		uuid, serial string // of the inventory
		says         string
		serials      []string
		agrees       string
		wrong        string
	}{
		{name: "nothing known"},
		{name: "nothing said", uuid: uuid, serial: "SN1"},
		{name: "both", uuid: uuid, serial: "SN1", says: uuid, serials: []string{" sn1"}, agrees: "uuid serial"},
		{name: "the other order", uuid: uuid, says: turned, agrees: "uuid"},
		{name: "no hyphens", uuid: uuid, says: strings.ReplaceAll(turned, "-", ""), agrees: "uuid"},
		{name: "another UUID, our serial", uuid: uuid, serial: "SN1", says: other, serials: []string{"SN1"}, wrong: "UUID"},
		{name: "our UUID, another serial", uuid: uuid, serial: "SN1", says: uuid, serials: []string{"SN2"}, wrong: "serial number"},
		{name: "one of two serials", serial: "TAG", serials: []string{"CN123", "TAG"}, agrees: "serial"},
		{name: "none of two serials", serial: "TAG", serials: []string{"CN123", "GAT"}, wrong: "serial number"},
		{name: "a placeholder beside", uuid: uuid, serial: "SN1", says: "03000200-0400-0500-0006-000700080009", serials: []string{"SN1", "To be filled by O.E.M."}, agrees: "serial"},
		{name: "placeholders alone", uuid: uuid, serial: "SN1", says: "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF", serials: []string{"Default string", "ToBeFilledByO.E.M.", ""}},
		{name: "placeholders of the inventory", uuid: "00020003-0004-0005-0006-000700080009", serial: "0123456789", says: other, serials: []string{"SN2"}},
		{name: "no UUID at all", uuid: uuid, says: "odd"},
	} {
		h := inventory.Host{UUID: tt.uuid, Serial: tt.serial}
		agrees, wrong := h.Compare(tt.says, tt.serials...)
		what := ""
		if wrong != nil {
			what = wrong.What
		}
		if strings.Join(agrees, " ") != tt.agrees || what != tt.wrong {
			t.Errorf("%s: %q, %v; want %q, %q", tt.name, agrees, wrong, tt.agrees, tt.wrong)
		}
	}
}

// Who is compared with whom makes no difference, and nothing both agrees and contradicts.
func FuzzCompare(f *testing.F) {
	f.Add("4c4c4544-0044-3510-8052-b4c04f4d3132", "SN1", "44454C4C-4400-1035-8052-B4C04F4D3132", "sn 1")
	f.Add("", "0", "x", "")
	f.Fuzz(func(t *testing.T, uuid, serial, otherUUID, otherSerial string) {
		a, b := inventory.Host{UUID: uuid, Serial: serial}, inventory.Host{UUID: otherUUID, Serial: otherSerial}
		there, wrong := a.Compare(otherUUID, otherSerial)
		back, also := b.Compare(uuid, serial)
		if strings.Join(there, " ") != strings.Join(back, " ") || (wrong == nil) != (also == nil) {
			t.Errorf("%q, %v one way and %q, %v the other", there, wrong, back, also)
		}
		if wrong != nil && there != nil {
			t.Errorf("agrees in %q and contradicts: %v", there, wrong)
		}
	})
}
