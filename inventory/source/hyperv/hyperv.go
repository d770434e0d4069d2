// Package hyperv lists the virtual machines of hypervisors that run Hyper-V, as virtual hosts
// with the way in by which their disks can be swapped.
//
// Hyper-V does not say which system a virtual machine has: Match picks by name or notes. Least
// right, on each hypervisor: Hyper-V Administrators and Remote Management Users.
//
// The script was tried against a stand-in that plays its answer, not against a real Hyper-V.
package hyperv

import (
	"context"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"unbrick/inventory"
	"unbrick/inventory/secret"
)

//go:embed list.ps1
var listScript string

// A Runner runs a PowerShell script on a hypervisor and returns what it printed. winrm.Runner
// is one.
type Runner interface {
	Run(ctx context.Context, host, script string) (stdout string, err error)
}

// A Config says which hypervisors to ask, and which of their virtual machines are hosts.
type Config struct {
	Hypervisors []string // as the runner takes them
	Runner      Runner
	// Login is how to log in there: not for this package, but for who makes the Runner.
	Login secret.Login
	Site  string            // of all of them
	Sites map[string]string // by hypervisor, where they are at several

	Guests  []string // only these ids
	Match   string   // only virtual machines with this in their name or notes, in any case
	Except  []string // not these names: the helpers
	Running bool     // only virtual machines that run: a host that loops does
}

// A Source is the virtual machines of some hypervisors.
type Source struct{ cfg Config }

// New checks the configuration. It reaches no hypervisor.
func New(cfg Config) (*Source, error) {
	if len(cfg.Hypervisors) == 0 || cfg.Runner == nil {
		return nil, errors.New("hyperv: name at least one hypervisor, and how to log in there")
	}
	for _, h := range cfg.Hypervisors {
		if h == "" || strings.ContainsAny(h, "/ @?") {
			return nil, fmt.Errorf("%q is no hypervisor: write its name, with a port if need be", h)
		}
	}
	return &Source{cfg}, nil
}

// A machine is a virtual machine as list.ps1 tells of it.
type machine struct {
	ID        string   `json:"id"`
	Name      string   `json:"name"`
	State     string   `json:"state"`
	Notes     string   `json:"notes"`
	UUID      string   `json:"uuid"`
	Serial    string   `json:"serial"`
	Clustered bool     `json:"clustered"`
	MACs      []string `json:"macs"`
}

// list reads the virtual machines of a hypervisor, in the order of their names.
func (s *Source) list(ctx context.Context, hypervisor string) ([]machine, error) {
	out, err := s.cfg.Runner.Run(ctx, hypervisor, listScript)
	if err != nil {
		return nil, lacks(hypervisor, fmt.Errorf("cannot list the virtual machines of %s: %w", hypervisor, err))
	}
	// A profile or a banner may have printed something before.
	_, out, ok := strings.Cut(out, "unbrick:")
	out, _, end := strings.Cut(out, ":unbrick")
	b, bad := base64.StdEncoding.DecodeString(out)
	var answer struct {
		VMs []machine `json:"vms"`
	}
	if !ok || !end || bad != nil || json.Unmarshal(b, &answer) != nil {
		return nil, fmt.Errorf("cannot list the virtual machines of %s: the script did not answer: is the Hyper-V module for PowerShell there (Install-WindowsFeature Hyper-V-PowerShell)?", hypervisor)
	}
	slices.SortFunc(answer.VMs, func(a, b machine) int { return strings.Compare(a.Name, b.Name) })
	return answer.VMs, nil
}

// lacks names the right that a refusal is about. Hyper-V's own words are in the language of the
// hypervisor: its number is not.
func lacks(hypervisor string, err error) error {
	text := err.Error()
	if !strings.Contains(text, "required permission") && !strings.Contains(text, "0x80070005") {
		return err
	}
	return &inventory.RightError{Right: "membership in the group Hyper-V Administrators", Where: "on " + hypervisor + " (Add-LocalGroupMember)", Err: err}
}

// Check implements [inventory.Checker]. Hyper-V shows an account without rights nothing, and
// says nothing.
func (s *Source) Check(ctx context.Context) error {
	for _, h := range s.cfg.Hypervisors {
		all, err := s.list(ctx, h)
		if err != nil {
			return err
		}
		if len(all) == 0 {
			return &inventory.RightError{Right: "membership in the group Hyper-V Administrators", Where: "on " + h + " (Add-LocalGroupMember); or it has no virtual machine"}
		}
	}
	return nil
}

// Hosts implements [inventory.Source].
func (s *Source) Hosts(ctx context.Context) iter.Seq2[inventory.Host, error] {
	return inventory.Read(ctx, "Hyper-V", func(emit func(*inventory.Draft) error) error {
		for _, h := range s.cfg.Hypervisors {
			all, err := s.list(ctx, h)
			if err != nil {
				return err
			}
			for _, m := range all {
				if !s.wanted(m) {
					continue
				}
				if err := emit(s.draft(h, m)); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func (s *Source) wanted(m machine) bool {
	same := func(a string) func(string) bool { return func(b string) bool { return strings.EqualFold(a, b) } }
	said := strings.ToLower(m.Name + "\n" + m.Notes)
	return (len(s.cfg.Guests) == 0 || slices.ContainsFunc(s.cfg.Guests, same(m.ID))) && !slices.ContainsFunc(s.cfg.Except, same(m.Name)) &&
		strings.Contains(said, strings.ToLower(s.cfg.Match)) && (!s.cfg.Running || strings.HasPrefix(m.State, "Running"))
}

func (s *Source) draft(hypervisor string, m machine) *inventory.Draft {
	d := inventory.NewDraft(inventory.Origin{Source: "hyperv", Place: hypervisor}, m.Name)
	d.Name("name", m.Name)
	d.UUID("BIOSGUID", m.UUID)
	d.Serial("BIOSSerialNumber", m.Serial)
	for _, mac := range m.MACs {
		if strings.Trim(mac, "0") != "" { // dynamic, and never started
			d.MAC("MacAddress", mac)
		}
	}
	site := s.cfg.Sites[hypervisor]
	if site == "" {
		site = s.cfg.Site
	}
	d.Text(&d.Host.Site, "site", site)
	d.Label("hypervisor", hypervisor)
	d.Label("power", strings.ToLower(m.State))
	d.Route("hyperv", "address", hypervisor+"/"+m.ID) // names change, and are not unique
	return d
}
