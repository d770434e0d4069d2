package hyperv

import (
	"context"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"unbrick/remediate/swap"
)

//go:embed read.ps1
var readScript string

// A site is a hypervisor as read.ps1 tells of it.
type site struct {
	Computer string    `json:"computer"`
	VMs      []machine `json:"vms"`
	Detail   *detail   `json:"detail"` // of the instance; nil if it is not there
}

// A machine is a virtual machine.
type machine struct {
	ID          string  `json:"id"`
	Name        string  `json:"name"`
	State       string  `json:"state"`
	Generation  int     `json:"generation"`
	Clustered   bool    `json:"clustered"`
	Replication string  `json:"replication"`
	SCSI        int     `json:"scsi"` // controllers
	Drives      []drive `json:"drives"`
	DVDs        []int   `json:"dvds"` // locations
}

// A drive is what a disk hangs on.
type drive struct {
	Type         string `json:"type"` // IDE, SCSI or PMEM
	Number       int    `json:"number"`
	Location     int    `json:"location"`
	Path         string `json:"path"`
	Disk         string `json:"disk,omitempty"` // of the hypervisor, if it is passed through
	Reservations bool   `json:"reservations,omitempty"`
	Max          string `json:"max,omitempty"` // IOPS
	Min          string `json:"min,omitempty"`
	QoS          string `json:"qos,omitempty"`
}

// A detail is what is read of one virtual machine alone.
type detail struct {
	Checkpoints int     `json:"checkpoints"`
	Shielded    bool    `json:"shielded"`
	TPM         bool    `json:"tpm"`
	Boot        []entry `json:"boot"`
	Copy        bool    `json:"copy"`
}

// An entry is one of an order of boot.
type entry struct {
	Kind string `json:"kind"` // Drive, Network or File
	Key  string `json:"key"`  // SCSI:0:0, the id of the adapter, the path of the file
}

// place names a drive as entries and addresses do.
func (d drive) place() string { return fmt.Sprintf("%s:%d:%d", d.Type, d.Number, d.Location) }

// read asks the hypervisor how all stands. copied is a file of which it says whether it is there.
func (in *instance) read(ctx context.Context, copied string) (s site, err error) {
	out, err := in.run(ctx, in.at.host, "$id = "+quote(in.id)+"\r\n$copy = "+quote(copied)+"\r\n"+readScript)
	if err != nil {
		return s, in.say("cannot look at the virtual machines", err)
	}
	// A profile or a banner may have printed something before.
	_, out, ok := strings.Cut(out, "unbrick:")
	out, _, end := strings.Cut(out, ":unbrick")
	b, bad := base64.StdEncoding.DecodeString(out)
	if !ok || !end || bad != nil || json.Unmarshal(b, &s) != nil || s.Computer == "" {
		return s, in.say("cannot look at the virtual machines", errors.New("the script did not answer: is the Hyper-V module for PowerShell there (Install-WindowsFeature Hyper-V-PowerShell)?"))
	}
	return s, nil
}

// machine returns the instance itself.
func (s site) machine(in *instance) (machine, error) {
	for _, m := range s.VMs {
		if strings.EqualFold(m.ID, in.id) {
			return m, nil
		}
	}
	return machine{}, fmt.Errorf("the virtual machine %s is not on hypervisor %s any more: was it moved?", in.at.vm, in.at.host)
}

// find returns the drive that a file hangs on. Names of files do not differ by case.
func (m machine) find(path string) (drive, bool) {
	for _, d := range m.Drives {
		if strings.EqualFold(d.Path, path) {
			return d, true
		}
	}
	return drive{}, false
}

// at returns the drive at a place.
func (m machine) at(place string) (drive, bool) {
	for _, d := range m.Drives {
		if strings.EqualFold(d.place(), place) {
			return d, true
		}
	}
	return drive{}, false
}

// power says whether a virtual machine runs. One that is paused still has its disks.
func (m machine) power() swap.Power {
	switch strings.TrimSuffix(m.State, "Critical") { // its storage is away
	case "Off", "Saved", "FastSaved":
		return swap.Off
	case "Running", "Paused":
		return swap.On
	}
	return swap.Changing
}

// quote writes a text as a literal of PowerShell. It takes the curly quotes for quotes too.
func quote(text string) string {
	var b strings.Builder
	b.WriteByte('\'')
	for _, r := range text {
		if strings.ContainsRune("'\u2018\u2019\u201a\u201b", r) {
			b.WriteRune(r)
		}
		b.WriteRune(r)
	}
	b.WriteByte('\'')
	return b.String()
}
