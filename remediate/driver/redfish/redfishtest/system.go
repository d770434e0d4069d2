package redfishtest

import (
	"encoding/xml"
	"net/http"
	"slices"
	"strings"
)

func (b *BMC) systemPath() string  { return "/redfish/v1/Systems/" + b.model.SystemID }
func (b *BMC) managerPath() string { return "/redfish/v1/Managers/" + b.model.ManagerID }

func (b *BMC) systems(c call) reply {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(c.parts) == 1 {
		return found(collection("/redfish/v1/Systems", "#ComputerSystemCollection.ComputerSystemCollection", []string{b.model.SystemID}))
	}
	if c.parts[1] != b.model.SystemID {
		return notFound()
	}
	switch {
	case c.at() && c.Method == http.MethodPatch:
		return b.patchSystem(c)
	case c.at():
		return b.tagged(c, b.system())
	case c.at("ResetActionInfo") && b.model.ResetInfo:
		return found(map[string]any{
			"@odata.id": b.systemPath() + "/ResetActionInfo", "@odata.type": "#ActionInfo.v1_1_2.ActionInfo", "Id": "ResetActionInfo", "Name": "Reset Action Info",
			"Parameters": []any{map[string]any{"Name": "ResetType", "Required": true, "DataType": "String", "AllowableValues": b.model.ResetTypes}},
		})
	case c.at("Actions", "ComputerSystem.Reset") && c.Method == http.MethodPost:
		return b.reset(c)
	case c.at("VirtualMedia"), c.at("VirtualMedia", "*"), c.at("VirtualMedia", "*", "Actions", "*"):
		return b.virtualMedia(c, b.systemPath(), false)
	}
	return notFound()
}

func (b *BMC) system() map[string]any {
	at := b.systemPath()
	boot := map[string]any{
		"BootSourceOverrideTarget": b.override.Target, "BootSourceOverrideEnabled": b.override.Enabled,
		"BootSourceOverrideMode": b.override.Mode,
	}
	reset := map[string]any{"target": at + "/Actions/ComputerSystem.Reset"}
	switch {
	case b.model.HideAllowable:
	case b.model.ResetInfo:
		reset["@Redfish.ActionInfo"] = at + "/ResetActionInfo"
		boot["BootSourceOverrideTarget@Redfish.AllowableValues"] = b.model.Targets
	default:
		reset["ResetType@Redfish.AllowableValues"] = b.model.ResetTypes
		boot["BootSourceOverrideTarget@Redfish.AllowableValues"] = b.model.Targets
	}
	s := map[string]any{
		"@odata.id": at, "@odata.type": "#ComputerSystem.v1_13_0.ComputerSystem", "Id": b.model.SystemID, "Name": "System",
		"SystemType": "Physical", "Manufacturer": b.model.Manufacturer, "Model": b.model.Product,
		"SerialNumber": b.opt.Serial, "UUID": b.opt.UUID, "PowerState": b.power, "Boot": boot,
		"Status":  map[string]any{"State": "Enabled", "Health": "OK"},
		"Actions": map[string]any{"#ComputerSystem.Reset": reset},
		"Links":   map[string]any{"ManagedBy": []any{link(b.managerPath())}, "Chassis": []any{}},
	}
	if b.hasSlots(false) {
		s["VirtualMedia"] = link(at + "/VirtualMedia")
	}
	return s
}

