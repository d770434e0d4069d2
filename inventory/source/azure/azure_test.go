package azure_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"unbrick/inventory"
	"unbrick/inventory/source/azure"
	"unbrick/inventory/sourcetest"
)

const subscription = "5ed1bd1e-0000-4000-8000-00000000000a"

// token gives out tokens as long as it is good.
type token struct{ err error }

func (k token) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "t", ExpiresOn: time.Now().Add(time.Hour)}, k.err
}

type object = map[string]any

// An arm lists machines and what they are reached by as the Resource Manager does ("Virtual
// Machines - List All", "Network Interfaces - List All"): with nextLink, and how they stand only
// where $expand asks for it.
type arm struct {
	machines, cards, public []object
	url                     string

	denied string // a kind that may not be read
	asked  []string
}

func (a *arm) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.asked = append(a.asked, r.URL.Path)
	path, ok := strings.CutPrefix(r.URL.Path, "/subscriptions/"+subscription+"/")
	group, one := "", ""
	if p := strings.Split(path, "/"); len(p) > 4 && p[0] == "resourceGroups" {
		group, path = p[1], strings.Join(p[2:], "/")
	}
	if p := strings.Split(path, "/"); len(p) == 4 {
		one, path = p[3], strings.Join(p[:3], "/")
	}
	all, known := map[string][]object{"Microsoft.Compute/virtualMachines": a.machines, "Microsoft.Network/networkInterfaces": a.cards, "Microsoft.Network/publicIPAddresses": a.public}[strings.TrimPrefix(path, "providers/")]
	switch {
	case !ok || !known:
		w.WriteHeader(http.StatusNotFound)
		return
	case a.denied != "" && strings.HasSuffix(path, a.denied):
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, `{"error":{"code":"AuthorizationFailed","message":"The client 'x' does not have authorization to perform action '%s/read'."}}`, strings.TrimPrefix(path, "providers/"))
		return
	}
	var found []object
	for _, m := range all {
		if id := m["id"].(string); (group == "" || strings.Contains(id, "/"+group+"/")) && (one == "" || strings.HasSuffix(id, "/"+one)) {
			found = append(found, m)
		}
	}
	switch {
	case one != "" && len(found) == 0:
		w.WriteHeader(http.StatusNotFound)
	case one != "":
		json.NewEncoder(w).Encode(found[0])
	default:
		a.page(w, r, found)
	}
}

// page answers with two rows, and where the next are.
func (a *arm) page(w http.ResponseWriter, r *http.Request, found []object) {
	q, skip := r.URL.Query(), 0
	fmt.Sscan(q.Get("$skiptoken"), &skip)
	page := object{"value": found[skip:min(skip+2, len(found))]}
	if skip+2 < len(found) {
		q.Set("$skiptoken", fmt.Sprint(skip+2))
		page["nextLink"] = a.url + r.URL.Path + "?" + q.Encode()
	}
	json.NewEncoder(w).Encode(page)
}

// connect gives a machine a second card and then its primary one, with two addresses, of which
// the second is the primary one and has a public address.
func (a *arm) connect(n int) {
	m := a.machines[n]
	id := func(kind, name string) string {
		return fmt.Sprintf("/subscriptions/%s/resourceGroups/hosts/providers/Microsoft.Network/%s/%s-%d", subscription, kind, name, n)
	}
	var of []object
	for i, name := range []string{"second", "first"} {
		primary := object{"properties": object{"privateIPAddress": fmt.Sprintf("10.0.%d.%d", n, i), "primary": true, "publicIPAddress": object{"id": id("publicIPAddresses", name)}}}
		a.cards = append(a.cards, object{"id": id("networkInterfaces", name), "properties": object{
			"macAddress": fmt.Sprintf("00-0D-3A-00-%02X-%02X", n, i), "primary": i == 1, "virtualMachine": object{"id": strings.ToUpper(m["id"].(string))},
			"ipConfigurations": []object{{"properties": object{"privateIPAddress": "10.9.9.9", "primary": false}}, primary},
		}})
		of = append(of, object{"id": id("networkInterfaces", name)})
		a.public = append(a.public, object{"id": id("publicIPAddresses", name), "properties": object{"ipAddress": fmt.Sprintf("203.0.113.%d", 10*n+i)}})
	}
	a.cards = append(a.cards, object{"id": id("networkInterfaces", "loose"), "properties": object{"macAddress": "00-0D-3A-FF-FF-FF"}})
	m["properties"].(object)["networkProfile"] = object{"networkInterfaces": of}
}

