package main

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

	"unbrick/inventory"
	"unbrick/inventory/secret"
	"unbrick/inventory/source/activedirectory"
	"unbrick/inventory/source/ansible"
	"unbrick/inventory/source/azure"
	"unbrick/inventory/source/csv"
	"unbrick/inventory/source/ec2"
	"unbrick/inventory/source/falcon"
	"unbrick/inventory/source/gce"
	"unbrick/inventory/source/glpi"
	"unbrick/inventory/source/hyperv"
	"unbrick/inventory/source/intune"
	"unbrick/inventory/source/leases"
	"unbrick/inventory/source/libvirt"
	"unbrick/inventory/source/netbox"
	"unbrick/inventory/source/openstack"
	"unbrick/inventory/source/proxmox"
	"unbrick/inventory/source/servicenow"
	"unbrick/inventory/source/snipeit"
)

// A sourceKind is one kind of inventory source that unbrick.yaml may name.
type sourceKind struct {
	kind string
	what string   // for a person who chooses
	hide []string // fields of its configuration that the kind itself settles
	new  func() sourceOpener
}

// sourceKinds lists every kind. What an entry of it may say are the fields of the package's
// Config, in lower case with underscores: ClientID is client_id, a Login is user and password.
func sourceKinds() []sourceKind {
	return []sourceKind{
		{"csv", "a CSV file: ours, or an export", nil, opens(func(s csv.Source) (csv.Source, error) { return s, needFile(s.Path) })},
		{"servicenow", "the CMDB of a ServiceNow instance", nil, opens(servicenow.New)},
		{"netbox", "NetBox: devices, virtual machines, their BMCs", nil, opens(netbox.New)},
		{"snipeit", "Snipe-IT", nil, opens(snipeit.New)},
		{"glpi", "GLPI", nil, opens(glpi.New)},
		{"intune", "managed devices of Microsoft Intune", []string{"entra"}, opens(intune.New)},
		{"entra", "devices of Microsoft Entra ID", []string{"entra"}, opens(openEntra)},
		{"falcon", "hosts of the CrowdStrike Falcon console", nil, opens(falcon.New)},
		{"activedirectory", "computers of an Active Directory domain", nil, opens(activedirectory.New)},
		{"ansible", "an Ansible inventory file", nil, opens(func(s ansible.Source) (ansible.Source, error) { return s, needFile(s.Path) })},
		{"leases", "a lease file of a DHCP server: it says more of hosts that others know", nil, opens(func(s leases.Source) (leases.Source, error) { return s, needFile(s.Path) })},
		{"libvirt", "the domains of a hypervisor", nil, opens(libvirt.New)},
		{"ec2", "instances of Amazon EC2", []string{"page"}, opens(ec2.New)},
		{"azure", "virtual machines of Azure", nil, opens(azure.New)},
		{"gce", "instances of Google Compute Engine", nil, opens(gce.New)},
		{"vsphere", "virtual machines of a vCenter or an ESXi host", nil, opens(openVSphere)},
		{"hyperv", "virtual machines of Hyper-V", nil, opens(hyperv.New)},
		{"proxmox", "guests of Proxmox VE", []string{"pause"}, opens(proxmox.New)},
		{"openstack", "servers of an OpenStack cloud", nil, opens(openstack.New)},
	}
}

func openEntra(cfg intune.Config) (*intune.Source, error) {
	cfg.Entra = true
	return intune.New(cfg)
}

// needFile refuses a source without its file.
func needFile(path string) error {
	if path == "" {
		return errors.New("file: is missing")
	}
	return nil
}

// A sourceOpener holds the configuration of one source.
type sourceOpener interface {
	config() reflect.Value // the struct, to be set
	open() (inventory.Source, error)
}

// opens makes the opener of a package from its New.
func opens[C any, S inventory.Source](open func(C) (S, error)) func() sourceOpener {
	return func() sourceOpener { return &opener[C, S]{with: open} }
}

type opener[C any, S inventory.Source] struct {
	cfg  C
	with func(C) (S, error)
}

func (o *opener[C, S]) config() reflect.Value { return reflect.ValueOf(&o.cfg).Elem() }

func (o *opener[C, S]) open() (inventory.Source, error) {
	s, err := o.with(o.cfg)
	if err != nil { // a nil *Source would be no nil Source
		return nil, err
	}
	return s, nil
}

// A sourceEntry is one entry of sources: in unbrick.yaml.
type sourceEntry struct {
	Kind string
	As   string // what it is called in wins: and in what is said of it; the kind if empty

	line     int
	opener   sourceOpener
	affected bool // only what the incident has hit, where the kind can ask for that
}

// name is what the source is called.
func (e *sourceEntry) name() string {
	if e.As != "" {
		return e.As
	}
	return e.Kind
}

// A lineError is a mistake in unbrick.yaml. It never repeats a value that may be a secret.
type lineError struct {
	line int
	text string
}

func (e *lineError) Error() string { return fmt.Sprintf("line %d: %s", e.line, e.text) }