// patchSystem changes the boot override.
func (b *BMC) patchSystem(c call) reply {
	if r, ok := b.precondition(c); !ok {
		return r
	}
	boot, ok := c.body["Boot"].(map[string]any)
	if !ok {
		return refuse(http.StatusBadRequest, "Base.1.8.PropertyMissing", "The property Boot is required and must be included in the request.")
	}
	if r, refused := b.inPOST(); refused {
		return r
	}
	o := b.override
	target, t := boot["BootSourceOverrideTarget"].(string)
	enabled, e := boot["BootSourceOverrideEnabled"].(string)
	mode, m := boot["BootSourceOverrideMode"].(string)
	switch {
	case b.model.WholeBoot && !(t && e && m):
		return b.done()
	case b.model.NeedEnabled && !e:
		return refuse(http.StatusBadRequest, "Base.1.8.PropertyMissing", "The property BootSourceOverrideEnabled is required.")
	case b.model.RefusesSame && e && enabled == o.Enabled:
		return refuse(http.StatusBadRequest, "Base.1.8.PropertyValueConflict", "The property BootSourceOverrideEnabled already has that value.")
	case t && !slices.Contains(b.model.Targets, target):
		return refuse(http.StatusBadRequest, "Base.1.8.PropertyValueNotInList", "The value "+target+" for BootSourceOverrideTarget is not in the list of acceptable values.")
	case e && !slices.Contains([]string{"Once", "Continuous", "Disabled"}, enabled):
		return refuse(http.StatusBadRequest, "Base.1.8.PropertyValueNotInList", "The value "+enabled+" for BootSourceOverrideEnabled is not in the list of acceptable values.")
	}
	if t {
		o.Target = target
	}
	if e {
		o.Enabled = enabled
	}
	if m {
		o.Mode = mode
	} else if b.model.ForgetsMode {
		o.Mode = "Legacy"
	}
	if o.Enabled == "Disabled" {
		o.Target = "None"
	}
	b.setOverride(o)
	return b.done()
}

func (b *BMC) setOverride(o BootOverride) {
	was := b.override
	b.override = o
	switch {
	case o.Enabled != "Disabled" && o.Target != "None":
		b.record(Override, o.Target+" "+strings.ToLower(o.Enabled))
	case was.Enabled != "Disabled":
		b.record(Override, "cleared")
	}
}

// reset does a power action.
func (b *BMC) reset(c call) reply {
	kind := c.text("ResetType")
	on := b.power != "Off"
	if !slices.Contains(b.model.ResetTypes, kind) {
		return refuse(http.StatusBadRequest, "Base.1.8.ActionParameterNotSupported", "The value "+kind+" for the parameter ResetType is not supported.")
	}
	switch kind {
	case "On", "ForceOn":
		if on {
			return refuse(http.StatusConflict, "Base.1.8.ActionParameterValueConflict", "The server is already powered on.")
		}
		if b.onRefusals > 0 {
			b.onRefusals--
			return refuse(http.StatusConflict, "Base.1.8.ActionParameterValueConflict", "The parameter ResetType with the requested value of On does not meet the constraints of the implementation.")
		}
		b.record(Power, "on")
		b.switchOn()
	case "PushPowerButton":
		if !on {
			b.record(Power, "on")
			b.switchOn()
		}
	case "ForceOff":
		if on {
			b.switchOff()
			b.record(Power, "off")
		}
	case "ForceRestart", "PowerCycle":
		if !on {
			return refuse(http.StatusConflict, "Base.1.8.ActionParameterValueConflict", "The server is powered off.")
		}
		b.switchOff()
		b.onRefusals = 0
		b.record(Power, "reset")
		b.switchOn()
	}
	// A graceful request or an NMI is passed to a host that does not listen.
	return b.done()
}

func (b *BMC) managers(c call) reply {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(c.parts) == 1 {
		return found(collection("/redfish/v1/Managers", "#ManagerCollection.ManagerCollection", []string{b.model.ManagerID}))
	}
	if c.parts[1] != b.model.ManagerID {
		return notFound()
	}
	switch {
	case c.at() && c.Method == http.MethodGet:
		return b.tagged(c, b.manager())
	case c.at("Attributes") && b.model.BootAttribute:
		return b.managerAttributes(c)
	case c.at("Actions", "Oem", "EID_674_Manager.ImportSystemConfiguration") && b.model.ImportProfile && c.Method == http.MethodPost:
		return b.importProfile(c)
	case c.at("Oem", "Dell", "DellLCService", "Actions", "*") && strings.HasPrefix(b.model.Name, "iDRAC") && !b.model.BootAttribute && !b.model.ImportProfile:
		return b.screenshot(c)
	case c.at("VirtualMedia"), c.at("VirtualMedia", "*"), c.at("VirtualMedia", "*", "Actions", "*"):
		return b.virtualMedia(c, b.managerPath(), true)
	}
	return notFound()
}

