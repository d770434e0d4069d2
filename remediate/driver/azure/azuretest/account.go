package azuretest

import (
	"net/http"
	"slices"
	"strings"
)

// lacks refuses what the account may not do ("Common errors": AuthorizationFailed).
func (c *Cloud) lacks(action, scope string) *Fault {
	if slices.ContainsFunc(c.denied, func(d string) bool { return strings.EqualFold(d, action) }) {
		return fault(http.StatusForbidden, "AuthorizationFailed", "The client 'x' with object id 'y' does not have authorization to perform action '%s' over scope '%s' or the scope is invalid.", action, scope)
	}
	return nil
}

// permissions answers what the account may do, at a resource group or a resource ("Permissions -
// List For Resource Group", "- List For Resource"; of a subscription the reference has none).
func (c *Cloud) permissions(r *http.Request, scope string) (*reply, *Fault) {
	if f := c.lacks("Microsoft.Authorization/permissions/read", scope); f != nil {
		return nil, f
	}
	if p := strings.Split(strings.Trim(scope, "/"), "/"); len(p) < 4 || p[2] != "resourcegroups" {
		return nil, fault(http.StatusNotFound, "InvalidResourceType", "The resource type could not be found.")
	}
	return c.page(r, []object{{"actions": []string{"*/read"}, "notActions": c.denied}, {"actions": []string{"Microsoft.Compute/*", "Microsoft.Network/networkInterfaces/join/action"}, "notActions": c.denied}})
}

// card is the network card of a machine, and where it is in it ("Network Interfaces - List All").
func (m *Machine) card() (card object, profile object) {
	id := "/subscriptions/" + Subscription + "/resourceGroups/" + m.Group + "/providers/Microsoft.Network/networkInterfaces/" + m.Name + "-nic"
	return object{"id": id, "name": m.Name + "-nic", "location": m.Location, "properties": object{
		"macAddress": m.MAC, "primary": true, "virtualMachine": object{"id": m.id()},
		"ipConfigurations": []object{{"name": "ipconfig1", "properties": object{"privateIPAddress": m.Address, "privateIPAddressVersion": "IPv4", "primary": true}}},
	}}, object{"networkInterfaces": []object{{"id": id, "properties": object{"primary": true}}}}
}

// listCards lists network cards.
func (c *Cloud) listCards(r *http.Request, group string) (*reply, *Fault) {
	if f := c.lacks("Microsoft.Network/networkInterfaces/read", r.URL.Path); f != nil {
		return nil, f
	}
	all := []object{}
	for _, m := range c.machines {
		if m.Address != "" && (group == "" || strings.EqualFold(m.Group, group)) {
			card, _ := m.card()
			all = append(all, card)
		}
	}
	return c.page(r, all)
}
