package azuretest

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// show is a machine as it is answered.
func (c *Cloud) show(m *Machine, view bool) object {
	hook := func(h Hook) object {
		managed := object{"id": "/subscriptions/" + Subscription + "/resourceGroups/" + strings.ToUpper(m.Group) + "/providers/Microsoft.Compute/disks/" + h.Disk}
		o := object{"name": h.Disk, "caching": h.Caching, "createOption": h.Create, "deleteOption": h.Delete, "managedDisk": managed}
		if m.Power != "deallocated" { // Azure/azure-powershell 13213: not shown then, by design
			managed["storageAccountType"], o["diskSizeGB"] = "Premium_LRS", 127
		}
		if d := c.disk(c.disks, m.Group, h.Disk); d == nil { // of another group
			for _, d := range c.disks {
				if d.Name == h.Disk {
					o["managedDisk"] = object{"id": d.id("disks")}
				}
			}
		}
		return o
	}
	system := hook(m.OSDisk)
	if m.OSDisk.Accelerated {
		system["writeAcceleratorEnabled"] = true
	}
	system["osType"] = m.OSType
	data := []object{}
	for _, h := range m.Data {
		o := hook(h)
		o["lun"], o["toBeDetached"] = h.Lun, h.detaching
		data = append(data, o)
	}
	p := object{
		"vmId": m.VMID, "provisioningState": m.State, "hardwareProfile": object{"vmSize": "Standard_D4s_v5"},
		"storageProfile": object{"osDisk": system, "dataDisks": data, "diskControllerType": "SCSI"},
	}
	if m.Address != "" {
		_, p["networkProfile"] = m.card()
	}
	maps.Copy(p, m.Properties)
	if own, ok := m.Properties["storageProfile"].(object); ok { // of the OS disk and the controller
		merged := object{"osDisk": system, "dataDisks": data}
		for k, v := range own {
			if k == "osDisk" {
				maps.Copy(system, v.(object))
				continue
			}
			merged[k] = v
		}
		p["storageProfile"] = merged
	}
	if view {
		statuses := []object{{"code": "ProvisioningState/" + strings.ToLower(m.State)}, {"code": "PowerState/" + m.Power}}
		if extra, ok := m.Properties["instanceView"].(object); ok {
			statuses = append(statuses, extra["statuses"].([]object)...)
		}
		p["instanceView"] = object{"statuses": statuses}
	} else {
		delete(p, "instanceView")
	}
	o := object{"id": m.id(), "name": m.Name, "type": "Microsoft.Compute/virtualMachines", "location": m.Location, "tags": m.Tags, "etag": fmt.Sprintf("%q", fmt.Sprint(m.version)), "properties": p}
	if m.Zone != "" {
		o["zones"] = []string{m.Zone}
	}
	maps.Copy(o, m.Top)
	return o
}

func (c *Cloud) machineCall(r *http.Request, group, name, action string) (*reply, *Fault) {
	m := c.machine(group, name)
	if m == nil { // "Common errors": ResourceNotFound
		return nil, fault(404, "ResourceNotFound", "The Resource 'Microsoft.Compute/virtualMachines/%s' under resource group '%s' was not found.", name, group)
	}
	if r.Method == http.MethodGet && action == "" {
		return &reply{status: 200, body: c.show(m, strings.EqualFold(r.URL.Query().Get("$expand"), "instanceView"))}, nil
	}
	if f := c.locked(m.id(), false); f != nil {
		return nil, f
	}
	// kubernetes/kubernetes 50150, Azure/azure-cli 15765.
	if m.work != nil && !m.work.done {
		return nil, fault(409, "Conflict", "The request failed due to conflict with a concurrent request.")
	}
	switch {
	case r.Method == http.MethodPatch && action == "":
		return c.update(r, m)
	case r.Method == http.MethodPost && action == "deallocate":
		return c.power(m, "deallocating", "deallocated", "Reserved"), nil
	case r.Method == http.MethodPost && action == "start":
		return c.power(m, "starting", "running", "Attached"), nil
	case r.Method == http.MethodPost && action == "attachdetachdatadisks":
		return c.attachDetach(r, m)
	}
	return nil, fault(405, "MethodNotAllowed", "This server does not know %s %s.", r.Method, action)
}

// workOn begins an operation on a machine, which is Updating until it ends; if it fails, the machine
// is in the power state that it was in ("States and billing
// status of Azure Virtual Machines": provisioning states).
func (c *Cloud) workOn(m *Machine, was string, end func() *Fault) *work {
	m.State = "Updating"
	m.version++
	m.work = c.begin(func() *Fault {
		m.version++
		if m.fails != nil {
			if f := m.fails(m); f != nil {
				m.State, m.Power = "Failed", was
				return f
			}
		}
		m.State = "Succeeded"
		return end()
	})
	return m.work
}

