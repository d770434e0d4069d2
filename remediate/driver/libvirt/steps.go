package libvirt

import (
	"context"
	"fmt"
	"strings"

	lib "github.com/digitalocean/go-libvirt"

	"unbrick/remediate/swap"
)

// Do implements swap.Instance.
func (in *instance) Do(_ context.Context, step swap.Step, e swap.Entry, helper string) error {
	switch step {
	case swap.Stop:
		// Not harder than need be: QEMU writes out what it holds when it is asked to end.
		return in.say("cannot stop domain "+in.dom.Name, in.DomainDestroyFlags(in.dom, lib.DomainDestroyGraceful))
	case swap.Start:
		return in.say("cannot start domain "+in.dom.Name, in.DomainCreate(in.dom))
	case swap.Snap:
		return in.snap(e)
	case swap.Release:
		return in.release(e)
	case swap.Return:
		return in.giveBack(e)
	case swap.Lend:
		return in.lend(e, helper)
	case swap.Recover:
		return in.recover(e, helper)
	}
	return fmt.Errorf("libvirt knows no step %q", step)
}

// hasSnapshot says whether the domain has a snapshot of that name.
func (in *instance) hasSnapshot(name string) (bool, error) {
	_, err := in.DomainSnapshotLookupByName(in.dom, name, 0)
	if is(err, lib.ErrNoDomainSnapshot) {
		return false, nil
	}
	return err == nil, in.say("cannot look for snapshot "+name, err)
}

// snap makes a snapshot while the domain is off, inside the images of its disks: libvirt makes
// one of all of them or of none, and only of qcow2.
func (in *instance) snap(e swap.Entry) error {
	text := fmt.Sprintf("<domainsnapshot><name>%s</name><description>by unbrick, before it repairs a disk; virsh snapshot-delete removes it</description></domainsnapshot>", e.Mark)
	_, err := in.DomainSnapshotCreateXML(in.dom, text, 0)
	return in.say("cannot make a snapshot of domain "+in.dom.Name+" (libvirt needs all its disks to be qcow2 for that: run without snapshots, or copy the disk yourself)", err)
}

// release defines the domain anew without the disk.
func (in *instance) release(e swap.Entry) error {
	d, err := in.xml(in.dom, lib.DomainXMLInactive|lib.DomainXMLSecure)
	if err != nil {
		return err
	}
	k, i := d.find(e.Slot.Volume)
	if i < 0 {
		return nil
	}
	return in.define(d.without(k))
}

// giveBack defines the domain anew with the disk as it hung, and makes sure of it.
func (in *instance) giveBack(e swap.Entry) error {
	was, err := readDetail(e.Slot)
	if err != nil {
		return err
	}
	d, err := in.xml(in.dom, lib.DomainXMLInactive|lib.DomainXMLSecure)
	if err != nil {
		return err
	}
	if _, i := d.find(e.Slot.Volume); i >= 0 {
		return nil
	}
	if err := in.alone(e.Slot.Volume); err != nil { // a helper that is no longer one may have it
		return fmt.Errorf("the disk of domain %s is not put back yet: %w", in.dom.Name, err)
	}
	if err := in.define(d.with(was.Disk, was.Place, was.Bootless)); err != nil {
		return err
	}
	if d, err = in.defined(in.dom); err != nil {
		return err
	}
	if k, _ := d.find(e.Slot.Volume); k.text != was.Disk {
		return fmt.Errorf("disk %s is back on domain %s, but not as it was: libvirt made of it\n%s\nand it was\n%s", e.Slot.Volume, in.dom.Name, k.text, was.Disk)
	}
	return nil
}

func (in *instance) define(text string) error {
	_, err := in.DomainDefineXMLFlags(text, 0)
	return in.say("cannot define domain "+in.dom.Name+" anew", err)
}

// lendTries is how often a place on the helper is looked for, when another process took it in
// between.
const lendTries = 5

// lend hangs the disk on the helper, for as long as that runs.
func (in *instance) lend(e swap.Entry, name string) error {
	was, err := readDetail(e.Slot)
	if err != nil {
		return err
	}
	if err := in.alone(e.Slot.Volume); err != nil {
		return fmt.Errorf("the disk of domain %s is not hung on the helper: %w", in.dom.Name, err)
	}
	for try := 1; ; try++ {
		dom, d, err := in.helper(name)
		if err != nil {
			return err
		}
		element, err := lentDisk(was.Disk, e.Mark, d)
		if err != nil {
			return err
		}
		err = in.DomainAttachDeviceFlags(dom, element, uint32(lib.DomainAffectLive))
		if err == nil || try == lendTries || !is(err, lib.ErrXMLError, lib.ErrOperationFailed) {
			return in.say(fmt.Sprintf("cannot hang %s on the helper %s", e.Slot.Volume, name), err)
		}
	}
}

// recover takes the disk off the helper.
func (in *instance) recover(e swap.Entry, name string) error {
	dom, d, err := in.helper(name)
	if err != nil {
		return err
	}
	k, i := d.find(e.Slot.Volume)
	if i < 0 || !strings.HasPrefix(k.serial, markPrefix) {
		return nil
	}
	err = in.DomainDetachDeviceFlags(dom, k.text, uint32(lib.DomainAffectLive))
	return in.say(fmt.Sprintf("cannot take %s off the helper %s", e.Slot.Volume, name), err)
}

func (in *instance) helper(name string) (lib.Domain, domain, error) {
	dom, err := in.DomainLookupByName(name)
	if err != nil {
		return dom, domain{}, in.say("cannot look for the helper "+name, err)
	}
	d, err := in.running(dom)
	return dom, d, err
}

// Removal returns the command that removes the snapshot of an entry, on the hypervisor.
func Removal(e swap.Entry) string {
	return fmt.Sprintf("virsh snapshot-delete %s %s", strings.TrimPrefix(e.Instance, "libvirt "), e.Mark)
}