// UnmarshalYAML reads an entry, whose fields depend on its kind. The error is a *lineError.
func (e *sourceEntry) UnmarshalYAML(node ast.Node) error {
	e.line = node.GetToken().Position.Line
	fields, ok := node.(ast.MapNode)
	if !ok {
		return &lineError{e.line, "an entry of sources is written {kind: csv, file: fleet.csv}"}
	}
	for it := fields.MapRange(); it.Next(); {
		e.line = min(e.line, keyLine(it))
		for key, at := range map[string]*string{"kind": &e.Kind, "as": &e.As} {
			if keyName(it) == key && yaml.NodeToValue(it.Value(), at) != nil {
				return &lineError{keyLine(it), key + " of a source takes a word"}
			}
		}
	}
	for _, k := range sourceKinds() {
		if k.kind == e.Kind {
			e.opener = k.new()
			return e.read(fields, k)
		}
	}
	if e.Kind == "" {
		return &lineError{e.line, "a source without a kind; the kinds are " + strings.Join(kindNames(), ", ")}
	}
	return &lineError{e.line, fmt.Sprintf("no kind of source is called %q; the kinds are %s", e.Kind, strings.Join(kindNames(), ", "))}
}

func kindNames() (names []string) {
	for _, k := range sourceKinds() {
		names = append(names, k.kind)
	}
	return names
}

func keyName(it *ast.MapNodeIter) string { return it.Key().GetToken().Value }

func keyLine(it *ast.MapNodeIter) int { return it.Key().GetToken().Position.Line }

// read sets the fields of the kind's configuration.
func (e *sourceEntry) read(fields ast.MapNode, k sourceKind) error {
	known := knownFields(e.opener.config(), k.hide)
	for it := fields.MapRange(); it.Next(); {
		key, line := keyName(it), keyLine(it)
		if key == "kind" || key == "as" {
			continue
		}
		i := slices.IndexFunc(known, func(f configField) bool { return f.name == key })
		if i < 0 {
			return &lineError{line, fmt.Sprintf("source %s has no field %q; its fields are kind, as, %s", e.Kind, key, fieldNames(known))}
		}
		if err := e.set(known[i], it.Value()); err != nil {
			return &lineError{line, fmt.Sprintf("source %s: %s: %v", e.Kind, key, err)}
		}
	}
	return nil
}

// set reads the value of one field.
func (e *sourceEntry) set(f configField, node ast.Node) error {
	switch at := f.at.Addr().Interface().(type) {
	case **inventory.Incident:
		if yaml.NodeToValue(node, &e.affected) != nil {
			return fmt.Errorf("it takes true or false")
		}
	case *time.Duration:
		if yaml.NodeToValue(node, (*duration)(at)) != nil {
			return fmt.Errorf("it takes a duration, as 90s or 15m")
		}
	case *secret.Ref:
		if yaml.NodeToValue(node, at) != nil {
			return secret.Ref("").Check()
		}
		return at.Check()
	default:
		if yaml.NodeToValue(node, at, yaml.Strict()) != nil {
			return fmt.Errorf("it takes %s", takes(f.at.Kind()))
		}
		if s, ok := at.(*string); ok && holdsLogin(*s) {
			return fmt.Errorf("an address without a login in it; where the password is, is said in a field of its own")
		}
	}
	return nil
}

// takes says what values of a kind are written like.
func takes(k reflect.Kind) string {
	switch k {
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "a number"
	case reflect.Map:
		return "names and values, as {site: column}"
	case reflect.Slice:
		return "a list, as [one, two]"
	}
	return "a text"
}

// holdsLogin says that a URL has a password in it.
func holdsLogin(s string) bool {
	_, rest, ok := strings.Cut(s, "://")
	authority, _, _ := strings.Cut(rest, "/")
	user, _, at := strings.Cut(authority, "@")
	return ok && at && strings.Contains(user, ":")
}

// A configField is one field of a kind's configuration.
type configField struct {
	name string
	at   reflect.Value
}

// knownFields lists the fields of a Config as unbrick.yaml has them.
func knownFields(cfg reflect.Value, hide []string) (all []configField) {
	for i := range cfg.NumField() {
		f := cfg.Type().Field(i)
		name := snake(f.Name)
		switch {
		case !f.IsExported() || slices.Contains(hide, name) || f.Type.Kind() == reflect.Interface || f.Type.Kind() == reflect.Func:
		case f.Anonymous:
			all = append(all, knownFields(cfg.Field(i), append(hide, "backoff"))...)
		case f.Type == reflect.TypeFor[secret.Login]():
			all = append(all, configField{"user", cfg.Field(i).FieldByName("User")}, configField{"password", cfg.Field(i).FieldByName("Password")})
		case name == "path": // of a file
			all = append(all, configField{"file", cfg.Field(i)})
		default:
			all = append(all, configField{name, cfg.Field(i)})
		}
	}
	return all
}

func fieldNames(fields []configField) string {
	var names []string
	for _, f := range fields {
		names = append(names, f.name)
	}
	return strings.Join(names, ", ")
}

// snake writes ClientID as client_id.
func snake(name string) string {
	var b strings.Builder
	for i, r := range name {
		if i > 0 && r >= 'A' && r <= 'Z' && name[i-1] >= 'a' && name[i-1] <= 'z' {
			b.WriteByte('_')
		}
		b.WriteRune(r)
	}
	return strings.ToLower(b.String())
}

// local says that the source is a file here.
func (e *sourceEntry) local() bool {
	return slices.ContainsFunc(knownFields(e.opener.config(), nil), func(f configField) bool { return f.name == "file" })
}

// anchor makes the paths of the entry relative to dir.
func (e *sourceEntry) anchor(dir string) {
	for _, f := range knownFields(e.opener.config(), nil) {
		switch at := f.at.Addr().Interface().(type) {
		case *secret.Ref:
			anchorRef(dir, at)
		case *string:
			if f.name == "file" || f.name == "ca" {
				*at = anchored(dir, *at)
			}
		}
	}
}
