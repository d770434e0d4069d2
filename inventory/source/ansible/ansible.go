// Package ansible reads hosts from an Ansible inventory file, in INI or YAML.
//
// Names may be ranges (pc[01:50]); variables of groups reach their hosts as in Ansible, children
// over parents and the host's own over all. Of the variables only those with a meaning here are
// looked at: ansible_host, ansible_port and ansible_connection, unbrick_FIELD for every field and
// way in, and what Fields names; a password never is. Files beside the inventory (group_vars,
// host_vars), templates and inventory plugins are not read: give what "ansible-inventory --list
// --yaml" prints where they are used.
package ansible

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"iter"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"unbrick/inventory"
	"unbrick/inventory/calendar"
)

// A Source is one inventory file.
type Source struct {
	Path   string
	Group  string            // only the hosts of this group; empty: all
	Fields map[string]string // variable for a field: {"site": "datacenter"}
}

var _ inventory.Source = Source{}

// Hosts implements [inventory.Source].
func (s Source) Hosts(ctx context.Context) iter.Seq2[inventory.Host, error] {
	return inventory.Read(ctx, "Ansible inventory "+s.Path, func(emit func(*inventory.Draft) error) error {
		if err := inventory.CheckFields(s.Fields); err != nil {
			return err
		}
		text, err := os.ReadFile(s.Path)
		if err != nil {
			return err
		}
		b := newBook(s.Path)
		if s.isYAML(text) {
			err = b.readYAML(text)
		} else {
			b.readINI(string(text))
		}
		if err != nil {
			return err
		}
		for _, bad := range b.bad {
			if err := emit(bad); err != nil {
				return err
			}
		}
		if s.Group != "" && b.groups[s.Group] == nil {
			return fmt.Errorf("it has no group %q", s.Group)
		}
		cal := calendar.New()
		vars, groups := b.resolve()
		for _, name := range b.order {
			if s.Group != "" && !slices.Contains(groups[name], s.Group) {
				continue
			}
			d := s.draft(b, name, vars[name], groups[name], cal)
			if err := emit(d); err != nil {
				return err
			}
		}
		return nil
	})
}

// isYAML says which form the file is of: by its name, or by its first line.
func (s Source) isYAML(text []byte) bool {
	switch filepath.Ext(s.Path) {
	case ".yml", ".yaml", ".json":
		return true
	}
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if len(line) > 0 && line[0] != '#' && line[0] != ';' {
			return bytes.HasPrefix(line, []byte("---")) || line[0] == '{' || bytes.HasSuffix(line, []byte(":")) && line[0] != '['
		}
	}
	return false
}

// draft makes a host of a name and what variables say of it.
func (s Source) draft(b *book, name string, vars map[string]string, groups []string, cal *calendar.Calendar) *inventory.Draft {
	d := inventory.NewDraft(inventory.Origin{Source: "ansible", Place: s.Path, Line: b.lines[name]}, "")
	d.Check = cal.Check
	for _, f := range inventory.DraftFields() {
		if v, ok := s.Fields[f]; ok {
			d.Set(f, v, vars[v])
		}
		d.Set(f, "unbrick_"+f, vars["unbrick_"+f])
	}
	d.Set("name", "host", name)
	address := vars["ansible_host"]
	d.Set("address", "ansible_host", address)
	if vars["ansible_connection"] == "winrm" && !slices.ContainsFunc(d.Host.Routes, func(r inventory.Route) bool { return r.Driver == "winrm" }) {
		address = cmp.Or(address, name)
		if port := vars["ansible_port"]; port != "" {
			address = net.JoinHostPort(address, port)
		}
		d.Set("winrm", "ansible_host", address)
	}
	if len(groups) > 0 {
		d.Label("groups", strings.Join(groups, " "))
	}
	return d
}
