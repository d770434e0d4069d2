package hyperv_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"unbrick/inventory"
	"unbrick/inventory/source/hyperv"
	"unbrick/inventory/sourcetest"
	"unbrick/remediate/lab/testenv/powershell"
)

type object = map[string]any

// hypervisors are some, by name, with what list.ps1 would say there.
type hypervisors map[string][]object

var cmdlets = regexp.MustCompile(`\b[A-Z][A-Za-z]+-[A-Z][A-Za-z]+\b`)

// Run implements hyperv.Runner.
func (h hypervisors) Run(ctx context.Context, host, script string) (string, error) {
	if err := errors.Join(ctx.Err(), powershell.Check(script)); err != nil {
		return "", err
	}
	for _, name := range cmdlets.FindAllString(script, -1) {
		if !slices.Contains([]string{"Get-VM", "Get-VMNetworkAdapter", "Get-CimInstance", "ForEach-Object", "ConvertTo-Json", "Hyper-V"}, name) {
			return "", fmt.Errorf("a script that lists uses %s", name)
		}
	}
	vms, ok := h[host]
	if !ok {
		return "", errors.New("no route to host")
	}
	if vms == nil {
		return "", errors.New("You do not have the required permission to complete this task.")
	}
	b, err := json.Marshal(object{"computer": host, "vms": vms})
	return "a banner\r\nunbrick:" + base64.StdEncoding.EncodeToString(b) + ":unbrick", err
}

func vm(n int) object {
	return object{"id": fmt.Sprintf("11111111-0000-4000-8000-%012d", n), "name": fmt.Sprintf("WS-%d", n), "state": "Running", "notes": "", "uuid": fmt.Sprintf("{4C4C4544-0000-4000-8000-%012d}", n),
		"serial": fmt.Sprintf("7654-0000-%d", n), "macs": []string{fmt.Sprintf("00155D0000%02X", n), "000000000000"}}
}

func open(t *testing.T, h hypervisors, change func(*hyperv.Config)) *hyperv.Source {
	t.Helper()
	cfg := hyperv.Config{Hypervisors: []string{"hv1", "hv2"}, Runner: h, Site: "Perth", Sites: map[string]string{"hv1": "Sydney"}, Except: []string{"unbrick-helper"}}
	if change != nil {
		change(&cfg)
	}
	s, err := hyperv.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func two() hypervisors {
	helper := vm(9)
	helper["name"] = "Unbrick-Helper"
	return hypervisors{"hv1": {vm(2), vm(1), helper}, "hv2": {vm(3)}}
}

func TestSource(t *testing.T) {
	sourcetest.Run(t, sourcetest.Case{
		Names: []string{"WS-1", "WS-2", "WS-3"},
		Good:  func(t *testing.T) inventory.Source { return open(t, two(), nil) },
		Bad: func(t *testing.T) inventory.Source {
			h := two()
			bad := vm(0)
			bad["name"] = "the old server"
			h["hv2"] = append(h["hv2"], bad)
			h["hv2"][0]["name"] = "WS-3"
			return open(t, h, nil)
		},
		Broken: func(t *testing.T) inventory.Source {
			return open(t, two(), func(c *hyperv.Config) { c.Hypervisors = append(c.Hypervisors, "hv3") })
		},
	})
}

func TestFields(t *testing.T) {
	h := two()
	h["hv1"][0]["state"], h["hv1"][0]["notes"] = "Off", "Kiosk in the lobby"
	for change, want := range map[string]func(*hyperv.Config){
		"[WS-1 WS-3]": func(c *hyperv.Config) { c.Running = true },
		"[WS-2]":      func(c *hyperv.Config) { c.Match = "kiosk" },
		"[WS-3]":      func(c *hyperv.Config) { c.Guests = []string{"11111111-0000-4000-8000-000000000003"} },
	} {
		var names []string
		for h, err := range open(t, h, want).Hosts(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, h.Name)
		}
		if fmt.Sprint(names) != change {
			t.Errorf("%v, want %s", names, change)
		}
	}
	for h, err := range open(t, h, nil).Hosts(t.Context()) {
		if err != nil || h.UUID != "4c4c4544-0000-4000-8000-000000000001" || h.Serial != "7654-0000-1" || h.Site != "Sydney" || fmt.Sprint(h.MAC) != "[00:15:5d:00:00:01]" ||
			fmt.Sprint(h.Routes) != "[{hyperv hv1/11111111-0000-4000-8000-000000000001}]" || h.Labels["power"] != "running" || h.Labels["hypervisor"] != "hv1" {
			t.Errorf("%+v, %v", h, err)
		}
		break
	}
}

func TestCheck(t *testing.T) {
	sourcetest.CheckRights(t, sourcetest.Rights{
		Good: open(t, two(), nil), Lacking: open(t, hypervisors{"hv1": nil}, nil), Right: "Hyper-V Administrators",
	})
	var right *inventory.RightError
	if err := open(t, hypervisors{"hv1": {}}, nil).Check(t.Context()); !errors.As(err, &right) {
		t.Error(err)
	}
	for _, name := range []string{"", "hv1/x", "root@hv1"} {
		if _, err := hyperv.New(hyperv.Config{Hypervisors: []string{name}, Runner: two()}); err == nil || !strings.Contains(err.Error(), "is no hypervisor") {
			t.Errorf("%q: %v", name, err)
		}
	}
}
