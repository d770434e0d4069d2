package azuretest

import (
	"maps"
	"net/http"
	"slices"
	"strings"
)

func (d *Disk) show(kind string) object {
	p := object{"provisioningState": d.made, "diskSizeGB": d.Size, "diskState": d.State, "creationData": object{"createOption": "Copy", "sourceResourceId": d.source}}
	maps.Copy(p, d.Properties)
	o := object{"id": d.id(kind), "name": d.Name, "location": d.Location, "tags": d.Tags, "properties": p, "sku": object{"name": "Premium_LRS"}}
	if d.by != "" {
		o["managedBy"] = d.by
	}
	if d.Zone != "" {
		o["zones"] = []string{d.Zone}
	}
	return o
}

func (c *Cloud) diskCall(r *http.Request, kind, group, name string) (*reply, *Fault) {
	among := &c.disks
	if kind == "snapshots" {
		among = &c.snapshots
	}
	d := c.disk(*among, group, name)
	switch {
	case r.Method == http.MethodPut:
		return c.create(r, kind, among, d, group)
	case d == nil && r.Method == http.MethodDelete: // as the reference has it: 204 No Content
		return &reply{status: 204}, nil
	case d == nil:
		return nil, fault(404, "ResourceNotFound", "The Resource 'Microsoft.Compute/%s/%s' under resource group '%s' was not found.", kind, name, group)
	case r.Method == http.MethodGet:
		return &reply{status: 200, body: d.show(kind)}, nil
	case r.Method != http.MethodDelete:
		return nil, fault(405, "MethodNotAllowed", "This server does not know %s.", r.Method)
	}
	if f := c.locked(d.id(kind), true); f != nil {
		return nil, f
	}
	if d.by != "" { // "Find and delete unattached Azure managed and unmanaged disks"
		return nil, fault(409, "OperationNotAllowed", "Disk %s is attached to VM %s.", d.Name, d.by)
	}
	if d.made != "Succeeded" {
		return nil, fault(409, "OperationNotAllowed", "Disk %s is %s.", d.Name, d.made)
	}
	d.made = "Deleting"
	w := c.begin(func() *Fault {
		*among = slices.DeleteFunc(*among, func(o *Disk) bool { return o == d })
		return nil
	})
	return &reply{status: 202, work: w, by: byLocation}, nil
}

// create copies a disk, and knows no other way of making one.
func (c *Cloud) create(r *http.Request, kind string, among *[]*Disk, d *Disk, group string) (*reply, *Fault) {
	var in struct {
		Location   string            `json:"location"`
		Zones      []string          `json:"zones"`
		Tags       map[string]string `json:"tags"`
		SKU        object            `json:"sku"`
		Properties object            `json:"properties"`
	}
	if f := decode(r, &in); f != nil {
		return nil, f
	}
	creation, _ := in.Properties["creationData"].(object)
	id, _ := creation["sourceResourceId"].(string)
	from := c.diskByID(id)
	switch {
	case from == nil || creation["createOption"] != "Copy":
		return nil, fault(404, "ResourceNotFound", "The source %s of the copy was not found.", id)
	case in.Location != from.Location: // "Disks - Create Or Update": a copy is in the region of its source
		return nil, fault(400, "BadRequest", "A copy is in the region of its source.")
	case in.Properties["securityProfile"] != nil: // Azure/azure-cli 22561
		return nil, fault(400, "BadRequest", "Security Type 'TrustedLaunch' is not supported for CreateOption 'Copy'. Supported create options are FromImage, Import, ImportSecure, UploadPreparedSecure.")
	case d != nil:
		return nil, fault(409, "PropertyChangeNotAllowed", "Changing property 'disk.creationData' is not allowed.")
	}
	for _, p := range []string{"osType", "hyperVGeneration"} {
		if said, ok := in.Properties[p]; ok && said != from.Properties[p] {
			return nil, fault(400, "InvalidParameter", "%s is not that of the source.", p)
		}
	}
	name := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	d = &Disk{Group: group, Name: name, Location: in.Location, Tags: in.Tags, State: "Unattached", Size: from.Size, made: "Creating", source: id, Properties: object{}}
	if f := c.locked(d.id(kind), false); f != nil {
		return nil, f
	}
	if len(in.Zones) > 0 {
		d.Zone = in.Zones[0]
	}
	d.Properties["hyperVGeneration"] = "V1" // MicrosoftDocs/SupportArticles-docs 338: unless it is said
	for _, p := range []string{"osType", "hyperVGeneration", "encryption", "purchasePlan"} {
		if said, ok := in.Properties[p]; ok {
			d.Properties[p] = said
		}
	}
	if from.Properties["securityProfile"] != nil { // Azure/azure-sdk-for-python 30479
		d.Properties["securityProfile"] = from.Properties["securityProfile"]
	}
	*among = append(*among, d)
	w := c.begin(func() *Fault { d.made = "Succeeded"; return nil })
	return &reply{status: 202, body: d.show(kind), work: w, by: byOperation | byLocation}, nil
}
