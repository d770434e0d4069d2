package proxmox_test

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/inventory/secret"
	"unbrick/inventory/source/proxmox"
	"unbrick/inventory/sourcetest"
	"unbrick/remediate/driver/proxmox/proxmoxtest"
)

const token = "unbrick@pve!read=5f0c2d9a-0000-4000-8000-000000000001"

func vm(id int, name, ostype string) proxmoxtest.VM {
	return proxmoxtest.VM{ID: id, Name: name, Node: "pve1", Running: true, Config: map[string]string{
		"name": name, "ostype": ostype, "smbios1": fmt.Sprintf("uuid=4C4C4544-0000-4000-8000-000000000%d", id),
		"net0": fmt.Sprintf("virtio=BC:24:11:00:01:%02X,bridge=vmbr0,firewall=1", id%100),
	}}
}

// cluster has three hosts, and a helper, a template and a container that are none.
func cluster() *proxmoxtest.Server {
	s := proxmoxtest.New(token)
	for i := range 3 {
		s.Add(vm(100+i, fmt.Sprintf("WS-%d", i), "win11"))
	}
	s.Add(vm(900, "unbrick-helper", "l26"))
	t := vm(901, "golden", "win11")
	t.Template = true
	s.Add(t)
	s.Add(proxmoxtest.VM{ID: 902, Name: "ct", Node: "pve1", Container: true, Running: true})
	return s
}

// open reads a cluster through a service that expires and throttles as it is told.
func open(t *testing.T, h http.Handler, service *sourcetest.Service, change func(*proxmox.Config)) *proxmox.Source {
	t.Helper()
	service.Next, service.Authorization = h, "PVEAPIToken="+token
	cfg := proxmox.Config{
		Name: "prod", URL: service.Start(t), Token: secret.Ref(sourcetest.Secretly(t, token)), Pause: time.Millisecond,
		Windows: true, Site: "Sydney",
	}
	if change != nil {
		change(&cfg)
	}
	s, err := proxmox.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSource(t *testing.T) {
	sourcetest.Run(t, sourcetest.Case{
		Names: []string{"WS-0", "WS-1", "WS-2"},
		Good: func(t *testing.T) inventory.Source {
			return open(t, cluster(), &sourcetest.Service{Busy: 2}, nil)
		},
		Bad: func(t *testing.T) inventory.Source {
			c := cluster()
			c.Change(102, func(v *proxmoxtest.VM) { v.Name = "a b" })
			c.Add(vm(103, "WS-2", "win11"))
			return open(t, c, &sourcetest.Service{}, nil)
		},
		Broken: func(t *testing.T) inventory.Source { return open(t, cluster(), &sourcetest.Service{Down: 3}, nil) },
	})
}

// TestNodeAway: guests of a node that does not answer are missing, and the others are there. What
// runs on them is not known, so they are hosts only where everything is.
func TestNodeAway(t *testing.T) {
	for windows, want := range map[bool]string{true: "WS-0 WS-1 WS-2", false: "WS-0 WS-1 WS-2 WS-3 WS-4 unbrick-helper"} {
		c := cluster()
		for i := range 2 {
			v := vm(103+i, fmt.Sprintf("WS-%d", 3+i), "win11")
			v.Node = "pve2"
			c.Add(v)
		}
		asked := 0
		away := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/nodes/pve2/") {
				asked++
				w.WriteHeader(595)
				return
			}
			c.ServeHTTP(w, r)
		})
		var got []string
		var partial *inventory.PartialError
		for h, err := range open(t, away, &sourcetest.Service{}, func(cfg *proxmox.Config) { cfg.Windows = windows }).Hosts(t.Context()) {
			switch {
			case err == nil:
				got = append(got, h.Name)
			case !errors.As(err, &partial):
				t.Error(err)
			}
		}
		if s := strings.Join(got, " "); s != want || partial == nil || partial.Missing != "node pve2 does not answer" {
			t.Errorf("Windows alone %v: %s, %v; want %s", windows, s, partial, want)
		}
		t.Logf("the node was asked %d times", asked)
	}
}

