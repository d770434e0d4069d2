package csv_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/inventory/source/csv"
	"unbrick/inventory/sourcetest"
)

func file(t testing.TB, content string) csv.Source {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fleet.csv")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return csv.Source{Path: path}
}

// read returns what src yields: hosts without their origin, row errors as text without the
// path, and the error that ended it.
func read(t testing.TB, src csv.Source) (hosts []inventory.Host, rows []string, last error) {
	t.Helper()
	for h, err := range src.Hosts(context.Background()) {
		var row *inventory.RowError
		switch {
		case errors.As(err, &row):
			kind := "bad "
			if row.Warning {
				kind = "warning "
			}
			rows = append(rows, kind+strings.TrimPrefix(row.Error(), src.Path+":"))
		case err != nil:
			last = err
		default:
			h.From = nil
			hosts = append(hosts, h)
		}
	}
	return hosts, rows, last
}

func TestSource(t *testing.T) {
	sourcetest.Run(t, sourcetest.Case{
		Names: []string{"a", "b", "c"},
		Good:  func(t *testing.T) inventory.Source { return file(t, "name\na\nb\nc\n") },
		Bad: func(t *testing.T) inventory.Source {
			return file(t, "name,country\na,DE\nx,Germany\nb,\"q\"x\nb,\nc,FR\n")
		},
		Broken: func(t *testing.T) inventory.Source { return csv.Source{Path: filepath.Join(t.TempDir(), "none.csv")} },
	})
}

// TestSeen: when a system last heard of a host counts, with what it can be off by.
func TestSeen(t *testing.T) {
	at := time.Date(2024, 7, 19, 4, 30, 0, 0, time.UTC)
	for row, want := range map[string]inventory.Origin{
		"seen|2024-07-19T04:30:00Z":                 {Seen: at},
		"Last Seen|2024-07-19T14:30:00+10:00":       {Seen: at},
		"Last Seen|2024-07-19 04:30:00 UTC":         {Seen: at},
		"Last check-in|2024-07-19 04:30:00Z":        {Seen: at, Lag: 8 * time.Hour},
		"lastLogonDate|2024-07-19T04:30:00Z":        {Seen: at, Lag: 14 * 24 * time.Hour},
		"Most recent discovery|2024-07-19 04:30:00": {Seen: at.Add(-14 * time.Hour), Lag: (7*24 + 28) * time.Hour},
		"Last Seen|2024-07-19 04:30:00 CEST":        {},
		"Last Seen|never":                           {},
		"Last Seen|19/07/2024":                      {},
		"label:Last Seen|2024-07-19T04:30:00Z":      {},
	} {
		title, value, _ := strings.Cut(row, "|")
		for h, err := range file(t, "name,"+title+"\na,"+value+"\n").Hosts(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			got := inventory.Origin{Seen: h.From[0].Seen, Lag: h.From[0].Lag}
			if got != want {
				t.Errorf("%s: got %+v, want %+v", row, got, want)
			}
			if (len(h.Labels) == 0) != !got.Seen.IsZero() {
				t.Errorf("%s: what is no time is a label: %v", row, h.Labels)
			}
		}
	}
}

// TestWindowsZone: what only Windows fills has Windows's names.
func TestWindowsZone(t *testing.T) {
	hosts, rows, err := read(t, file(t, "name,timezone\na,W. Europe Standard Time\nb,AUS eastern standard time\nc,Mars Standard Time\n"))
	if err != nil || len(hosts) != 2 || hosts[0].TimeZone != "Europe/Berlin" || hosts[1].TimeZone != "Australia/Sydney" || len(rows) != 1 {
		t.Errorf("got %+v, %q, error %v", hosts, rows, err)
	}
}

// TestRetired: an export of a CMDB says under many headers that a host is not in use.
func TestRetired(t *testing.T) {
	for _, title := range []string{"state", "Install status", "Status", "Life Cycle Stage", "Asset state", "Status Label"} {
		hosts, _, err := read(t, file(t, "name,"+title+"\na,In use\nb,Retired\nc,in stock\nd,Victoria\n"))
		if err != nil || len(hosts) != 4 {
			t.Fatalf("%d hosts, %v", len(hosts), err)
		}
		for i, want := range []inventory.State{"", inventory.Retired, inventory.InStock, ""} {
			if hosts[i].State != want {
				t.Errorf("%s of %s: state %q, want %q", title, hosts[i].Name, hosts[i].State, want)
			}
		}
	}
}

// full is one host with every field, as fleet.csv of design.md has them.
var full = inventory.Host{
	Name: "SYD-PC-01", Serial: "5CG1234XYZ", UUID: "4c4c4544-0044-3510-8052-b4c04f4d3132",
	MAC: []string{"52:54:00:12:34:56", "52:54:00:12:34:57"}, Address: "syd-pc-01.corp.example",
	Site: "SYD", Country: "AU", Region: "APAC", TimeZone: "Australia/Sydney", Opens: "Mon-Sat 07:30",
	Technician: "kim@example.com", Tier: inventory.Critical, Group: "sql-1",
	Routes: []inventory.Route{{Driver: "winrm", Address: "syd-pc-01"}, {Driver: "redfish", Address: "https://10.1.2.3"}},
	Labels: map[string]string{"Owner": "Ops"},
}

