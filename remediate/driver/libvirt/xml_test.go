package libvirt

import (
	"slices"
	"strings"
	"testing"
)

const sample = `<domain type='kvm'>
  <name>ws1</name>
  <os>
    <type arch='x86_64'>hvm</type>
    <boot dev='hd'/>
  </os>
  <devices>
    <emulator>/usr/bin/qemu</emulator>
    <disk type='file' device='cdrom'><target dev='sda' bus='sata'/><readonly/></disk>
    <!-- <disk type='file'><source file='/not/this'/></disk> -->
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw' cache='none' iothread='1' queues='4'/>
      <source file='/images/a &amp; b.img'><seclabel model='dac' relabel='no'/></source>
      <target dev='vda' bus='virtio'/>
      <serial>WD-1</serial>
      <boot order='10'/>
      <iotune><total_iops_sec>100</total_iops_sec></iotune>
      <address type='pci' domain='0x0000' bus='0x04' slot='0x00' function='0x0'/>
    </disk>
    <disk type='network' device='disk'>
      <driver name='qemu' type='raw'/>
      <auth username='u'><secret type='ceph' uuid='x'/></auth>
      <source protocol='rbd' name='pool/b'><host name='m1' port='6789'/></source>
      <target dev='vdb' bus='virtio'/>
      <boot order='2'/>
    </disk>
    <disk type='block' device='disk'><source dev='/dev/vg/c'/><target dev='sdc' bus='scsi'/><address type='drive' controller='0' bus='0' target='7' unit='0'/></disk>
    <controller type='scsi' index='0' model='virtio-scsi'/>
    <tpm model='tpm-crb'><backend type='emulator'/></tpm>
  </devices>
</domain>`

func TestSystemDisk(t *testing.T) {
	d, err := parseDomain(sample)
	if err != nil {
		t.Fatal(err)
	}
	for target, want := range map[string]string{"": "rbd:pool/b m1:6789", "vda": "/images/a & b.img", "sdc": "/dev/vg/c"} {
		if k, _, err := d.system(target); err != nil || k.source != want {
			t.Errorf("%q: %q, %v, want %q", target, k.source, err, want)
		}
	}
	for _, target := range []string{"vdz", "sda"} { // not there; a CD
		if _, _, err := d.system(target); err == nil {
			t.Errorf("%q was found", target)
		}
	}
	if !d.tpm || !d.scsi || !d.hasBoot() || len(d.disks) != 4 {
		t.Errorf("%+v", d)
	}
}

// What a disk is, and how it is opened, goes along to the helper; where it hung stays behind.
func TestLentDisk(t *testing.T) {
	d, err := parseDomain(sample)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct{ has, hasNot []string }{1: {
		[]string{"<driver name='qemu' type='raw' cache='none'/>", "<source file='/images/a &amp; b.img'><seclabel model='dac' relabel='no'/></source>", "<serial>unbrick-1</serial>"},
		[]string{"WD-1", "boot", "iotune", "0x04", "iothread", "queues"},
	}, 2: {
		[]string{"<auth username='u'>", "<host name='m1' port='6789'/>", "<disk type='network'", "bus='scsi'"}, []string{"boot"},
	}} {
		if len(c.has) == 0 {
			continue
		}
		got, err := lentDisk(d.disks[i].text, "unbrick-1", d)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range c.has {
			if !strings.Contains(got, s) {
				t.Errorf("%q is not in\n%s", s, got)
			}
		}
		for _, s := range c.hasNot {
			if strings.Contains(got, s) {
				t.Errorf("%q is in\n%s", s, got)
			}
		}
	}
}

// Every place on a helper is found, and none twice.
func TestFree(t *testing.T) {
	d := domain{scsi: true, targets: []int{3}}
	seen := map[string]bool{}
	for range maxTarget - 1 {
		text, err := d.free("unbrick-1")
		if err != nil || seen[text] {
			t.Fatalf("%s, %v, after %d", text, err, len(seen))
		}
		seen[text] = true
		if err := d.add(span{0, 0}); err == nil {
			t.Fatal("nothing is no disk")
		}
		d.text = "<disk>" + text + "</disk>"
		if err := d.add(span{0, len(d.text)}); err != nil {
			t.Fatal(err)
		}
		d.targets = append(d.targets, targetOf(t, text))
	}
	if text, err := d.free("unbrick-1"); err == nil {
		t.Errorf("one more place: %s", text)
	}
	for n, want := range map[int]string{0: "a", 25: "z", 26: "aa", 51: "az", 52: "ba", 701: "zz", 702: "aaa"} {
		if got := letters(n); got != want {
			t.Errorf("letters(%d) = %q, want %q", n, got, want)
		}
	}
}

func targetOf(t *testing.T, text string) int {
	t.Helper()
	d, err := parseDomain("<domain><os/><devices><disk>" + text + "</disk></devices></domain>")
	if err != nil || len(d.targets) != 1 {
		t.Fatal(text, err)
	}
	return d.targets[0]
}

// FuzzDomain has one law: of a domain that can be read, each disk can be taken off and put
// back, and then every disk is what and where it was.
func FuzzDomain(f *testing.F) {
	f.Add(sample)
	f.Add(`<domain><os/><devices/></domain>`)
	f.Add(`<domain><os><boot dev="hd"/></os><devices><disk type="file"><source file="a"/></disk><disk/></devices></domain>`)
	f.Add(`<!DOCTYPE x><domain><devices><disk><disk/></disk></devices><os></os></domain>`)
	f.Fuzz(func(t *testing.T, text string) {
		d, err := parseDomain(text)
		if err != nil {
			return
		}
		for i, k := range d.disks {
			less, err := parseDomain(d.without(k))
			if err != nil || len(less.disks) != len(d.disks)-1 {
				t.Fatalf("without disk %d: %v, %d disks of %d", i, err, len(less.disks), len(d.disks))
			}
			back, err := parseDomain(less.with(k.text, i, false))
			if err != nil || !slices.EqualFunc(back.disks, d.disks, func(a, b disk) bool { return a.text == b.text }) {
				t.Fatalf("with disk %d again: %v\n%s\n%s", i, err, text, less.with(k.text, i, false))
			}
			if _, err := parseDomain(less.with(k.text, i, true)); err != nil {
				t.Fatalf("without <boot>: %v", err)
			}
		}
	})
}
