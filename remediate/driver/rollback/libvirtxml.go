package rollback

import (
	"encoding/xml"
	"fmt"
	"slices"
)

// A domainXML is what is read of a domain's XML.
type domainXML struct {
	Disks []diskXML  `xml:"devices>disk"`
	TPM   []struct{} `xml:"devices>tpm"`
}

type diskXML struct {
	Device string `xml:"device,attr"`
	Source struct {
		File   string `xml:"file,attr"`
		Dev    string `xml:"dev,attr"`
		Name   string `xml:"name,attr"`
		Pool   string `xml:"pool,attr"`
		Volume string `xml:"volume,attr"`
	} `xml:"source"`
	Target struct {
		Dev string `xml:"dev,attr"`
	} `xml:"target"`
	ReadOnly  *struct{} `xml:"readonly"`
	Shareable *struct{} `xml:"shareable"`
}

func parseDomain(text string) (x domainXML, err error) {
	if err = xml.Unmarshal([]byte(text), &x); err != nil {
		err = fmt.Errorf("cannot read the XML of a domain: %w", err)
	}
	x.Disks = slices.DeleteFunc(x.Disks, func(k diskXML) bool {
		return k.Device == "cdrom" || k.Device == "floppy" || k.ReadOnly != nil // nothing is written to it
	})
	return x, err
}

// on is where a domain has a disk, and what it is on.
func (k diskXML) on() string {
	s := k.Source
	return k.Target.Dev + " on " + s.File + s.Dev + s.Name + s.Pool + s.Volume
}

// A snapshotXML is what is read of a snapshot's XML.
type snapshotXML struct {
	Name    string `xml:"name"`
	State   string `xml:"state"` // of the domain, then; or disk-snapshot
	Created int64  `xml:"creationTime"`
	Memory  struct {
		Kind string `xml:"snapshot,attr"` // no, internal or external
	} `xml:"memory"`
	Disks  []keptDisk `xml:"disks>disk"`
	Domain *struct {
		Inner string `xml:",innerxml"`
	} `xml:"domain"`
}

type keptDisk struct {
	Name string `xml:"name,attr"`     // vda
	Kind string `xml:"snapshot,attr"` // no, internal, external or manual
}

func parseSnapshot(text string) (x snapshotXML, err error) {
	if err = xml.Unmarshal([]byte(text), &x); err != nil {
		err = fmt.Errorf("cannot read the XML of a snapshot: %w", err)
	}
	return x, err
}

// refused says why a domain that is defined as now must not go back to the snapshot.
func (x snapshotXML) refused(now domainXML) string {
	if x.Memory.Kind == "external" || x.State == "disk-snapshot" {
		return external
	}
	if x.Domain == nil {
		return "it does not say how the domain was defined\ngo back to it by hand (virsh snapshot-revert --force), if its disks are still the same"
	}
	then, err := parseDomain("<domain>" + x.Domain.Inner + "</domain>")
	if err != nil {
		return err.Error()
	}
	for _, k := range then.Disks {
		i := slices.IndexFunc(x.Disks, func(one keptDisk) bool { return one.Name == k.Target.Dev })
		switch {
		case i >= 0 && (x.Disks[i].Kind == "external" || x.Disks[i].Kind == "manual"):
			return external
		case i >= 0 && x.Disks[i].Kind == "no":
			return fmt.Sprintf("it leaves out disk %s, which would stay as it is now\nrepair the host by another way in", k.Target.Dev)
		}
	}
	is, was := places(now), places(then)
	if !slices.Equal(is, was) {
		return fmt.Sprintf("the domain had other disks then: %q, and now %q\nmake them the same again, or go back by hand (virsh snapshot-revert)", was, is)
	}
	return ""
}

const external = "it is kept outside the image (external), and what is written since is in an overlay\nshut the domain off and have its disk point to the image below, by hand, or repair the host by another way in"

// places lists what disks a domain has, and where.
func places(x domainXML) (all []string) {
	for _, k := range x.Disks {
		all = append(all, k.on())
	}
	slices.Sort(all)
	return all
}
