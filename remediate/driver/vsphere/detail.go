package vsphere

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/vmware/govmomi/vim25/types"

	"unbrick/remediate/swap"
)

// A detail is how a disk hangs in its machine, and what that starts from.
type detail struct {
	Disk types.VirtualDisk               `json:"disk"`
	Boot types.VirtualMachineBootOptions `json:"boot"`
	// Policy is the id of the storage policy of the disk; empty if it has none.
	Policy string `json:"policy,omitempty"`
}

// kept returns of a disk what is put back and compared. Left out is what the server finds out
// itself or changes whenever the disk is written to: sizes, content and change ids, a summary.
func kept(d *types.VirtualDisk) types.VirtualDisk {
	k := types.VirtualDisk{
		VirtualDevice: types.VirtualDevice{
			Key: d.Key, ControllerKey: d.ControllerKey, UnitNumber: d.UnitNumber,
		},
		Shares: d.Shares, StorageIOAllocation: d.StorageIOAllocation,
	}
	if i := d.DeviceInfo; i != nil {
		k.DeviceInfo = &types.Description{Label: i.GetDescription().Label}
	}
	if b := flat(d); b != nil {
		k.Backing = &types.VirtualDiskFlatVer2BackingInfo{
			VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: b.FileName, Datastore: b.Datastore},
			DiskMode:                     b.DiskMode, Sharing: b.Sharing, WriteThrough: b.WriteThrough, Uuid: b.Uuid,
		}
	}
	return k
}

// added returns the device as it is asked for: without a size, since a size asks for a new file,
// and without what only the file itself says.
func (d detail) added() *types.VirtualDisk {
	k := kept(&d.Disk)
	flat(&k).Uuid = ""
	return &k
}

func (d detail) uuid() string {
	if b := flat(&d.Disk); b != nil {
		return b.Uuid
	}
	return ""
}

func (d detail) volume() volume {
	b := flat(&d.Disk)
	if b == nil {
		return volume{}
	}
	return volume{b.Uuid, b.FileName, b.Datastore}
}

// encode writes a value of vSphere's as JSON that says its types.
func encode(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	if err := types.NewJSONEncoder(&b).Encode(v); err != nil {
		return nil, fmt.Errorf("cannot write down how a disk hangs: %w", err)
	}
	return bytes.TrimSpace(b.Bytes()), nil
}

func readDetail(s swap.Slot) (d detail, err error) {
	if err = types.NewJSONDecoder(bytes.NewReader(s.Detail)).Decode(&d); err == nil && flat(&d.Disk) == nil {
		err = fmt.Errorf("it names no file")
	}
	if err != nil {
		err = fmt.Errorf("the journal does not say how %s hung: %w", s.Volume, err)
	}
	return d, err
}