// power starts or deallocates a machine. One that is in that state already is left in it.
func (c *Cloud) power(m *Machine, going, gone, disks string) *reply {
	was := m.Power
	m.Power = going
	w := c.workOn(m, was, func() *Fault {
		if m.Power = gone; gone == "running" && was != gone {
			c.boots(m.OSDisk.Disk, "disk")
		}
		for _, h := range append([]Hook{m.OSDisk}, m.Data...) {
			if d := c.diskOf(m, h.Disk); d != nil {
				d.State = disks
			}
		}
		return nil
	})
	return &reply{status: 202, work: w, by: byOperation | byLocation}
}

// diskOf finds a disk that a machine has, by its name.
func (c *Cloud) diskOf(m *Machine, name string) *Disk {
	for _, d := range c.disks {
		if strings.EqualFold(d.Name, name) && strings.EqualFold(d.by, m.id()) {
			return d
		}
	}
	return nil
}

// update swaps the OS disk, and knows no other change.
func (c *Cloud) update(r *http.Request, m *Machine) (*reply, *Fault) {
	var in struct {
		Properties struct {
			StorageProfile struct {
				OSDisk struct {
					Name         string              `json:"name"`
					CreateOption string              `json:"createOption"`
					Caching      string              `json:"caching"`
					DeleteOption string              `json:"deleteOption"`
					Accelerated  *bool               `json:"writeAcceleratorEnabled"`
					ManagedDisk  struct{ ID string } `json:"managedDisk"`
				} `json:"osDisk"`
			} `json:"storageProfile"`
		} `json:"properties"`
	}
	if f := decode(r, &in); f != nil {
		return nil, f
	}
	want := in.Properties.StorageProfile.OSDisk
	// "Virtual Machines - Update": If-Match.
	if match := r.Header.Get("If-Match"); match != "" && match != "*" && match != fmt.Sprintf("%q", fmt.Sprint(m.version)) {
		return nil, fault(412, "ConditionNotMet", "The condition specified using HTTP conditional header(s) is not met.")
	}
	d := c.diskByID(want.ManagedDisk.ID)
	if d == nil {
		return nil, fault(404, "NotFound", "Disk %s is not found.", want.ManagedDisk.ID)
	}
	if f := c.swappable(m, d, want.Name, want.CreateOption); f != nil {
		return nil, f
	}
	if want.Accelerated != nil {
		m.OSDisk.Accelerated = *want.Accelerated
	}
	if m.OSDisk.Accelerated && d.source != "" { // "Write Accelerator": premium disks alone; a copy here is none
		return nil, fault(409, "OperationNotAllowed", "Write Accelerator is for premium disks.")
	}
	old := c.diskOf(m, m.OSDisk.Disk)
	m.OSDisk.Disk, m.OSDisk.Caching, m.OSDisk.Delete = d.Name, want.Caching, want.DeleteOption
	d.by, d.State = m.id(), "Reserved"
	w := c.workOn(m, m.Power, func() *Fault {
		if old != nil && old != d {
			c.after(max(c.Late, 1), func() { old.by, old.State = "", "Unattached" })
		}
		return nil
	})
	return &reply{status: 200, body: c.show(m, false), work: w, by: byOperation}, nil
}

// swappable says why Azure would not swap in a disk.
func (c *Cloud) swappable(m *Machine, d *Disk, name, create string) *Fault {
	has := c.diskOf(m, m.OSDisk.Disk)
	switch {
	case m.Power != "deallocated": // "Change the OS disk used by an Azure VM": stopped\deallocated
		return fault(409, "OperationNotAllowed", "Changing the OS disk of VM '%s' is not allowed while it is not deallocated.", m.Name)
	case create != m.OSDisk.Create: // Azure/azure-sdk-for-net 37285
		return fault(409, "PropertyChangeNotAllowed", "Changing property 'osDisk.createOption' is not allowed.")
	case name != d.Name: // Azure/azure-libraries-for-java 275: the name has to be the disk's
		return fault(400, "InvalidParameter", "The name '%s' is not that of the disk '%s'.", name, d.Name)
	case d.by != "" && !strings.EqualFold(d.by, m.id()): // kubernetes-sigs/azuredisk-csi-driver 1378
		return fault(409, "ConflictingUserInput", "Disk '%s' cannot be attached as it is already attached to VM '%s'. A disk can be attached to only one VM at a time.", d.Name, d.by)
	case d.made != "Succeeded":
		return fault(409, "OperationNotAllowed", "Disk '%s' is not ready.", d.Name)
	case d.Location != m.Location || d.Zone != m.Zone: // "Availability zones": a zonal disk is for machines of its zone
		return fault(400, "BadRequest", "Disk '%s' cannot be attached to the VM because it is in another location or zone.", d.Name)
	case has != nil && d.Properties["osType"] != has.Properties["osType"]: // Azure/azure-cli 18040: it has to be an OS disk
		return fault(409, "OperationNotAllowed", "Disk '%s' is of another operating system.", d.Name)
	case has != nil && d.Properties["hyperVGeneration"] != has.Properties["hyperVGeneration"]: // MicrosoftDocs/SupportArticles-docs 214
		return fault(409, "PropertyChangeNotAllowed", "Swapping OS Disk is not supported since HyperVisor property on the OSDisk and VM do not match.")
	case has != nil && fmt.Sprint(d.Properties["securityProfile"]) != fmt.Sprint(has.Properties["securityProfile"]): // Azure/azure-sdk-for-net 37285: security type
		return fault(400, "BadRequest", "Disk '%s' is of another security type.", d.Name)
	case has != nil && has.Properties["encryptionSettingsCollection"] != nil: // MicrosoftDocs/azure-docs 56181
		return fault(409, "OSDiskSwapNotSupportedForVMsUsingDiskEncryption", "OS disk swap is not supported for VMs that use disk encryption.")
	}
	return nil
}