func TestForms(t *testing.T) {
	const head = "name,serial,uuid,mac,address,site,country,region,timezone,tier,group,opens,technician,winrm,redfish,Owner"
	const row = "SYD-PC-01,5CG1234XYZ,{4C4C4544-0044-3510-8052-B4C04F4D3132},52-54-00-12-34-56 525400123457,syd-pc-01.corp.example,SYD,au,APAC,Australia/Sydney,Critical,sql-1,Mon-Sat 07:30,kim@example.com,syd-pc-01,https://10.1.2.3,Ops"
	swap := func(s, sep string) string { return strings.ReplaceAll(s, ",", sep) }
	utf16 := func(s string, mark ...byte) string {
		b := mark
		for _, c := range []byte(s) {
			if mark[0] == 0xff {
				b = append(b, c, 0)
			} else {
				b = append(b, 0, c)
			}
		}
		return string(b)
	}
	plain := head + "\n" + row + "\n"
	for name, content := range map[string]string{
		"plain":            plain,
		"BOM":              "\ufeff" + plain,
		"CRLF":             strings.ReplaceAll(plain, "\n", "\r\n"),
		"no last newline":  head + "\n" + row,
		"semicolon":        swap(plain, ";"),
		"tab":              swap(plain, "\t"),
		"sep line":         "sep=;\r\n" + swap(plain, ";"),
		"PowerShell type":  "#TYPE Selected.Microsoft.ActiveDirectory.Management.ADComputer\r\n" + plain,
		"UTF-16 LE":        utf16(swap(plain, "\t"), 0xff, 0xfe),
		"UTF-16 BE":        utf16(plain, 0xfe, 0xff),
		"case and space":   strings.ToUpper(strings.Replace(head, "timezone,", "Time_Zone ,", 1)) + "\n" + row + "\n",
		"all quoted":       `"` + swap(head, `","`) + "\"\n\"" + swap(row, `","`) + "\"\n",
		"blank rows":       head + "\n\n" + strings.Repeat(",", 15) + "\n" + row + "\n\n",
		"delimiter at end": head + ",\n" + row + ",\n",
		"more delimiters":  head + "\n" + row + ",,,\n",
	} {
		t.Run(name, func(t *testing.T) {
			hosts, _, err := read(t, file(t, content))
			if err != nil || len(hosts) != 1 {
				t.Fatalf("got %d hosts, error %v", len(hosts), err)
			}
			got := hosts[0]
			if name == "case and space" {
				got.Labels = map[string]string{"Owner": got.Labels["OWNER"]}
			}
			if !reflect.DeepEqual(got, full) {
				t.Errorf("got  %+v\nwant %+v", got, full)
			}
		})
	}
}

func TestExports(t *testing.T) {
	for name, tc := range map[string]struct {
		content string
		want    inventory.Host
		notes   int
	}{
		"ServiceNow": {
			"name,serial_number,ip_address,mac_address,fqdn,location,location.country,sys_id\nSRV1,SN1,10.0.0.1,52:54:00:00:00:01,srv1.corp,Paris,FR,abc\n",
			inventory.Host{Name: "SRV1", Serial: "SN1", Address: "srv1.corp", MAC: []string{"52:54:00:00:00:01"}, Site: "Paris", Country: "FR", Labels: map[string]string{"ip_address": "10.0.0.1", "sys_id": "abc"}}, 1,
		},
		"Intune": {
			"Device ID,Device name,Serial number,OS,Wi-Fi MAC,EthernetMAC,Encrypted\n11,PC7,PF1,Windows,525400000001,,True\n",
			inventory.Host{Name: "PC7", Serial: "PF1", MAC: []string{"52:54:00:00:00:01"}, Labels: map[string]string{"Device ID": "11", "OS": "Windows", "Encrypted": "True"}}, 0,
		},
		"Active Directory": {
			"#TYPE Microsoft.ActiveDirectory.Management.ADComputer\r\n\"DistinguishedName\",\"DNSHostName\",\"Enabled\",\"Name\",\"ObjectGUID\",\"PasswordLastSet\"\r\n\"CN=PC7,OU=x\",\"pc7.corp\",\"True\",\"PC7\",\"8d1f\",\"1/1/2024\"\r\n",
			inventory.Host{Name: "PC7", Address: "pc7.corp", Labels: map[string]string{"DistinguishedName": "CN=PC7,OU=x", "Enabled": "True", "ObjectGUID": "8d1f", "PasswordLastSet": "1/1/2024"}}, 0,
		},
		"Falcon": {
			"Hostname,Host ID,Local IP,External IP,MAC Address,Serial Number,Site\nPC7,aa,10.0.0.7,1.2.3.4,52-54-00-00-00-07,PF7,Default-First-Site-Name\n",
			inventory.Host{Name: "PC7", Serial: "PF7", Address: "10.0.0.7", Site: "Default-First-Site-Name", MAC: []string{"52:54:00:00:00:07"}, Labels: map[string]string{"Host ID": "aa", "External IP": "1.2.3.4"}}, 0,
		},
		"ConfigMgr": {
			"Name0,SMBIOS_GUID0,SerialNumber0,IP_Addresses0,AD_Site_Name0\nPC7,4C4C4544-0044-3510-8052-B4C04F4D3132,PF7,\"fe80::1, 10.0.0.7\",HQ\n",
			inventory.Host{Name: "PC7", Serial: "PF7", UUID: "4c4c4544-0044-3510-8052-b4c04f4d3132", Address: "10.0.0.7", Site: "HQ"}, 0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			tc.want.Tier = inventory.Normal
			hosts, rows, err := read(t, file(t, tc.content))
			if err != nil || len(hosts) != 1 || len(rows) != tc.notes {
				t.Fatalf("got %d hosts, %q, error %v", len(hosts), rows, err)
			}
			if !reflect.DeepEqual(hosts[0], tc.want) {
				t.Errorf("got  %+v\nwant %+v", hosts[0], tc.want)
			}
		})
	}
}
