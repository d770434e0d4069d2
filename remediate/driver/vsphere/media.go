package vsphere

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	source "unbrick/inventory/source/vsphere"
	"unbrick/remediate"
)

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}

// A stand is how drive and boot order stood. Drive is nil where there was none.
type stand struct {
	Drive *types.VirtualCdrom             `json:"drive,omitempty"`
	Boot  types.VirtualMachineBootOptions `json:"boot"`
}

// insert puts the image into the drive, makes that the first to boot, and keeps how it was: in
// one change. What is kept already is older, and right.
func (v *visit) insert(ctx context.Context, file string) error {
	cd, err := v.drive()
	if err != nil {
		return err
	}
	was := stand{}
	if v.vm.Config.BootOptions != nil {
		was.Boot = *v.vm.Config.BootOptions
	}
	change := &types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationAdd}
	now := *cd
	if cd.Key > 0 {
		change.Operation, was.Drive = types.VirtualDeviceConfigSpecOperationEdit, cd
	}
	now.DeviceInfo = nil
	now.Backing = &types.VirtualCdromIsoBackingInfo{VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: file}}
	now.Connectable = &types.VirtualDeviceConnectInfo{StartConnected: true, AllowGuestControl: true}
	change.Device = &now
	boot := was.Boot
	boot.BootOrder = append([]types.BaseVirtualMachineBootOptionsBootableDevice{&types.VirtualMachineBootOptionsBootableCdromDevice{}},
		slices.DeleteFunc(slices.Clone(was.Boot.BootOrder), func(d types.BaseVirtualMachineBootOptionsBootableDevice) bool {
			_, cd := d.(*types.VirtualMachineBootOptionsBootableCdromDevice)
			return cd
		})...)
	spec := types.VirtualMachineConfigSpec{DeviceChange: []types.BaseVirtualDeviceConfigSpec{change}, BootOptions: &boot}
	if v.record() == "" {
		b, err := encode(was)
		if err != nil {
			return err
		}
		spec.ExtraConfig = []types.BaseOptionValue{&types.OptionValue{Key: before, Value: string(b)}}
	}
	return say(ctx, "cannot insert the rescue image into "+v.vm.Name, v.reconfigure(ctx, v.ref, spec))
}

// takeOut puts drive and boot order back, and forgets how they were: in one change. Where
// nothing is kept, the drive is emptied and no longer boots first.
func (v *visit) takeOut(ctx context.Context) error {
	var was stand
	text := v.record()
	cd, err := v.drive()
	if err != nil {
		return err
	}
	if text == "" {
		empty := *cd
		empty.Backing = &types.VirtualCdromRemotePassthroughBackingInfo{}
		empty.Connectable = &types.VirtualDeviceConnectInfo{AllowGuestControl: true}
		was.Drive = &empty
		if b := v.vm.Config.BootOptions; b != nil {
			was.Boot = *b
			was.Boot.BootOrder = slices.DeleteFunc(slices.Clone(b.BootOrder), func(d types.BaseVirtualMachineBootOptionsBootableDevice) bool {
				_, cd := d.(*types.VirtualMachineBootOptionsBootableCdromDevice)
				return cd
			})
		}
	} else if err := types.NewJSONDecoder(bytes.NewReader([]byte(text))).Decode(&was); err != nil {
		return fmt.Errorf("virtual machine %s does not say how its drive was (%s in its configuration is damaged): put it back by hand, and remove that", v.vm.Name, before)
	}
	change := &types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationRemove, Device: cd}
	if was.Drive != nil {
		change.Operation, change.Device = types.VirtualDeviceConfigSpecOperationEdit, was.Drive
	}
	if len(was.Boot.BootOrder) == 0 {
		was.Boot.BootOrder = noOrder()
	}
	spec := types.VirtualMachineConfigSpec{
		BootOptions: &was.Boot,
		ExtraConfig: []types.BaseOptionValue{&types.OptionValue{Key: before, Value: ""}}, // an empty value removes it
	}
	if cd.Key > 0 {
		spec.DeviceChange = []types.BaseVirtualDeviceConfigSpec{change}
	}
	return say(ctx, "cannot take the rescue image out of "+v.vm.Name, v.reconfigure(ctx, v.ref, spec))
}

// noOrder is what has the server forget the order in which a machine boots.
func noOrder() []types.BaseVirtualMachineBootOptionsBootableDevice {
	return []types.BaseVirtualMachineBootOptionsBootableDevice{&types.VirtualMachineBootOptionsBootableDevice{}}
}

