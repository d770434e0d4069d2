package csv_test

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"unbrick/inventory"
	"unbrick/inventory/source/csv"
)

// What is written is read as the same hosts, whatever labels are called.
func TestWriteRoundTrip(t *testing.T) {
	hosts := []inventory.Host{
		{Name: "PC-1", Serial: "5CG1", UUID: "4c4c4544-0044-3510-8052-b4c04f4b3333", MAC: []string{"52:54:00:12:34:56", "52:54:00:12:34:57"},
			Address: "pc-1.corp.example", Site: "Sydney, NSW", Country: "AU", Region: "Oceania", TimeZone: "Australia/Sydney", Opens: "Mon-Sat 07:30",
			Technician: "Doe; J", Tier: inventory.Critical, Group: "web",
			Routes: []inventory.Route{{Driver: "redfish", Address: "https://10.0.0.1"}, {Driver: "libvirt", Address: "qemu+tls://hv1/system?name=pc-1"}},
			Labels: map[string]string{"model": "X1", "state": "Victoria", "Location": "rack 7", "label:x": "y", " odd": "-", "Quote\"d": "a\"b"}},
		{Name: "PC-2", State: inventory.Retired, Tier: inventory.Normal},
		{Name: "PC-3", State: inventory.NeverOnline, Tier: inventory.Dependency, Routes: []inventory.Route{{Driver: "manual", Address: "John Doe"}}},
		{Name: "PC-4", State: inventory.InStock, Tier: inventory.Low, Labels: map[string]string{"state": "Retired"}},
	}
	var b bytes.Buffer
	left, err := csv.Write(&b, hosts)
	if err != nil || left != (csv.Left{}) {
		t.Fatal(left, err)
	}
	got, problems, err := read(t, file(t, b.String()))
	if err != nil || len(problems) > 0 {
		t.Fatalf("%v %v\n%s", problems, err, &b)
	}
	if !reflect.DeepEqual(got, hosts) {
		t.Errorf("got  %+v\nwant %+v\n%s", got, hosts, &b)
	}
}

// What cannot be written is counted.
func TestWriteLeaves(t *testing.T) {
	var b bytes.Buffer
	left, err := csv.Write(&b, []inventory.Host{
		{Name: "PC-1", Routes: []inventory.Route{{Driver: "redfish", Address: "a"}, {Driver: "redfish", Address: "b"}}},
		{Name: "PC-2", Labels: map[string]string{"admin password": "hunter2"}},
	})
	if err != nil || left != (csv.Left{Routes: 1, Labels: 1}) || strings.Contains(b.String(), "hunter2") || !strings.Contains(b.String(), "PC-1,dependency,a\n") {
		t.Errorf("%+v %v\n%s", left, err, &b)
	}
}

// A word that is no state stays a label, and a libvirt address may have a query and no user.
func TestStateAndLibvirt(t *testing.T) {
	src := file(t, "name,State,libvirt\na,In Stock,\nb,Victoria,qemu+tls://hv1/system?name=b\nc,installed,qemu+ssh://root:pw@hv1/system\n")
	hosts, problems, err := read(t, src)
	if err != nil || len(hosts) != 2 || hosts[0].State != inventory.InStock || hosts[1].State != "" || hosts[1].Labels["State"] != "Victoria" || len(hosts[1].Routes) != 1 {
		t.Errorf("%+v %v", hosts, err)
	}
	if len(problems) != 1 || !strings.Contains(problems[0], "user name or password") || strings.Contains(problems[0], "pw") {
		t.Error(problems)
	}
}

// FuzzWrite holds that what one reading yields is yielded again from what Write makes of it.
func FuzzWrite(f *testing.F) {
	f.Add("name,state,label:state,redfish\na,retired,x,https://10.0.0.1\n")
	f.Add("name;Location;site;mac\npc;x;y;52:54:00:12:34:56\n")
	f.Add("name,label:label:x\na,b\n")
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "fleet.csv")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		hosts, _, err := read(t, csv.Source{Path: path})
		if err != nil || len(hosts) == 0 {
			return
		}
		var b bytes.Buffer
		if left, err := csv.Write(&b, hosts); err != nil || left != (csv.Left{}) {
			return
		}
		again, problems, err := read(t, file(t, b.String()))
		for _, list := range [][]inventory.Host{hosts, again} {
			for i := range list {
				slices.SortFunc(list[i].Routes, func(a, b inventory.Route) int { return strings.Compare(a.Driver, b.Driver) })
			}
		}
		if err != nil || len(problems) > 0 || !reflect.DeepEqual(again, hosts) {
			t.Errorf("%v %v\nread  %+v\nagain %+v\nfrom %q", problems, err, hosts, again, b.String())
		}
	})
}
