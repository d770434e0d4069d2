package leases_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/inventory/source/leases"
	"unbrick/inventory/sourcetest"
)

func file(t testing.TB, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "leases")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// isc writes a lease as dhcpd does.
func isc(address, mac, name, at string, state string) string {
	return fmt.Sprintf("lease %s {\n  starts 5 %s;\n  ends 5 2024/07/19 12:00:00;\n  cltt 5 %s;\n  binding state %s;\n  next binding state free;\n  hardware ethernet %s;\n  uid \"\\001RT\\000\";\n  client-hostname \"%s\";\n}\n",
		address, at, at, state, mac, name)
}

const keaHeader = "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname,state,user_context,pool_id\n"

// TestSource runs the suite for both forms. A lease file is one text: what cannot be read of it
// is a warning, and only a file that is not there is an error.
func TestSource(t *testing.T) {
	names := []string{"pc0", "pc1", "pc2"}
	iscText, keaText := "# The format of this file is documented in the dhcpd.leases(5) manual page.\nauthoring-byte-order little-endian;\nserver-duid \"\\000\\001\";\n", keaHeader
	for i, n := range names {
		iscText += isc(fmt.Sprint("10.0.0.", i), fmt.Sprint("52:54:00:00:00:0", i), n, "2024/07/19 04:00:00", "active")
		keaText += fmt.Sprintf("10.0.0.%d,52:54:00:00:00:0%d,,3600,1721364000,1,0,0,%s,0,,0\n", i, i, n)
	}
	for form, text := range map[string]string{"isc": iscText, "kea": keaText} {
		t.Run(form, func(t *testing.T) {
			good, bad := file(t, text), file(t, text+map[string]string{"isc": "lease 10.0.0.9 {\n  starts soon;\n", "kea": "10.0.0.9,52:54\n"}[form])
			sourcetest.Run(t, sourcetest.Case{
				Names:  names,
				Good:   func(*testing.T) inventory.Source { return leases.Source{Path: good} },
				Bad:    func(*testing.T) inventory.Source { return leases.Source{Path: bad} },
				Broken: func(*testing.T) inventory.Source { return leases.Source{Path: good + "-gone"} },
			})
		})
	}
}