func machine(group, name string) object {
	return object{
		"id":   "/subscriptions/" + subscription + "/resourceGroups/" + group + "/providers/Microsoft.Compute/virtualMachines/" + name,
		"name": name, "location": "westeurope", "tags": object{"Role": "office", "Criticality": "critical"}, "zones": []string{"2"},
		"properties": object{
			"vmId": fmt.Sprintf("AF6DC7B5-0000-4000-8000-%012x", len(name)), "osProfile": object{"computerName": strings.ToUpper(name)},
			"hardwareProfile": object{"vmSize": "Standard_D4s_v5"}, "storageProfile": object{"osDisk": object{"osType": "Windows"}},
			"instanceView": object{"statuses": []object{{"code": "ProvisioningState/succeeded"}, {"code": "PowerState/running"}}},
		},
	}
}

func newARM(n int) *arm {
	a := &arm{}
	for i := range n {
		a.machines = append(a.machines, machine("hosts", "pc"+strings.Repeat("x", i)))
	}
	return a
}

func open(t *testing.T, a *arm, service *sourcetest.Service, change func(*azure.Config)) *azure.Source {
	t.Helper()
	service.Next, service.Authorization = a, "Bearer t"
	a.url = service.Start(t)
	cfg := azure.Config{Subscriptions: []string{subscription}}
	if change != nil {
		change(&cfg)
	}
	s, err := azure.Open(cfg, connection(a.url, nil))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func connection(url string, failed error) azure.Connection {
	return azure.Connection{Endpoint: url, Credential: token{failed}, Backoff: time.Microsecond}
}

func TestSource(t *testing.T) {
	sourcetest.Run(t, sourcetest.Case{
		Names: []string{"PC", "PCX", "PCXX", "PCXXX", "PCXXXX"},
		Good: func(t *testing.T) inventory.Source {
			return open(t, newARM(5), &sourcetest.Service{Busy: 2}, nil) // it is asked again
		},
		Bad: func(t *testing.T) inventory.Source {
			a := newARM(6)
			a.machines[4]["name"], a.machines[4]["properties"].(object)["osProfile"] = "a b", nil
			a.machines[5]["properties"].(object)["osProfile"] = object{"computerName": "PCXXXX"}
			return open(t, a, &sourcetest.Service{}, nil)
		},
		Broken: func(t *testing.T) inventory.Source { return open(t, newARM(5), &sourcetest.Service{Down: 3}, nil) },
	})
}

func load(t *testing.T, s *azure.Source) map[string]inventory.Host {
	t.Helper()
	f, err := inventory.Load(t.Context(), inventory.Options{}, s)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]inventory.Host{}
	for _, h := range f.Hosts {
		all[h.Name] = h
	}
	return all
}

func TestFields(t *testing.T) {
	a := newARM(3)
	a.machines[0]["properties"].(object)["availabilitySet"] = object{"id": "/x/availabilitySets/SQL"}
	a.machines[2]["properties"].(object)["storageProfile"] = object{"osDisk": object{"osType": "Linux"}}
	all := load(t, open(t, a, &sourcetest.Service{}, func(c *azure.Config) { c.Fields = map[string]string{"tier": "criticality"} }))
	h := all["PC"]
	if len(all) != 2 || h.UUID != "af6dc7b5-0000-4000-8000-000000000002" || h.Region != "westeurope" || h.Site != "westeurope" || h.Group != "SQL" || h.Tier != inventory.Critical ||
		fmt.Sprint(h.Routes) != "[{azure "+subscription+"/hosts/pc}]" || h.Labels["vm"] != "pc" || h.Labels["zone"] != "2" || h.Labels["power"] != "running" || h.Labels["model"] != "Standard_D4s_v5" {
		t.Errorf("%d hosts, %+v", len(all), h)
	}
}

