package main

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"unbrick/inventory"
)

// What a source is asked is known by these fields of its kind: what was saved of it stands in for
// it as long as they stay. Whoever adds a field to a kind has to say which it is.
func TestSourceAsked(t *testing.T) {
	asked := map[string]string{
		"csv":             "file map",
		"servicenow":      "url table query fields | ca user password client_id secret page",
		"netbox":          "url query vms fields bmc | ca token page",
		"snipeit":         "url query fields | ca token page",
		"glpi":            "url retired in_stock | ca token user password app_token page",
		"intune":          "tenant entra graph authority | client_id secret token ca",
		"entra":           "tenant entra graph authority | client_id secret token ca",
		"falcon":          "url client_id filter affected | ca secret page",
		"activedirectory": "name base filter | address ca user password page",
		"ansible":         "file group fields",
		"leases":          "file site",
		"libvirt":         "uri site windows title running",
		"ec2":             "profile regions endpoint ids filters fields all running | page",
		"azure":           "cloud endpoint subscriptions groups tag ids running public fields",
		"gce":             "projects zones names tag filter group windows running fields endpoint",
		"vsphere":         "url below names windows running site | user password ca",
		"hyperv":          "hypervisors site sites guests match except running | user password",
		"proxmox":         "name url site guests tags pool nodes windows running | token ca pause",
		"openstack":       "cloud all_projects names metadata tag zone windows running fields",
	}
	for _, k := range sourceKinds() {
		var is, not []string
		for i := range knownFields(k.new().config(), nil) {
			cfg := k.new().config()
			empty := configDigest(k.kind, cfg)
			f := knownFields(cfg, nil)[i]
			fill(t, f.at)
			if configDigest(k.kind, cfg) != empty {
				is = append(is, f.name)
			} else {
				not = append(not, f.name)
			}
		}
		got := strings.Join(is, " ")
		if not != nil {
			got += " | " + strings.Join(not, " ")
		}
		if got != asked[k.kind] {
			t.Errorf("%s is asked %s\nwant %s", k.kind, got, asked[k.kind])
		}
	}
}

// fill sets a field to a value that it does not have yet.
func fill(t *testing.T, at reflect.Value) {
	t.Helper()
	switch at.Kind() {
	case reflect.String:
		at.SetString("env:OTHER")
	case reflect.Int, reflect.Int64:
		at.SetInt(7)
	case reflect.Bool:
		at.SetBool(true)
	case reflect.Slice:
		at.Set(reflect.MakeSlice(at.Type(), 1, 1))
	case reflect.Map:
		at.Set(reflect.MakeMap(at.Type()))
		at.SetMapIndex(reflect.ValueOf("a"), reflect.ValueOf("b"))
	case reflect.Pointer:
		at.Set(reflect.ValueOf(&inventory.Incident{Until: time.Unix(1, 0)}))
	default:
		t.Fatalf("no value for a %s", at.Type())
	}
}

// told is a source that says hosts of these names, or fails.
type told struct {
	names string
	err   error
}

func (s told) Hosts(context.Context) iter.Seq2[inventory.Host, error] {
	return func(yield func(inventory.Host, error) bool) {
		for _, n := range strings.Fields(s.names) {
			if !yield(inventory.Host{Name: n, Tier: inventory.Normal, From: []inventory.Origin{{Place: "told"}}}, nil) {
				return
			}
		}
		if s.err != nil {
			yield(inventory.Host{}, s.err)
		}
	}
}

// What was saved of a source outlives that it is down, whatever was changed of its configuration
// meanwhile: it stands in for the same question, and waits for it while another is asked.
func TestGatherKeeps(t *testing.T) {
	dir := t.TempDir()
	cfg := &config{Fleet: filepath.Join(dir, "unbrick.fleet")}
	down := errors.New("no route to host")
	cmdb := func(config, earlier string, src told) namedSource {
		return namedSource{Name: "cmdb", Kind: "snipeit", Config: config, Earlier: earlier, Source: src}
	}
	for _, step := range []struct {
		name  string
		cmdb  namedSource
		ask   bool
		hosts string
		says  string
	}{
		{"an earlier unbrick read it", cmdb("q1 with env:TOK", "", told{"a b", nil}), true, "a b c", ""},
		{"it is down now, and a digest is made otherwise", cmdb("q1", "q1 with env:TOK", told{"", down}), true, "a b c", "its 2 hosts are those of just now"},
		{"still down, and its token is another one", cmdb("q1", "q1 with env:TOK2", told{"", down}), true, "a b c", "its 2 hosts are those of just now"},
		{"read again", cmdb("q1", "", told{"a b", nil}), true, "a b c", ""},
		{"down", cmdb("q1", "", told{"", down}), true, "a b c", "its 2 hosts are those of just now"},
		{"another question, down", cmdb("q2", "", told{"x", down}), true, "c", "its 2 hosts of then are kept, and none of them is used"},
		{"another question, still down", cmdb("q3", "", told{"", down}), true, "c", "none of them is used"},
		{"the first one again, not asked", cmdb("q1", "", told{"", down}), false, "a b c", "its 2 hosts are those of just now"},
		{"another one answers", cmdb("q2", "", told{"x y", nil}), true, "x y c", ""},
	} {
		var said bytes.Buffer
		c := onCommandLine(t, &said, nil)
		old, err := openSaved(cfg)
		if err != nil {
			t.Fatal(err)
		}
		order := []namedSource{step.cmdb, {Name: "csv", Kind: "csv", Config: "f", Source: told{"c", nil}}}
		g, err := gather(c, dir, order, old, func(s namedSource) bool { return step.ask || stale(old, s) })
		if err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		said.Reset()
		g.sayFailed(c)
		fleet, err := inventory.Load(t.Context(), inventory.Options{}, sourcesOf(g.Fleet)...)
		if err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		var names []string
		for _, h := range fleet.Hosts {
			names = append(names, h.Name)
		}
		if got := strings.Join(names, " "); got != step.hosts {
			t.Errorf("%s: %s, want %s", step.name, got, step.hosts)
		}
		if got := said.String(); !strings.Contains(got, step.says) || step.says == "" && got != "" {
			t.Errorf("%s: says %q, want %q", step.name, got, step.says)
		}
		if err := g.Publish(cfg.fleetFile()); err != nil {
			t.Fatal(err)
		}
		g.Close()
		if old != nil {
			old.Close()
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("%v, %v", left, err)
	}
}
