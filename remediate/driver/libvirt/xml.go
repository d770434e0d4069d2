package libvirt

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// A domain is the XML of one, with the places in it that a swap changes. The rest is kept to
// the letter: libvirt's schema is larger than any program's idea of it.
type domain struct {
	text    string
	disks   []disk
	os      span  // <os>
	devices int   // where the content of <devices> begins
	tpm     bool  // it has one
	scsi    bool  // a virtio-scsi controller 0
	targets []int // in use on that
}

// A span is where an element stands, from its first character to behind its last.
type span struct{ from, to int }

func (s span) of(text string) string { return text[s.from:s.to] }

// A disk is one <disk> of a domain.
type disk struct {
	span
	text     string // of the element
	kind     string // file, block, network, volume
	device   string // disk, cdrom, floppy, lun
	source   string // what it is on, in one line, the same wherever it hangs; empty: nothing
	target   string // vda
	serial   string
	order    string // of boot
	shared   bool
	readonly bool
	fleeting bool // <transient/>: what is written is thrown away
}

// diskXML is what is read of a <disk>.
type diskXML struct {
	Type   string `xml:"type,attr"`
	Device string `xml:"device,attr"`
	Source struct {
		File     string `xml:"file,attr"`
		Dev      string `xml:"dev,attr"`
		Protocol string `xml:"protocol,attr"`
		Name     string `xml:"name,attr"`
		Pool     string `xml:"pool,attr"`
		Volume   string `xml:"volume,attr"`
		Hosts    []struct {
			Name string `xml:"name,attr"`
			Port string `xml:"port,attr"`
		} `xml:"host"`
	} `xml:"source"`
	Target struct {
		Dev string `xml:"dev,attr"`
	} `xml:"target"`
	Serial string `xml:"serial"`
	Boot   struct {
		Order string `xml:"order,attr"`
	} `xml:"boot"`
	Address struct {
		Type       string `xml:"type,attr"`
		Controller string `xml:"controller,attr"`
		Target     int    `xml:"target,attr"`
	} `xml:"address"`
	Shareable *struct{} `xml:"shareable"`
	ReadOnly  *struct{} `xml:"readonly"`
	Transient *struct{} `xml:"transient"`
}

// parseDomain reads a domain's XML as libvirt writes it.
func parseDomain(text string) (domain, error) {
	d := domain{text: text}
	err := elements(text, func(path string, s span, inner int) error {
		switch path {
		case "domain/os":
			d.os = s
		case "domain/devices":
			d.devices = inner
		case "domain/devices/tpm":
			d.tpm = true
		case "domain/devices/controller":
			d.scsi = d.scsi || isSCSI(s.of(text))
		case "domain/devices/disk":
			return d.add(s)
		}
		return nil
	})
	if err == nil && (d.devices == 0 || d.os.to == 0) {
		err = errors.New("it has no <os> or no <devices>")
	}
	if err != nil {
		return d, fmt.Errorf("cannot read the XML of a domain: %w", err)
	}
	return d, nil
}

// elements calls visit for each element when it ends, with its path, where it stands, and where
// its content begins.
func elements(text string, visit func(path string, s span, inner int) error) error {
	type open struct {
		path        string
		from, inner int
	}
	var stack []open
	dec := xml.NewDecoder(strings.NewReader(text))
	for {
		from := int(dec.InputOffset())
		tok, err := dec.Token()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			path := tok.Name.Local
			if len(stack) > 0 {
				path = stack[len(stack)-1].path + "/" + path
			}
			stack = append(stack, open{path, from, int(dec.InputOffset())})
		case xml.EndElement:
			o := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			if err := visit(o.path, span{o.from, int(dec.InputOffset())}, o.inner); err != nil {
				return err
			}
		}
	}
}

func isSCSI(text string) bool {
	var c struct {
		Type  string `xml:"type,attr"`
		Index string `xml:"index,attr"`
		Model string `xml:"model,attr"`
	}
	err := xml.Unmarshal([]byte(text), &c)
	return err == nil && c.Type == "scsi" && c.Index == "0" && strings.HasPrefix(c.Model, "virtio")
}

func (d *domain) add(s span) error {
	var x diskXML
	text := s.of(d.text)
	if err := xml.Unmarshal([]byte(text), &x); err != nil {
		return err
	}
	if x.Address.Type == "drive" && x.Address.Controller == "0" {
		d.targets = append(d.targets, x.Address.Target)
	}
	d.disks = append(d.disks, disk{
		span: s, text: text, kind: x.Type, device: x.Device, source: x.name(), target: x.Target.Dev,
		serial: x.Serial, order: x.Boot.Order,
		shared: x.Shareable != nil, readonly: x.ReadOnly != nil, fleeting: x.Transient != nil,
	})
	return nil
}

// name is what the disk is on.
func (x diskXML) name() string {
	s := x.Source
	switch x.Type {
	case "file":
		return s.File
	case "block":
		return s.Dev
	case "volume":
		return "pool " + s.Pool + " volume " + s.Volume
	case "network":
		name := s.Protocol + ":" + s.Name
		for _, h := range s.Hosts {
			name += " " + h.Name + ":" + h.Port
		}
		return name
	}
	return ""
}

// find returns the disk on a source, and its place among the disks; -1 if there is none.
func (d domain) find(source string) (disk, int) {
	for i, k := range d.disks {
		if k.source == source && source != "" {
			return k, i
		}
	}
	return disk{}, -1
}

// system returns the disk that Windows starts from: the one that is asked for, the first in
// the order of boot, or the first.
func (d domain) system(target string) (disk, int, error) {
	best := -1
	for i, k := range d.disks {
		switch {
		case k.device != "disk" && k.device != "lun":
		case target != "" && k.target == target:
			return k, i, nil
		case best < 0 || k.order != "" && (d.disks[best].order == "" || len(k.order) < len(d.disks[best].order) ||
			len(k.order) == len(d.disks[best].order) && k.order < d.disks[best].order):
			best = i
		}
	}
	if target != "" {
		return disk{}, -1, fmt.Errorf("it has no disk %s", target)
	}
	if best < 0 {
		return disk{}, -1, errors.New("it has no disk of its own")
	}
	return d.disks[best], best, nil
}

// without returns the XML without one of its disks.
func (d domain) without(k disk) string {
	return strings.TrimRight(d.text[:k.from], " \t") + strings.TrimLeft(d.text[k.to:], " \t\n")
}

// with returns the XML with a disk in that place among its disks. Where a disk says when it
// boots, libvirt takes no <boot dev> in <os>, and puts one there as soon as no disk says so:
// it goes again.
func (d domain) with(element string, place int, bootless bool) string {
	at := d.devices
	if n := len(d.disks); n > 0 && place < n {
		at = d.disks[place].from
	} else if n > 0 {
		at = d.disks[n-1].to
	}
	text := d.text[:at] + element + d.text[at:]
	if bootless && d.os.to <= at { // it stands before <devices>, so nothing has moved
		text = text[:d.os.from] + withoutBoot(d.os.of(d.text)) + text[d.os.to:]
	}
	return text
}

// withoutBoot returns an <os> without its <boot> elements.
func withoutBoot(text string) string {
	var b strings.Builder
	last := 0
	_ = elements(text, func(path string, s span, _ int) error { // it was read once
		if path == "os/boot" {
			b.WriteString(text[last:s.from])
			last = s.to
		}
		return nil
	})
	b.WriteString(text[last:])
	return b.String()
}

// hasBoot says whether <os> names a device to boot.
func (d domain) hasBoot() bool { return withoutBoot(d.os.of(d.text)) != d.os.of(d.text) }