func load(t *testing.T, text string) *inventory.Fleet {
	t.Helper()
	f, err := inventory.Load(t.Context(), inventory.Options{SkipBad: true}, leases.Source{Path: file(t, text), Site: "SYD"})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestISC(t *testing.T) {
	text := "failover peer \"x\" state {\n  my state normal at 5 2024/07/19 00:00:00;\n}\n" +
		isc("10.0.0.1", "52:54:00:00:00:01", "PC1", "2024/07/19 02:00:00", "active") +
		isc("10.0.0.1", "52:54:00:00:00:01", "PC1", "2024/07/19 04:00:00", "active") + // renewed: the later entry counts
		isc("10.0.0.2", "52:54:00:00:00:02", "pc1", "2024/07/19 03:00:00", "free") + // its other adapter
		"lease 10.0.0.3 {\n  starts epoch 1721361600; # Fri\n  ends never;\n  binding state active;\n  hardware ethernet 52:54:00:00:00:03;\n  set ddns-fwd-name = \"pc3.corp.example\";\n}\n" +
		"lease 10.0.0.4 {\n  binding state free;\n  hardware ethernet 52:54:00:00:00:04;\n}\n"
	f := load(t, text)
	if len(f.Hosts) != 2 {
		t.Fatalf("%+v", f.Hosts)
	}
	h := f.Hosts[0]
	if h.Name != "PC1" || h.Address != "10.0.0.1" || len(h.MAC) != 2 || h.Site != "SYD" || !h.Seen().Equal(time.Date(2024, 7, 19, 4, 0, 0, 0, time.UTC)) || h.From[0].Lag != 4*time.Hour {
		t.Errorf("%+v", h)
	}
	if h := f.Hosts[1]; h.Name != "pc3.corp.example" || h.Seen().Unix() != 1721361600 || h.From[0].Lag != 0 {
		t.Errorf("%+v", h)
	}
}

func TestKea(t *testing.T) {
	f := load(t, keaHeader+
		"10.0.0.1,52:54:00:00:00:01,01:52,3600,1721360000,1,0,0,PC1.corp.example.,0,,0\n"+
		"10.0.0.1,52:54:00:00:00:01,01:52,3600,1721364000,1,0,0,PC1.corp.example.,0,,0\n"+
		"10.0.0.2,52:54:00:00:00:02,,3600,1721364000,1,0,0,PC2,0,,0\n"+
		"10.0.0.2,52:54:00:00:00:02,,0,1721364000,1,0,0,PC2,0,,0\n"+ // taken away
		"10.0.0.3,52:54:00:00:00:03,,3600,1721364000,1,0,0,PC3,2,,0\n"+
		"10.0.0.4,,,3600,1721364000,1,0,0,declined,1,,0\n")
	if len(f.Hosts) != 2 || f.Hosts[0].Name != "PC1.corp.example" || f.Hosts[0].Seen().Unix() != 1721360400 || f.Hosts[1].Address != "" || f.Hosts[1].MAC == nil {
		t.Errorf("%+v", f.Hosts)
	}
}

// TestNameStays: when a lease is over the servers write it without its name, and it is the host's
// all the same, until the address is another's.
func TestNameStays(t *testing.T) {
	for form, text := range map[string]string{
		"ISC": isc("10.0.0.1", "52:54:00:00:00:01", "PC1", "2024/07/19 02:00:00", "active") + "lease 10.0.0.1 {\n  starts 5 2024/07/19 02:00:00;\n  ends 5 2024/07/19 12:00:00;\n  binding state free;\n  hardware ethernet 52:54:00:00:00:01;\n}\n" +
			isc("10.0.0.2", "52:54:00:00:00:02", "PC2", "2024/07/19 02:00:00", "active") + "lease 10.0.0.2 {\n  starts 5 2024/07/19 02:00:00;\n  binding state active;\n  hardware ethernet 52:54:00:00:00:03;\n}\n",
		"Kea": keaHeader + "10.0.0.1,52:54:00:00:00:01,,3600,1721364000,1,0,0,PC1,0,,0\n10.0.0.1,52:54:00:00:00:01,,3600,1721364000,1,0,0,,2,,0\n" +
			"10.0.0.2,52:54:00:00:00:02,,3600,1721364000,1,0,0,PC2,0,,0\n10.0.0.2,52:54:00:00:00:03,,3600,1721364000,1,0,0,,0,,0\n",
	} {
		if f := load(t, text); len(f.Hosts) != 1 || f.Hosts[0].Name != "PC1" || f.Hosts[0].Address != "" || len(f.Hosts[0].MAC) != 1 {
			t.Errorf("%s: %+v", form, f.Hosts)
		}
	}
}

func TestManyOfOneName(t *testing.T) {
	text := keaHeader + "10.0.1.1,52:54:00:00:01:01,,3600,1721364000,1,0,0,PC1,0,,0\n"
	for i := range 9 {
		text += fmt.Sprintf("10.0.0.%d,52:54:00:00:00:0%d,,3600,1721364000,1,0,0,iPhone,0,,0\n", i, i)
	}
	if f := load(t, text); len(f.Hosts) != 1 || !strings.Contains(f.Warnings.Lines()[0], `9 machines go by the name "iPhone"`) {
		t.Errorf("%+v, %q", f.Hosts, f.Warnings.Lines())
	}
}

// FuzzLeases: whatever the file holds, reading it ends without a panic, and every host has a
// name, a place and a MAC address.
func FuzzLeases(f *testing.F) {
	f.Add(isc("10.0.0.1", "52:54:00:00:00:01", "PC1", "2024/07/19 02:00:00", "active"))
	f.Add(keaHeader + "10.0.0.1,52:54:00:00:00:01,,3600,1721364000,1,0,0,PC1,0,,0\n")
	f.Add("lease 1 {\n starts epoch x;\n}\n}")
	f.Fuzz(func(t *testing.T, text string) {
		for h, err := range (leases.Source{Path: file(t, text)}).Hosts(t.Context()) {
			if err == nil && (h.Name == "" || len(h.From) == 0) {
				t.Errorf("%+v", h)
			}
		}
	})
}
