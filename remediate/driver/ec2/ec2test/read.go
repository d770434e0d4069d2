package ec2test

import (
	"encoding/xml"
	"net/url"
	"slices"
	"strings"
)

type tagXML struct {
	Key   string `xml:"key"`
	Value string `xml:"value"`
}

func tagsXML(tags map[string]string) (all []tagXML) {
	for _, k := range sorted(tags) {
		all = append(all, tagXML{k, tags[k]})
	}
	return all
}

type codeXML struct {
	Code string `xml:"code"`
}

type stateXML struct {
	Code int    `xml:"code"`
	Name string `xml:"name"`
}

func stateOf(name string) stateXML {
	codes := map[string]int{"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}
	return stateXML{codes[name], name}
}

type mappingXML struct {
	Device string `xml:"deviceName"`
	EBS    struct {
		Volume string `xml:"volumeId"`
		Status string `xml:"status"`
		Keep   bool   `xml:"deleteOnTermination"`
	} `xml:"ebs"`
}

type interfaceXML struct {
	MAC         string `xml:"macAddress"`
	Association *struct {
		IP    string `xml:"publicIp"`
		Owner string `xml:"ipOwnerId"`
	} `xml:"association,omitempty"`
}

type instanceXML struct {
	ID           string         `xml:"instanceId"`
	Image        string         `xml:"imageId"`
	State        stateXML       `xml:"instanceState"`
	Type         string         `xml:"instanceType"`
	Architecture string         `xml:"architecture"`
	Zone         string         `xml:"placement>availabilityZone"`
	Platform     string         `xml:"platform,omitempty"`
	Address      string         `xml:"privateIpAddress"`
	PublicIP     string         `xml:"ipAddress,omitempty"`
	Reason       *codeXML       `xml:"stateReason,omitempty"`
	Transition   string         `xml:"reason,omitempty"`
	RootType     string         `xml:"rootDeviceType"`
	RootDevice   string         `xml:"rootDeviceName"`
	Mappings     []mappingXML   `xml:"blockDeviceMapping>item"`
	Lifecycle    string         `xml:"instanceLifecycle,omitempty"`
	Tags         []tagXML       `xml:"tagSet>item"`
	ProductCodes []productXML   `xml:"productCodes>item"`
	Interfaces   []interfaceXML `xml:"networkInterfaceSet>item"`
	TPM          string         `xml:"tpmSupport,omitempty"`
	Operator     *operatorXML   `xml:"operator,omitempty"`
}

type productXML struct {
	Code string `xml:"productCode"`
	Type string `xml:"type"`
}

type operatorXML struct {
	Managed   bool   `xml:"managed"`
	Principal string `xml:"principal"`
}

// describeInstances leaves out of a list by filter what is not there, and refuses one by id.
func (s *Server) describeInstances(form url.Values) (any, *apiError) {
	fs, e := filters(form, "instance-id", "instance-state-name", "platform", "availability-zone", "tag-key", "placement-group-name")
	if e != nil {
		return nil, e
	}
	ids := list(form, "InstanceId")
	for _, id := range ids {
		if in := s.instances[id]; in == nil || in.Hidden > 0 {
			if in != nil {
				in.Hidden--
			}
			return nil, noInstance(id)
		}
	}
	var found []string
	for _, id := range candidates(fs, "instance-id", s.instances) {
		in := s.instances[id]
		properties := map[string]string{"instance-id": id, "instance-state-name": in.shown, "platform": in.Platform, "availability-zone": in.Zone}
		if len(ids) > 0 && !slices.Contains(ids, id) || !keeps(fs, properties, in.Tags) {
			continue
		}
		if in.Hidden > 0 {
			in.Hidden--
			continue
		}
		found = append(found, id)
	}
	found, next, e := s.page(form, found, 5, 1000, len(ids) > 0)
	if e != nil {
		return nil, e
	}
	type reservation struct {
		ID        string        `xml:"reservationId"`
		Owner     string        `xml:"ownerId"`
		Instances []instanceXML `xml:"instancesSet>item"`
	}
	out := struct {
		XMLName      xml.Name      `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ DescribeInstancesResponse"`
		Reservations []reservation `xml:"reservationSet>item"`
		Next         string        `xml:"nextToken,omitempty"`
	}{Next: next}
	on := s.attached(found)
	for _, id := range found {
		out.Reservations = append(out.Reservations, reservation{"r-0123456789abcdef0", "123456789012", []instanceXML{s.instanceXML(id, on[id])}})
	}
	return out, nil
}

// properties are those of a volume that filters know.
func (v *Volume) properties() map[string]string {
	status := "available"
	if v.shown.Instance != "" {
		status = "in-use"
	}
	return map[string]string{"volume-id": v.ID, "attachment.instance-id": v.shown.Instance, "status": status}
}

// candidates are the ids of what can pass the filters, in order.
func candidates[T any](fs []filter, name string, all map[string]*T) (ids []string) {
	for _, f := range fs {
		if f.name == name && !strings.ContainsAny(strings.Join(f.values, ""), "*?") {
			for _, id := range f.values {
				if all[id] != nil {
					ids = append(ids, id)
				}
			}
			slices.Sort(ids)
			return slices.Compact(ids)
		}
	}
	return sorted(all)
}

// attached returns the volumes of each of the instances, as reads show them.
func (s *Server) attached(ids []string) map[string][]*Volume {
	on := make(map[string][]*Volume, len(ids))
	for _, id := range ids {
		on[id] = nil
	}
	for _, v := range s.volumes {
		if of, asked := on[v.shown.Instance]; asked {
			on[v.shown.Instance] = append(of, v)
		}
	}
	for _, of := range on {
		slices.SortFunc(of, func(a, b *Volume) int { return strings.Compare(a.shown.Device, b.shown.Device) })
	}
	return on
}

func (s *Server) instanceXML(id string, volumes []*Volume) instanceXML {
	in := s.instances[id].read(s.Flap)
	x := instanceXML{ID: id, Image: in.Image, State: stateOf(in.State), Type: in.Type, Architecture: in.Architecture, Zone: in.Zone, Platform: in.Platform,
		Address: in.Address, PublicIP: in.PublicIP, RootType: in.RootType, RootDevice: in.RootDevice, Lifecycle: in.Lifecycle, Tags: tagsXML(in.Tags), TPM: in.TPM}
	x.Transition = in.Transition
	if in.Reason != "" {
		x.Reason = &codeXML{in.Reason}
	}
	if in.Manager != "" {
		x.Operator = &operatorXML{true, in.Manager}
	}
	for _, c := range in.ProductCodes {
		x.ProductCodes = append(x.ProductCodes, productXML{c, "marketplace"})
	}
	n := interfaceXML{MAC: in.MAC}
	if in.PublicIP != "" {
		n.Association = &struct {
			IP    string `xml:"publicIp"`
			Owner string `xml:"ipOwnerId"`
		}{in.PublicIP, in.PublicOwner}
	}
	x.Interfaces = []interfaceXML{n}
	for _, v := range volumes {
		m := mappingXML{Device: v.shown.Device}
		m.EBS.Volume, m.EBS.Status, m.EBS.Keep = v.ID, v.shown.State, v.shown.DeleteOnTermination
		x.Mappings = append(x.Mappings, m)
	}
	return x
}

type attachmentXML struct {
	Volume   string `xml:"volumeId"`
	Instance string `xml:"instanceId"`
	Device   string `xml:"device"`
	Status   string `xml:"status"`
	Keep     bool   `xml:"deleteOnTermination"`
}

func (s *Server) describeVolumes(form url.Values) (any, *apiError) {
	fs, e := filters(form, "volume-id", "attachment.instance-id", "status")
	if e != nil {
		return nil, e
	}
	ids := list(form, "VolumeId")
	for _, id := range ids {
		if s.volumes[id] == nil {
			return nil, noVolume(id)
		}
	}
	var found []string
	for _, id := range candidates(fs, "volume-id", s.volumes) {
		v := s.volumes[id]
		if (len(ids) == 0 || slices.Contains(ids, id)) && keeps(fs, v.properties(), v.Tags) {
			found = append(found, id)
		}
	}
	found, next, e := s.page(form, found, 5, 1000, len(ids) > 0)
	if e != nil {
		return nil, e
	}
	type volume struct {
		ID          string          `xml:"volumeId"`
		Zone        string          `xml:"availabilityZone"`
		Status      string          `xml:"status"`
		Attachments []attachmentXML `xml:"attachmentSet>item"`
		Tags        []tagXML        `xml:"tagSet>item"`
		Encrypted   bool            `xml:"encrypted"`
		Key         string          `xml:"kmsKeyId,omitempty"`
		Shared      bool            `xml:"multiAttachEnabled"`
	}
	out := struct {
		XMLName xml.Name `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ DescribeVolumesResponse"`
		Volumes []volume `xml:"volumeSet>item"`
		Next    string   `xml:"nextToken,omitempty"`
	}{Next: next}
	for _, id := range found {
		v := s.volumes[id]
		x := volume{ID: id, Zone: v.Zone, Status: "available", Tags: tagsXML(v.Tags), Encrypted: v.Key != "", Key: v.Key, Shared: v.Shared}
		if a := v.read(s.Flap); a.Instance != "" {
			x.Status = "in-use"
			x.Attachments = []attachmentXML{{id, a.Instance, a.Device, a.State, a.DeleteOnTermination}}
		}
		out.Volumes = append(out.Volumes, x)
	}
	return out, nil
}

func (s *Server) describeTypes(form url.Values) (any, *apiError) {
	type kind struct {
		Name  string `xml:"instanceType"`
		Store bool   `xml:"instanceStorageSupported"`
		EBS   string `xml:"ebsInfo>nvmeSupport"`
	}
	out := struct {
		XMLName xml.Name `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ DescribeInstanceTypesResponse"`
		Types   []kind   `xml:"instanceTypeSet>item"`
	}{}
	for _, name := range list(form, "InstanceType") {
		t, ok := s.Types[name]
		if !ok {
			return nil, refuse("InvalidInstanceType", "The following supplied instance types do not exist: [%s]", name)
		}
		nvme := "unsupported"
		if t.Nitro {
			nvme = "required"
		}
		out.Types = append(out.Types, kind{name, t.Store, nvme})
	}
	return out, nil
}

func (s *Server) describeAttribute(form url.Values) (any, *apiError) {
	in := s.instances[form.Get("InstanceId")]
	if in == nil {
		return nil, noInstance(form.Get("InstanceId"))
	}
	if form.Get("Attribute") != "disableApiStop" {
		return nil, refuse("InvalidParameterValue", "Value (%s) for parameter attribute is invalid. Unknown attribute.", form.Get("Attribute"))
	}
	return struct {
		XMLName xml.Name `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ DescribeInstanceAttributeResponse"`
		ID      string   `xml:"instanceId"`
		Value   bool     `xml:"disableApiStop>value"`
	}{ID: in.ID, Value: in.StopProtected}, nil
}

func noInstance(id string) *apiError {
	return refuse("InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", id)
}

func noVolume(id string) *apiError {
	return refuse("InvalidVolume.NotFound", "The volume '%s' does not exist.", id)
}
