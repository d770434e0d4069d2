package lab

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// listed says whether a host is in fleet.csv: it is not if a source says all that there is to know.
func listed(m member) bool {
	h, ok := m.(*host)
	if !ok {
		return true
	}
	in, ok := h.control.(*instance)
	return !ok || in.cloud.mute
}

// fleetYAML is the head of unbrick.yaml: where hosts are known.
func (l *Lab) fleetYAML() string {
	var b strings.Builder
	b.WriteString("# The lab: everything is on loopback, so the times are short.\n")
	if slices.ContainsFunc(l.members, listed) {
		b.WriteString("inventory: fleet.csv\n")
	}
	if len(l.clouds) > 0 {
		b.WriteString("# Credentials are where each platform's own tools look for them: see clouds.env.\nsources:\n")
	}
	for _, c := range l.clouds {
		fmt.Fprintf(&b, "  - {kind: %s, %s}\n", c.kind, c.source)
	}
	for _, c := range l.clouds {
		if c.roots != "" { // one of them alone: its name is a part of fleet.csv's
			fmt.Fprintf(&b, "tls_ca: %s\n", c.roots)
		}
	}
	return b.String()
}

// cloudsYAML is swap: of unbrick.yaml.
func (l *Lab) cloudsYAML() string {
	if len(l.clouds) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("swap:\n  every: 50ms\n  snapshot: true\n")
	for _, c := range l.clouds {
		if c.swap != "" {
			fmt.Fprintf(&b, "  %s: %s\n", c.kind, c.swap)
		}
	}
	return b.String()
}

// cloudsEnv is clouds.env, for a shell: it sets the variables that platforms' own tools know.
func (l *Lab) cloudsEnv() string {
	var b strings.Builder
	for _, c := range l.clouds {
		for _, name := range slices.Sorted(maps.Keys(c.env)) {
			fmt.Fprintf(&b, "export %s='%s'\n", name, strings.ReplaceAll(c.env[name], "'", `'\''`))
		}
	}
	return b.String()
}

// Environment returns what clouds.env sets, each as NAME=VALUE.
func (l *Lab) Environment() (all []string) {
	for _, c := range l.clouds {
		for name, value := range c.env {
			all = append(all, name+"="+value)
		}
	}
	return all
}

// Snapshots returns how many snapshots of volumes there are, by platform.
func (l *Lab) Snapshots() map[string]int {
	n := map[string]int{}
	for _, c := range l.clouds {
		n[c.kind] = c.snapshots()
	}
	return n
}
