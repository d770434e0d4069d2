package ec2test

import (
	"encoding/xml"
	"net/url"
	"regexp"
)

type changeXML struct {
	ID       string   `xml:"instanceId"`
	Current  stateXML `xml:"currentState"`
	Previous stateXML `xml:"previousState"`
}

// one returns the instance that a request names: here never more than one.
func (s *Server) one(form url.Values) (*Instance, *apiError) {
	id := form.Get("InstanceId.1")
	if form.Has("InstanceId.2") {
		return nil, refuse("InvalidParameterCombination", "this simulator takes one instance at a time")
	}
	if s.instances[id] == nil || s.instances[id].Hidden > 0 {
		return nil, noInstance(id)
	}
	return s.instances[id], nil
}

// turn sets an instance going.
func (s *Server) turn(in *Instance, now, to string) {
	in.State, in.to, in.left = now, to, s.steps()
	s.changes++
}

// stop. API, StopInstances: an instance that stops or stands still may be told so again; stop
// protection, spot requests that are not persistent and instance-store roots refuse.
func (s *Server) stop(form url.Values) (any, *apiError) {
	in, e := s.one(form)
	if e != nil {
		return nil, e
	}
	force := form.Get("Force") == "true"
	switch {
	case in.StopProtected: // UG, "Enable stop protection"; the code as others saw it
		return nil, refuse("OperationNotPermitted", "The instance '%s' may not be stopped. Modify its 'disableApiStop' instance attribute and try again.", in.ID)
	case in.RootType != "ebs" || in.Lifecycle == "spot":
		return nil, refuse("UnsupportedOperation", "The instance '%s' can't be stopped.", in.ID)
	case in.State != "running" && in.State != "stopping" && in.State != "stopped":
		return nil, refuse("IncorrectInstanceState", "The instance '%s' is not in a state from which it can be stopped.", in.ID)
	}
	was := in.State
	switch {
	case was == "running" && in.Wedged && !force:
		s.turn(in, "stopping", "")
	case was == "running", was == "stopping" && in.to == "" && force: // API: Force is for one that hangs
		s.turn(in, "stopping", "stopped")
	}
	return changed("StopInstancesResponse", in, was), nil
}

// start. API, StartInstances: one that runs may be told so again; ERR: IncorrectInstanceState
// from stopping. Without a volume at the root device it does not start (VM Import guide,
// "Error starting instances").
func (s *Server) start(form url.Values) (any, *apiError) {
	in, e := s.one(form)
	if e != nil {
		return nil, e
	}
	was := in.State
	if was == "running" || was == "pending" {
		return changed("StartInstancesResponse", in, was), nil
	}
	if was != "stopped" {
		return nil, refuse("IncorrectInstanceState", "The instance '%s' is not in a state from which it can be started.", in.ID)
	}
	root := s.at(in.ID, in.RootDevice)
	if root == nil || root.Attachment.State != "attached" {
		return nil, refuse("InvalidParameterValue", "Invalid value '%s' for instanceId. Instance does not have a volume attached at root (%s)", in.ID, in.RootDevice)
	}
	if in.NoCapacity > 0 { // ERR, server errors: status 500
		in.NoCapacity--
		return nil, &apiError{500, "InsufficientInstanceCapacity", "Insufficient capacity."}
	}
	if in.NoKey { // UG, "Troubleshoot instance launch issues"
		in.Reason = "Client.InternalError"
		s.turn(in, "pending", "stopped")
		return changed("StartInstancesResponse", in, was), nil
	}
	s.turn(in, "pending", "running")
	root.Booted = append(root.Booted, "disk")
	return changed("StartInstancesResponse", in, was), nil
}

func changed(name string, in *Instance, was string) any {
	return struct {
		XMLName xml.Name
		Items   []changeXML `xml:"instancesSet>item"`
	}{xml.Name{Space: "http://ec2.amazonaws.com/doc/2016-11-15/", Local: name}, []changeXML{{in.ID, stateOf(in.State), stateOf(was)}}}
}

// at returns the volume that an instance has as a device.
func (s *Server) at(instance, device string) *Volume {
	for _, v := range s.volumes {
		if v.Attachment.Instance == instance && v.Attachment.Device == device {
			return v
		}
	}
	return nil
}

// deviceName is what EC2 takes (UG, "Device names for volumes"): reserved for the root are
// /dev/sda1 and /dev/xvda; Windows's own are xvd[a-c][a-z].
var deviceName = regexp.MustCompile(`^(/dev/sd[a-z](1)?|/dev/xvda|(/dev/)?xvd[b-z]|(/dev/)?xvd[a-d][a-z])$`)

