package gce

import (
	"strings"
)

// An Instance is what is read of one.
type Instance struct {
	ID       string            `json:"id"` // a number that no other instance ever has
	Name     string            `json:"name"`
	Zone     string            `json:"zone"`     // a link
	SelfLink string            `json:"selfLink"` // a link
	Status   string            `json:"status"`   // RUNNING, TERMINATED, …
	Labels   map[string]string `json:"labels"`
	Tags     struct {
		Items []string `json:"items"`
	} `json:"tags"`
	Hostname    string         `json:"hostname"` // if it is not the name with Google's domain
	MachineType string         `json:"machineType"`
	Disks       []AttachedDisk `json:"disks"`
	Metadata    struct {
		Items []struct {
			Key   string `json:"key"`
			Value string `json:"value"`
		} `json:"items"`
	} `json:"metadata"`
	Interfaces []struct {
		IP     string `json:"networkIP"`
		Access []struct {
			IP string `json:"natIP"`
		} `json:"accessConfigs"`
	} `json:"networkInterfaces"`
	Scheduling struct {
		Model string `json:"provisioningModel"` // SPOT
	} `json:"scheduling"`
	Confidential struct {
		On   bool   `json:"enableConfidentialCompute"`
		Type string `json:"confidentialInstanceType"`
	} `json:"confidentialInstanceConfig"`
	Shielded struct {
		VTPM bool `json:"enableVtpm"`
	} `json:"shieldedInstanceConfig"`

	LastStart string `json:"lastStartTimestamp"`
	LastStop  string `json:"lastStopTimestamp"`
}

// An AttachedDisk is how a disk hangs on an instance.
type AttachedDisk struct {
	Type       string   `json:"type"` // PERSISTENT, SCRATCH: a local SSD
	Mode       string   `json:"mode"`
	Source     string   `json:"source"` // a link to the disk
	DeviceName string   `json:"deviceName"`
	Index      int      `json:"index"`
	Boot       bool     `json:"boot"`
	AutoDelete bool     `json:"autoDelete"`
	Interface  string   `json:"interface"`
	Licenses   []string `json:"licenses"`
	Features   []struct {
		Type string `json:"type"`
	} `json:"guestOsFeatures"`
	Key *struct {
		KMS    string `json:"kmsKeyName"`
		SHA256 string `json:"sha256"`
	} `json:"diskEncryptionKey"`
	Shielded *struct{} `json:"shieldedInstanceInitialState"` // Secure Boot keys of its own
}

// Windows says whether a disk tells that Windows is on it: by a licence, or by the feature that
// images of Windows have.
func (d AttachedDisk) Windows() bool {
	for _, l := range d.Licenses {
		if strings.Contains(l, "windows") {
			return true
		}
	}
	for _, f := range d.Features {
		if f.Type == "WINDOWS" {
			return true
		}
	}
	return false
}

// Boot returns the disk that the instance starts from, nil if it has none.
func (i *Instance) Boot() *AttachedDisk {
	for n := range i.Disks {
		if i.Disks[n].Boot {
			return &i.Disks[n]
		}
	}
	return nil
}

// Meta returns a value of the instance's metadata.
func (i *Instance) Meta(key string) string {
	for _, m := range i.Metadata.Items {
		if m.Key == key {
			return m.Value
		}
	}
	return ""
}

// Partial returns what of a link is the same however the API was reached: "projects/p/…".
func Partial(link string) string {
	if i := strings.Index(link, "projects/"); i >= 0 {
		return link[i:]
	}
	return link
}

// Last returns the last part of a link: the name of what it leads to.
func Last(link string) string { return link[strings.LastIndexByte(link, '/')+1:] }

// Region returns the region of a zone: europe-west1 for europe-west1-b.
func Region(zone string) string {
	if i := strings.LastIndexByte(zone, '-'); i > 0 {
		return zone[:i]
	}
	return zone
}