// names are those of the hosts that a configuration picks.
func names(t *testing.T, s *proxmox.Source) (all []string) {
	t.Helper()
	for h, err := range s.Hosts(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, h.Name)
	}
	return all
}

func TestWhich(t *testing.T) {
	c := cluster()
	c.Change(101, func(v *proxmoxtest.VM) { v.Tags, v.Pool = "hit;desk", "sydney" })
	stopped := vm(103, "WS-3", "win10")
	stopped.Running, stopped.Node = false, "pve2"
	c.Add(stopped)
	for want, change := range map[string]func(*proxmox.Config){
		"[WS-0 WS-1 WS-2 WS-3]":                func(c *proxmox.Config) {},
		"[WS-0 WS-1 WS-2 WS-3 unbrick-helper]": func(c *proxmox.Config) { c.Windows = false },
		"[WS-0 WS-1 WS-2]":                     func(c *proxmox.Config) { c.Running = true },
		"[WS-3]":                               func(c *proxmox.Config) { c.Nodes = []string{"pve2"} },
		"[WS-1]":                               func(c *proxmox.Config) { c.Tags = []string{"hit"} },
		"[WS-0 WS-3]":                          func(c *proxmox.Config) { c.Guests = []int{103, 100, 555} },
		"[]":                                   func(c *proxmox.Config) { c.Pool = "perth" },
	} {
		if got := fmt.Sprint(names(t, open(t, c, &sourcetest.Service{}, change))); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestFields(t *testing.T) {
	c := cluster()
	c.Change(100, func(v *proxmoxtest.VM) {
		v.Tags = "hit;desk"
		v.Config["smbios1"] = "uuid=4C4C4544-0000-4000-8000-000000000100,serial=U04tMQ==,base64=1"
		v.Config["net1"] = "e1000=BC:24:11:00:02:00"
	})
	for h, err := range open(t, c, &sourcetest.Service{}, nil).Hosts(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if h.UUID != "4c4c4544-0000-4000-8000-000000000100" || h.Serial != "SN-1" || h.Site != "Sydney" || h.Labels["node"] != "pve1" ||
			h.Labels["tags"] != "hit desk" || h.Labels["power"] != "running" || fmt.Sprint(h.MAC) != "[bc:24:11:00:01:00 bc:24:11:00:02:00]" ||
			fmt.Sprint(h.Routes) != "[{proxmox prod/100}]" {
			t.Errorf("%+v", h)
		}
		break
	}
}

// A guest that is removed while they are read is none, and no error.
func TestGone(t *testing.T) {
	c := cluster()
	gone := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/101/config") {
			c.Remove(101)
		}
		c.ServeHTTP(w, r)
	})
	if got := fmt.Sprint(names(t, open(t, gone, &sourcetest.Service{}, nil))); got != "[WS-0 WS-2]" {
		t.Error(got)
	}
}