// attachDetach is "Virtual Machines - Attach Detach Data Disks".
func (c *Cloud) attachDetach(r *http.Request, m *Machine) (*reply, *Fault) {
	var in struct {
		Attach []struct {
			DiskID       string `json:"diskId"`
			Lun          *int   `json:"lun"`
			Caching      string `json:"caching"`
			DeleteOption string `json:"deleteOption"`
		} `json:"dataDisksToAttach"`
		Detach []struct {
			DiskID string `json:"diskId"`
		} `json:"dataDisksToDetach"`
	}
	if f := decode(r, &in); f != nil {
		return nil, f
	}
	if len(in.Attach)+len(in.Detach) != 1 {
		return nil, fault(400, "BadRequest", "This server knows one disk in a request.")
	}
	if len(in.Detach) > 0 {
		return c.detach(m, in.Detach[0].DiskID)
	}
	want := in.Attach[0]
	d := c.diskByID(want.DiskID)
	switch {
	case d == nil:
		return nil, fault(404, "NotFound", "Disk %s is not found.", want.DiskID)
	case d.by != "": // kubernetes-sigs/azuredisk-csi-driver 1378
		return nil, fault(409, "ConflictingUserInput", "Cannot attach the disk %s to VM %s because it is already attached to VM %s. A disk can be attached to only one VM at a time.", d.Name, m.id(), d.by)
	case d.State != "Unattached":
		return nil, fault(409, "OperationNotAllowed", "Disk %s is in the state %s.", d.Name, d.State)
	case d.Location != m.Location || d.Zone != m.Zone:
		return nil, fault(400, "BadRequest", "Disk %s cannot be attached to the VM because it is in another location or zone.", d.Name)
	case want.Lun == nil || *want.Lun < 0 || *want.Lun > 63:
		return nil, fault(400, "InvalidParameter", "The value of parameter dataDisk.lun is out of range.")
	case slices.ContainsFunc(m.Data, func(h Hook) bool { return h.Lun == *want.Lun }):
		return nil, fault(400, "InvalidParameter", "A disk at LUN %d already exists.", *want.Lun) // openshift/openshift-azure 83
	case m.Most > 0 && len(m.Data) >= m.Most: // kubernetes-sigs/azuredisk-csi-driver 436
		return nil, fault(409, "OperationNotAllowed", "The maximum number of data disks allowed to be attached to a VM of this size is %d.", m.Most)
	}
	d.by = m.id()
	m.Data = append(m.Data, Hook{Disk: d.Name, Lun: *want.Lun, Caching: want.Caching, Create: "Attach", Delete: want.DeleteOption})
	w := c.workOn(m, m.Power, func() *Fault {
		d.State = attached(m)
		c.boots(d.Name, "helper")
		return nil
	})
	return &reply{status: 202, work: w, by: byLocation}, nil
}

func (c *Cloud) detach(m *Machine, id string) (*reply, *Fault) {
	i := slices.IndexFunc(m.Data, func(h Hook) bool { d := c.diskOf(m, h.Disk); return d != nil && strings.EqualFold(d.id("disks"), id) })
	if i < 0 {
		return nil, fault(400, "InvalidParameter", "Disk %s is not attached to VM %s.", id, m.Name)
	}
	if m.Data[i].detaching { // kubernetes/kubernetes 78657
		return nil, fault(409, "AttachDiskWhileBeingDetached", "The disk is currently being detached.")
	}
	m.Data[i].detaching = true
	d := c.diskOf(m, m.Data[i].Disk)
	w := c.workOn(m, m.Power, func() *Fault {
		m.Data = slices.DeleteFunc(m.Data, func(h Hook) bool { return h.Disk == d.Name })
		c.after(max(c.Late, 1), func() { d.by, d.State = "", "Unattached" })
		return nil
	})
	return &reply{status: 202, work: w, by: byOperation}, nil
}
