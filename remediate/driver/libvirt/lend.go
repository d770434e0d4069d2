package libvirt

import (
	"encoding/xml"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
)

// carried are the parts of a disk that it takes along to the helper: what it is on, how that is
// opened, and the size of its sectors. Where it hung, when it booted and how fast it may be
// stay behind.
var carried = []string{"disk/source", "disk/backingStore", "disk/auth", "disk/encryption", "disk/blockio"}

// driverKept are the attributes of <driver> that have nothing to do with the bus.
var driverKept = []string{"name", "type", "cache", "io", "discard", "detect_zeroes"}

// lentDisk returns the XML of a disk for the helper, with its mark as serial number.
func lentDisk(element, mark string, helper domain) (string, error) {
	var head struct {
		Type   string `xml:"type,attr"`
		Driver struct {
			Attrs []xml.Attr `xml:",any,attr"`
		} `xml:"driver"`
	}
	if err := xml.Unmarshal([]byte(element), &head); err != nil {
		return "", fmt.Errorf("cannot read the XML of a disk: %w", err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "<disk type=%s device='disk'>\n<driver", quoted(head.Type))
	for _, a := range head.Driver.Attrs {
		if slices.Contains(driverKept, a.Name.Local) {
			fmt.Fprintf(&b, " %s=%s", a.Name.Local, quoted(a.Value))
		}
	}
	b.WriteString("/>\n")
	err := elements(element, func(path string, s span, _ int) error {
		if slices.Contains(carried, path) {
			b.WriteString(s.of(element) + "\n")
		}
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("cannot read the XML of a disk: %w", err)
	}
	place, err := helper.free(mark)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(&b, "%s\n<serial>%s</serial>\n</disk>\n", place, mark)
	return b.String(), nil
}

func quoted(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder takes all
	return "'" + b.String() + "'"
}

// maxTarget is the highest target of a virtio-scsi controller.
const maxTarget = 255

// free returns a place for one more disk: on the virtio-scsi controller, from which QEMU takes
// a disk without asking the guest, or else on PCI. It begins to look at a place that the mark
// says: disks that are hung up at the same time do not all want the same one.
func (d domain) free(mark string) (string, error) {
	h := fnv.New32a()
	h.Write([]byte(mark))
	for i := range maxTarget {
		n := 1 + (int(h.Sum32()%maxTarget)+i)%maxTarget // 0 is for the helper's own
		name := "vd" + letters(n)
		if d.scsi {
			name = "sd" + letters(n)
		}
		if slices.ContainsFunc(d.disks, func(k disk) bool { return k.target == name }) || d.scsi && slices.Contains(d.targets, n) {
			continue
		}
		if !d.scsi {
			return fmt.Sprintf("<target dev='%s' bus='virtio'/>", name), nil
		}
		return fmt.Sprintf("<target dev='%s' bus='scsi'/>\n<address type='drive' controller='0' bus='0' target='%d' unit='0'/>", name, n), nil
	}
	return "", errors.New("the helper has no place for another disk")
}

// letters names the i-th disk: a, b, …, z, aa, ab, …
func letters(i int) string {
	s := ""
	for i++; i > 0; i = (i - 1) / 26 {
		s = string(rune('a'+(i-1)%26)) + s
	}
	return s
}
