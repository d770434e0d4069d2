package main

import (
	"slices"
	"strings"
)

// initKinds are the kinds of sources that can be chosen. A lease file says more of hosts, and
// not which hosts there are.
func initKinds() []string {
	return slices.DeleteFunc(kindNames(), func(k string) bool { return k == "leases" })
}

// source writes the entry of the one source.
func (b *blueprint) source() {
	a := b.answers
	user := a["account"]
	switch kind := a["source"]; kind {
	case "ansible":
		b.line("  - kind: ansible\n    file: %s", quoted(a["file"]))
		b.line("    # fields: {site: datacenter}   # variables; unbrick_site and the like count by themselves")
	case "servicenow":
		b.line("  # Least right: a role that may read the table, such as cmdb_read.")
		b.line("  - kind: servicenow\n    url: %s\n    user: %s\n    password: %s", quoted(a["url"]), quoted(user), b.secret("servicenow", "password of "+user))
		b.line("    # query: \"osLIKEWindows\"         # an encoded query that picks rows\n    # fields: {redfish: u_bmc, tier: u_tier}")
	case "netbox":
		b.line("  # Least right: a token that may view sites, devices, interfaces and IP addresses; it need not write.")
		b.line("  - kind: netbox\n    url: %s\n    token: %s", quoted(a["url"]), b.secret("netbox", "token of NetBox, not write-enabled"))
		b.line("    # query: \"role=workstation&status=active\"\n    # fields: {tier: tier}           # custom fields")
	case "snipeit":
		b.line("  # Least right: a user with the permission Assets: View.")
		b.line("  - kind: snipeit\n    url: %s\n    token: %s", quoted(a["url"]), b.secret("snipeit", "API token of Snipe-IT"))
		b.line("    # fields: {mac: MAC Address, name: Hostname}   # custom fields")
	case "glpi":
		b.line("  # Least right: a profile with Read on Computers and Network devices. The address ends in /apirest.php.")
		b.line("  - kind: glpi\n    url: %s\n    token: %s", quoted(a["url"]), b.secret("glpi", "the user's token for remote access"))
		b.line("    # app_token: \"file:secrets/glpi-app\"   # where the API client has one")
	case "intune", "entra":
		right := map[string]string{"intune": "DeviceManagementManagedDevices.Read.All", "entra": "Device.Read.All"}[kind]
		b.line("  # Least right: the application permission %s, with the administrator's consent.", right)
		b.line("  - kind: %s\n    tenant: %s\n    client_id: %s\n    secret: %s", kind, quoted(a["tenant"]), quoted(user), b.secret(kind, "client secret of the application "+user))
	case "falcon":
		b.line("  # Least right: an API client with the scope Hosts: Read.")
		b.line("  - kind: falcon\n    url: %s\n    client_id: %s\n    secret: %s", quoted(a["url"]), quoted(user), b.secret("falcon", "secret of the API client "+user))
		b.line("    # affected: true   # only hosts that the incident can have hit; needs incident:")
	case "activedirectory":
		b.line("  # Least right: any account of the domain.")
		b.line("  - kind: activedirectory\n    name: %s\n    user: %s\n    password: %s", quoted(a["dc"]), quoted(user), b.secret("activedirectory", "password of "+user))
		b.line("    # ca: ca.pem       # the authority of its certificate, if this machine does not trust it\n    # filter: \"(operatingSystem=Windows*)\"")
	case "libvirt":
		b.line("  - kind: libvirt\n    uri: %s\n    windows: true   # only domains that say that they are Windows", quoted(a["uri"]))
	default:
		b.line("  - kind: %s", kind)
		for _, k := range sourceKinds() {
			if k.kind == kind {
				b.line("    # its fields: %s", fieldNames(knownFields(k.new().config(), k.hide)))
			}
		}
		b.notes = append(b.notes, "the entry of "+kind+" in sources: has to be completed; its fields are named there")
	}
}

// complete says whether the entry of a kind can be used as it is written.
func complete(kind string) bool {
	return slices.Contains(strings.Fields("csv ansible servicenow netbox snipeit glpi intune entra falcon activedirectory libvirt"), kind)
}