func (b *BMC) manager() map[string]any {
	at := b.managerPath()
	actions := map[string]any{"#Manager.Reset": map[string]any{"target": at + "/Actions/Manager.Reset"}}
	if b.model.ImportProfile {
		name := "EID_674_Manager.ImportSystemConfiguration"
		actions["Oem"] = map[string]any{"OemManager.v1_0_0#OemManager.ImportSystemConfiguration": map[string]any{"target": at + "/Actions/Oem/" + name}}
	}
	m := map[string]any{
		"@odata.id": at, "@odata.type": "#Manager.v1_9_0.Manager", "Id": b.model.ManagerID, "Name": "Manager",
		"ManagerType": "BMC", "Model": b.model.Generation, "FirmwareVersion": b.model.Firmware,
		"Actions": actions,
		"Links":   map[string]any{"ManagerForServers": []any{link(b.systemPath())}},
	}
	if b.hasSlots(true) {
		m["VirtualMedia"] = link(at + "/VirtualMedia")
	}
	return m
}

// managerAttributes is Dell's resource for what the standard has no place for.
func (b *BMC) managerAttributes(c call) reply {
	if c.Method == http.MethodPatch {
		want, _ := c.body["Attributes"].(map[string]any)
		set := map[string]string{}
		for name, v := range want {
			s, _ := v.(string)
			set[name] = s
		}
		if r, ok := b.setAttributes(set); !ok {
			return r
		}
		return reply{status: http.StatusOK, body: map[string]any{}}
	}
	return b.tagged(c, map[string]any{
		"@odata.id": b.managerPath() + "/Attributes", "@odata.type": "#DellAttributes.v1_0_0.DellAttributes",
		"Id": "iDRACAttributes", "Name": "OEMAttributeRegistry", "Attributes": b.attributes,
	})
}

func (b *BMC) setAttributes(set map[string]string) (reply, bool) {
	for name := range set {
		if _, ok := b.attributes[name]; !ok {
			return refuse(http.StatusBadRequest, "IDRAC.2.8.SYS410", "Unable to set "+name+"."), false
		}
	}
	was := b.attributes["ServerBoot.1.BootOnce"]
	for name, v := range set {
		b.attributes[name] = v
	}
	switch {
	case b.attributes["ServerBoot.1.BootOnce"] == "Enabled":
		b.record(Override, b.attributes["ServerBoot.1.FirstBootDevice"]+" once")
	case was == "Enabled":
		b.record(Override, "cleared")
	}
	return reply{}, true
}

// importProfile takes a server profile: attributes as XML, without white space.
func (b *BMC) importProfile(c call) reply {
	buffer := c.text("ImportBuffer")
	var p struct {
		Component struct {
			FQDD      string `xml:"FQDD,attr"`
			Attribute []struct {
				Name string `xml:"Name,attr"`
				Text string `xml:",chardata"`
			}
		}
	}
	if err := xml.Unmarshal([]byte(buffer), &p); err != nil || strings.Contains(buffer, "> ") || strings.Contains(buffer, "\n") {
		return refuse(http.StatusBadRequest, "IDRAC.1.6.SYS409", "Unable to complete the operation because the value entered for ImportBuffer is not valid.")
	}
	set := map[string]string{}
	for _, a := range p.Component.Attribute {
		set[strings.Replace(a.Name, "#", ".", 1)] = a.Text
	}
	if r, ok := b.setAttributes(set); !ok {
		return r
	}
	b.lastID++
	return reply{status: http.StatusAccepted, header: http.Header{"Location": {"/redfish/v1/TaskService/Tasks/JID_" + itoa(b.lastID)}}}
}

func (b *BMC) tasks(c call) reply {
	if len(c.parts) != 3 || c.parts[1] != "Tasks" {
		return notFound()
	}
	at := "/redfish/v1/TaskService/Tasks/" + c.parts[2]
	return found(map[string]any{
		"@odata.id": at, "@odata.type": "#Task.v1_4_3.Task", "Id": c.parts[2], "Name": "Import Configuration",
		"TaskState": "Completed", "TaskStatus": "OK", "Messages": []any{},
	})
}