// attach. API, AttachVolume: same zone; to a running or stopped instance; with a product code,
// to a stopped one; a limit by instance type. ERR: VolumeInUse, InvalidVolume.ZoneMismatch,
// AttachmentLimitExceeded, IncorrectState. A device that is taken: as others saw it. EBS,
// "Preserve data when an instance is terminated": what is attached later is kept.
func (s *Server) attach(form url.Values) (any, *apiError) {
	v, in, device := s.volumes[form.Get("VolumeId")], s.instances[form.Get("InstanceId")], form.Get("Device")
	switch {
	case v == nil:
		return nil, noVolume(form.Get("VolumeId"))
	case in == nil:
		return nil, noInstance(form.Get("InstanceId"))
	case v.Attachment.Instance != "":
		return nil, refuse("VolumeInUse", "%s is already attached to an instance", v.ID)
	case v.Zone != in.Zone:
		return nil, refuse("InvalidVolume.ZoneMismatch", "The volume '%s' is not in the same availability zone as instance '%s'", v.ID, in.ID)
	case in.State != "running" && in.State != "stopped":
		return nil, refuse("IncorrectState", "Instance '%s' is not 'running'.", in.ID)
	case len(in.ProductCodes) > 0 && in.State != "stopped":
		return nil, refuse("IncorrectState", "the volume has a product code: '%s' must be stopped", in.ID)
	case !deviceName.MatchString(device):
		return nil, refuse("InvalidParameterValue", "Value (%s) for parameter device is invalid. %s is not a valid EBS device name.", device, device)
	case s.at(in.ID, device) != nil:
		return nil, refuse("InvalidParameterValue", "Invalid value '%s' for unixDevice. Attachment point %s is already in use", device, device)
	case s.has(in.ID) >= s.room():
		return nil, refuse("AttachmentLimitExceeded", "Volume attachment limit exceeded for instance %s", in.ID)
	}
	v.Attachment, v.left = Attachment{Instance: in.ID, Device: device, State: "attaching"}, s.steps()
	s.changes++
	if device != in.RootDevice {
		v.Booted = append(v.Booted, "helper")
	}
	return attachment("AttachVolumeResponse", v), nil
}

func (s *Server) room() int {
	if s.HelperRoom == 0 {
		return 27 // UG, "Instance volume limits": 28 of most Nitro types, a network interface among them
	}
	return s.HelperRoom
}

func (s *Server) has(instance string) (n int) {
	for _, v := range s.volumes {
		if v.Attachment.Instance == instance {
			n++
		}
	}
	return n
}

func attachment(name string, v *Volume) any {
	return struct {
		XMLName xml.Name
		attachmentXML
	}{xml.Name{Space: "http://ec2.amazonaws.com/doc/2016-11-15/", Local: name},
		attachmentXML{v.ID, v.Attachment.Instance, v.Attachment.Device, v.Attachment.State, v.Attachment.DeleteOnTermination}}
}

// detach. API, DetachVolume: not the root of an instance that does not stand still. ERR:
// IncorrectState when it is not attached; for the root device OperationNotPermitted, and others
// have seen IncorrectState.
func (s *Server) detach(form url.Values) (any, *apiError) {
	v := s.volumes[form.Get("VolumeId")]
	if v == nil {
		return nil, noVolume(form.Get("VolumeId"))
	}
	a, force := &v.Attachment, form.Get("Force") == "true"
	switch {
	case a.Instance == "":
		return nil, refuse("IncorrectState", "Volume '%s' is in the 'available' state.", v.ID)
	case form.Has("InstanceId") && form.Get("InstanceId") != a.Instance, form.Has("Device") && form.Get("Device") != a.Device:
		return nil, refuse("InvalidAttachment.NotFound", "The volume '%s' is not attached to instance '%s' as device '%s'.", v.ID, form.Get("InstanceId"), form.Get("Device"))
	case a.State != "attached" && !force:
		return nil, refuse("IncorrectState", "The volume '%s' is '%s'.", v.ID, a.State)
	}
	in := s.instances[a.Instance]
	if a.Device == in.RootDevice && in.State != "stopped" {
		return nil, refuse("OperationNotPermitted", "Unable to detach root volume '%s' from instance '%s'", v.ID, in.ID)
	}
	a.State, v.left = "detaching", s.steps()
	if v.Stuck && !force { // EBS, "Detach a volume": it may be stuck for good until it is forced
		v.left = 0
	}
	s.changes++
	return attachment("DetachVolumeResponse", v), nil
}

// modify. API, ModifyInstanceAttribute: one attribute at a time: DeleteOnTermination of a volume
// that is attached, or stop protection.
func (s *Server) modify(form url.Values) (any, *apiError) {
	in := s.instances[form.Get("InstanceId")]
	if in == nil {
		return nil, noInstance(form.Get("InstanceId"))
	}
	device := form.Get("BlockDeviceMapping.1.DeviceName")
	v := s.at(in.ID, device)
	switch {
	case form.Has("DisableApiStop.Value") && device != "":
		return nil, refuse("InvalidParameterCombination", "Fields for multiple attribute types specified")
	case form.Has("DisableApiStop.Value"):
		in.StopProtected = form.Get("DisableApiStop.Value") == "true"
	case v == nil || v.Attachment.State != "attached":
		return nil, refuse("InvalidInstanceAttributeValue", "No device is currently mapped at %s", device)
	default:
		v.Attachment.DeleteOnTermination = form.Get("BlockDeviceMapping.1.Ebs.DeleteOnTermination") == "true"
	}
	s.changes++
	return done("ModifyInstanceAttributeResponse"), nil
}

// done is the answer of those that have nothing else to say.
func done(name string) any {
	return struct {
		XMLName xml.Name
		Return  bool `xml:"return"`
	}{xml.Name{Space: "http://ec2.amazonaws.com/doc/2016-11-15/", Local: name}, true}
}