func TestCheck(t *testing.T) {
	unseen := cluster()
	unseen.Deny("/vms/100", "VM.Audit")
	refuses := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/config") {
			proxmoxtest.Fail(w, http.StatusForbidden, "Permission check failed (/vms/100, VM.Audit)\n")
			return
		}
		unseen.ServeHTTP(w, r)
	})
	sourcetest.CheckRights(t, sourcetest.Rights{
		Good: open(t, cluster(), &sourcetest.Service{}, nil), Lacking: open(t, refuses, &sourcetest.Service{}, nil), Right: "VM.Audit on /vms/100",
		Refused: open(t, cluster(), &sourcetest.Service{}, func(c *proxmox.Config) {
			c.Token = secret.Ref(sourcetest.Secretly(t, "unbrick@pve!read="+sourcetest.Wrong))
		}),
	})
	var right *inventory.RightError
	if err := open(t, proxmoxtest.New(token), &sourcetest.Service{}, nil).Check(t.Context()); !errors.As(err, &right) || !strings.Contains(right.Right, "VM.Audit") {
		t.Errorf("a cluster that shows nothing: %v", err)
	}
	for want, s := range map[string]*proxmox.Source{
		"is this the API of Proxmox VE": open(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }), &sourcetest.Service{}, nil),
		"cannot reach Proxmox VE prod":  open(t, cluster(), &sourcetest.Service{}, func(c *proxmox.Config) { c.URL = "http://127.0.0.1:1" }),
	} {
		if err := s.Check(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestConnect(t *testing.T) {
	for url, good := range map[string]bool{
		"https://pve1:8006": true, "https://pve1:8006/": true, "http://127.0.0.1:1": true, "http://pve1:8006": false,
		"https://root:x@pve1": false, "https://pve1/api2?x=1": false, "https://pve1/api2": false, "pve1": false, "": false,
	} {
		c, err := proxmox.Connect(proxmox.Access{URL: url})
		if (err == nil) != good {
			t.Errorf("%s: %v", url, err)
		}
		if err == nil && c.Name() != "pve1" && c.Name() != "127.0.0.1" {
			t.Errorf("%s is called %s", url, c.Name())
		}
	}
	if _, err := proxmox.Connect(proxmox.Access{URL: "https://pve1", Token: "root@pam!x=secret"}); err == nil || strings.Contains(err.Error(), "x=secret") {
		t.Errorf("a token in the configuration: %v", err)
	}
}

// The certificates of a cluster are signed by its own authority.
func TestCA(t *testing.T) {
	server := httptest.NewTLSServer(cluster())
	t.Cleanup(server.Close)
	ca := filepath.Join(t.TempDir(), "pve-root-ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(ca, text, 0o600); err != nil {
		t.Fatal(err)
	}
	access := proxmox.Access{URL: server.URL, Token: secret.Ref(sourcetest.Secretly(t, token)), CA: ca, Pause: time.Millisecond}
	c, err := proxmox.Connect(access)
	if err != nil {
		t.Fatal(err)
	}
	if all, err := c.Resources(t.Context()); err != nil || len(all) != 6 {
		t.Errorf("%v, %v", all, err)
	}
	access.CA = ""
	if c, err = proxmox.Connect(access); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Resources(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("nobody's certificate: %v", err)
	}
	access.CA = filepath.Join(t.TempDir(), "none")
	if _, err := proxmox.Connect(access); err == nil {
		t.Error("an authority that is not there")
	}
}

// What changes something is sent once, whatever becomes of it; what only reads, a few times.
// A redirection is not followed: the token would go along.
func TestOnce(t *testing.T) {
	asked := 0
	busy := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked++; w.WriteHeader(596) })
	service := &sourcetest.Service{Next: busy, Authorization: "PVEAPIToken=" + token}
	c, err := proxmox.Connect(proxmox.Access{URL: service.Start(t), Token: secret.Ref(sourcetest.Secretly(t, token)), Pause: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	var said *proxmox.Error
	if err := c.Post(t.Context(), "/x", nil, nil); !errors.As(err, &said) || !said.Passing() || asked != 1 {
		t.Errorf("%v, asked %d times", err, asked)
	}
	if err := c.Get(t.Context(), "/x", nil); !errors.As(err, &said) || asked != 4 {
		t.Errorf("%v, asked %d times", err, asked)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Get(ctx, "/x", nil); !errors.Is(err, context.Canceled) || asked != 4 {
		t.Errorf("%v, asked %d times", err, asked)
	}
	service.Next = http.RedirectHandler("/elsewhere", http.StatusFound)
	if err := c.Get(t.Context(), "/x", nil); !errors.As(err, &said) || said.Status != http.StatusFound {
		t.Error(err)
	}
}

// Whatever a value is, it is read without a panic, and a name is never in it twice.
func FuzzProperties(f *testing.F) {
	f.Add("local-lvm:vm-100-disk-0,discard=on,size=32G")
	f.Add("uuid=1,serial=U04=,base64=1")
	f.Add("=,,=x,")
	f.Fuzz(func(t *testing.T, text string) {
		first, named := proxmox.Properties(text)
		if strings.ContainsAny(first, ",=") || len(named) > strings.Count(text, "=") {
			t.Errorf("%q: %q, %v", text, first, named)
		}
		proxmox.SMBIOS(text)
	})
}