// upload brings the image into the machine's folder, unless it is there with its whole length.
func (v *visit) upload(ctx context.Context, img remediate.Image) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, img.URL, nil)
	if err != nil {
		return errors.New("cannot fetch the rescue image: its address is none")
	}
	res, err := v.client.Do(req)
	if err != nil {
		// The address bears a token: it is not repeated.
		return &remediate.RetryError{After: 10 * time.Second, Err: errors.New("cannot fetch the rescue image from the rescue server: is it reached from here?")}
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK || res.ContentLength <= 0 {
		return fmt.Errorf("cannot fetch the rescue image: the rescue server answers %s, length %d", res.Status, res.ContentLength)
	}
	u, _, err := v.place(ctx, v.file(img))
	if err != nil {
		return err
	}
	if have, err := v.length(ctx, u); err != nil || have == res.ContentLength {
		return say(ctx, "cannot look for the rescue image in "+v.file(img), err)
	}
	err = v.Client.Client.Upload(ctx, res.Body, u, &soap.Upload{Method: http.MethodPut, ContentLength: res.ContentLength, Type: "application/octet-stream"})
	return say(ctx, "cannot upload the rescue image to "+v.file(img), err)
}

// length returns that of a file in a datastore, or 0.
func (v *visit) length(ctx context.Context, u *url.URL) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, u.String(), nil)
	if err != nil {
		return 0, err
	}
	var n int64
	err = v.Client.Client.Do(ctx, req, func(res *http.Response) error {
		switch res.StatusCode {
		case http.StatusOK:
			n = res.ContentLength
		case http.StatusNotFound:
		default:
			return fmt.Errorf("the server answers %s", res.Status)
		}
		return nil
	})
	return n, err
}

// place returns the address of a file in a datastore, and the data center that has it.
func (v *visit) place(ctx context.Context, file string) (*url.URL, *types.ManagedObjectReference, error) {
	up, err := mo.Ancestors(ctx, v.Client, v.ServiceContent.PropertyCollector, v.ref)
	if err != nil {
		return nil, nil, say(ctx, "cannot find the data center of "+v.vm.Name, err)
	}
	var names []string
	for _, e := range up { // from the root folder, which has no name in a path
		if e.Parent != nil {
			names = append(names, e.Name)
		}
		if e.Self.Type == "Datacenter" {
			var p object.DatastorePath
			p.FromString(file)
			u := *v.conn.URL()
			u.Path = path.Join("/folder", p.Path)
			u.RawQuery = url.Values{"dcPath": {strings.Join(names, "/")}, "dsName": {p.Datastore}}.Encode()
			return &u, &e.Self, nil
		}
	}
	return nil, nil, fmt.Errorf("%s is in no data center that the account sees: give it System.View there", v.vm.Name)
}

// sweep deletes images of ours from the machine's folder: also of calls that were cut off.
func (v *visit) sweep(ctx context.Context) error {
	folder := path.Dir(v.vm.Config.Files.VmPathName)
	what := "cannot look for rescue images in " + folder
	browser, err := v.browser(ctx)
	if err != nil {
		return say(ctx, what, err)
	}
	res, err := methods.SearchDatastore_Task(ctx, v.Client, &types.SearchDatastore_Task{This: browser, DatastorePath: folder,
		SearchSpec: &types.HostDatastoreBrowserSearchSpec{MatchPattern: []string{isoPrefix + "*.iso"}}})
	if err != nil {
		return say(ctx, what, err)
	}
	info, err := v.result(ctx, res.Returnval)
	if err != nil {
		return say(ctx, what, err)
	}
	found, _ := info.(types.HostDatastoreBrowserSearchResults)
	for _, f := range found.File {
		name := path.Join(folder, f.GetFileInfo().Path)
		_, dc, err := v.place(ctx, name)
		if err != nil {
			return err
		}
		res, err := methods.DeleteDatastoreFile_Task(ctx, v.Client, &types.DeleteDatastoreFile_Task{This: *v.ServiceContent.FileManager, Name: name, Datacenter: dc})
		if err == nil {
			err = v.await(ctx, res.Returnval)
		}
		if err != nil && !fault.Is(err, &types.FileNotFound{}) {
			return say(ctx, "cannot delete "+name, err)
		}
	}
	return nil
}

// browser returns what looks into the datastore of the machine's own folder.
func (v *visit) browser(ctx context.Context) (types.ManagedObjectReference, error) {
	var home object.DatastorePath
	home.FromString(v.vm.Config.Files.VmPathName)
	all, err := source.Collect(ctx, v.Client, types.PropertyFilterSpec{
		ObjectSet: []types.ObjectSpec{{Obj: v.ref, Skip: types.NewBool(true), SelectSet: []types.BaseSelectionSpec{&types.TraversalSpec{Type: "VirtualMachine", Path: "datastore"}}}},
		PropSet:   []types.PropertySpec{{Type: "Datastore", PathSet: []string{"name", "browser"}}}})
	if err != nil {
		return types.ManagedObjectReference{}, err
	}
	for _, o := range all {
		var ds mo.Datastore
		if err := mo.LoadObjectContent([]types.ObjectContent{o}, &ds); err != nil {
			return types.ManagedObjectReference{}, err
		}
		if ds.Name == home.Datastore {
			return ds.Browser, nil
		}
	}
	return types.ManagedObjectReference{}, fmt.Errorf("the account does not see datastore %s", home.Datastore)
}