// What is not asked for is left out.
func TestPicks(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*azure.Config)
		want   string
	}{
		"all":       {func(*azure.Config) {}, "PC PCX PCXX OTHER"},
		"group":     {func(c *azure.Config) { c.Groups = []string{"rest"} }, "OTHER"},
		"tag":       {func(c *azure.Config) { c.Tag = "role" }, "PC PCX PCXX OTHER"},
		"tag value": {func(c *azure.Config) { c.Tag = "Role=office" }, "PC PCX PCXX"},
		"its case":  {func(c *azure.Config) { c.Tag = "Role=Office" }, "OTHER"},
		"running":   {func(c *azure.Config) { c.Running = true }, "PC PCXX OTHER"},
		"ids":       {func(c *azure.Config) { c.Subscriptions, c.IDs = nil, []string{subscription + "/hosts/pcx"} }, "PCX"},
	} {
		t.Run(name, func(t *testing.T) {
			a := newARM(3)
			a.machines[1]["properties"].(object)["instanceView"] = object{"statuses": []object{{"code": "PowerState/deallocated"}}}
			other := machine("rest", "other")
			other["tags"] = object{"ROLE": "Office"}
			a.machines = append(a.machines, other)
			all := load(t, open(t, a, &sourcetest.Service{}, c.change))
			if len(all) != len(strings.Fields(c.want)) {
				t.Errorf("%d hosts, want %q", len(all), c.want)
			}
			for n := range strings.FieldsSeq(c.want) {
				if all[n].Name == "" {
					t.Errorf("no host %s", n)
				}
			}
		})
	}
}

// Check names what is missing: the right, by Azure's own word, or the login.
func TestCheck(t *testing.T) {
	a := newARM(1)
	if err := open(t, a, &sourcetest.Service{}, nil).Check(t.Context()); err != nil {
		t.Error(err)
	}
	service := &sourcetest.Service{}
	s := open(t, a, service, nil)
	service.Next = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"error":{"code":"AuthorizationFailed","message":"The client 'x' does not have authorization to perform action 'Microsoft.Compute/virtualMachines/read' over scope '/subscriptions/y'."}}`)
	})
	if err := s.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "action 'Microsoft.Compute/virtualMachines/read'") || strings.Contains(err.Error(), "----") {
		t.Errorf("without the right: %v", err)
	}
	var failed error = &azidentity.AuthenticationFailedError{}
	s, err := azure.Open(azure.Config{Subscriptions: []string{subscription}}, connection(a.url, failed))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Check(t.Context()); !errors.Is(err, azure.ErrLogin) || !strings.Contains(err.Error(), "az login") {
		t.Errorf("without a login: %v", err)
	}
}

func TestConfig(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  azure.Config
		want string
	}{
		"nothing":      {azure.Config{}, "no subscription is named"},
		"subscription": {azure.Config{Subscriptions: []string{"prod"}}, "az account list"},
		"group":        {azure.Config{Subscriptions: []string{subscription}, Groups: []string{"a/b"}}, "no name of a resource group"},
		"id":           {azure.Config{IDs: []string{"ws1"}}, "SUBSCRIPTION-ID/RESOURCE-GROUP/NAME"},
		"field":        {azure.Config{Subscriptions: []string{subscription}, Fields: map[string]string{"teir": "x"}}, `no field "teir"`},
		"cloud":        {azure.Config{Subscriptions: []string{subscription}, Cloud: "germany"}, "public, government or china"},
	} {
		if _, err := azure.New(c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// An address says the same whichever way it is written, and what is read of it can be read again.
func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{subscription + "/Hosts/WS-1", "/subscriptions/" + subscription + "/resourceGroups/hosts/providers/Microsoft.Compute/virtualMachines/ws1", "a/b/c", subscription + "/../x", subscription + "/a./b", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := azure.ParseAddress(text)
		if err != nil {
			return
		}
		for _, again := range []string{a.String(), a.ID()} {
			b, err := azure.ParseAddress(again)
			if err != nil || b.String() != a.String() {
				t.Errorf("%q is %q, and that is %q, %v", text, a, b, err)
			}
		}
		if strings.ContainsAny(a.ID(), "?#% ") || strings.Count(a.ID(), "/") != 8 {
			t.Errorf("%q would be another URL: %q", text, a.ID())
		}
	})
}
