package libvirt

import (
	"context"
	"encoding/json"
	"fmt"

	lib "github.com/digitalocean/go-libvirt"

	"unbrick/remediate/swap"
)

// Describe implements swap.Instance.
func (in *instance) Describe(context.Context) (swap.Slot, error) {
	if err := in.swappable(); err != nil {
		return swap.Slot{}, fmt.Errorf("the disk of domain %s is not swapped: %w", in.dom.Name, err)
	}
	d, err := in.defined(in.dom)
	if err != nil {
		return swap.Slot{}, err
	}
	k, place, err := d.system(in.at.disk)
	if err == nil {
		err = k.swappable()
	}
	if err == nil {
		err = in.alone(k.source)
	}
	if err == nil {
		err = in.quiet(k)
	}
	if err != nil {
		return swap.Slot{}, fmt.Errorf("the disk of domain %s is not swapped: %w", in.dom.Name, err)
	}
	b, err := json.Marshal(detail{Disk: k.text, Place: place, Bootless: !d.hasBoot(), Domain: d.text})
	if err != nil {
		return swap.Slot{}, err
	}
	s := swap.Slot{Volume: k.source, Name: fmt.Sprintf("%s as %s of %s", k.source, k.target, in.dom.Name), Detail: b}
	if d.tpm {
		s.Remark = map[string]string{"tpm": "the helper does not have it: a volume that BitLocker bound to it needs its recovery key"}
	}
	return s, nil
}

// swappable says why a domain's disk cannot be taken off it and put back as it was.
func (in *instance) swappable() error {
	persistent, err := in.DomainIsPersistent(in.dom)
	if err != nil {
		return in.say("cannot ask whether it is defined", err)
	}
	if persistent == 0 {
		return fmt.Errorf("it is transient: it would be gone when it is stopped\ndefine it first (virsh dumpxml, virsh define), or let what made it make it anew")
	}
	saved, err := in.DomainHasManagedSaveImage(in.dom, 0)
	if err != nil && !is(err, lib.ErrNoSupport) {
		return in.say("cannot ask for its saved memory", err)
	}
	if err == nil && saved != 0 {
		return fmt.Errorf("its memory was saved, and would go on with a disk that has changed\nstart it and look, or drop what was saved (virsh managedsave-remove)")
	}
	return nil
}

// swappable says why a disk cannot be hung elsewhere.
func (k disk) swappable() error {
	switch {
	case k.source == "":
		return fmt.Errorf("disk %s is of type %q, which cannot be hung on a helper\nrepair it by another way in", k.target, k.kind)
	case k.device == "lun":
		return fmt.Errorf("disk %s is passed through whole\nhang it on a helper by hand, or repair it by another way in", k.target)
	case k.shared:
		return fmt.Errorf("disk %s is shared with other domains: two would write to it\nrepair it on one of them, by another way in", k.target)
	case k.fleeting:
		return fmt.Errorf("disk %s is transient: what is written to it is thrown away\nrepair the image that it is made from", k.target)
	case k.readonly:
		return fmt.Errorf("disk %s is read-only\nrepair the image that it is made from", k.target)
	}
	return nil
}

// alone makes sure that no other domain has the disk on a source.
func (in *instance) alone(source string) error {
	all, _, err := in.ConnectListAllDomains(1, 0)
	if err != nil {
		return in.say("cannot list the domains", err)
	}
	for _, dom := range all {
		if dom.UUID == in.dom.UUID {
			continue
		}
		for _, flags := range []lib.DomainXMLFlags{lib.DomainXMLInactive, 0} {
			d, err := in.xml(dom, flags)
			if is(err, lib.ErrNoDomain, lib.ErrOperationInvalid) {
				continue // it went just now
			}
			if err != nil {
				return err
			}
			if _, i := d.find(source); i >= 0 {
				return fmt.Errorf("domain %s has %s too\ntake it off there, or give the host the address of the domain that it is", dom.Name, source)
			}
			if dom.ID < 0 {
				break // it does not run
			}
		}
	}
	return nil
}

// quiet makes sure that nothing is being done to the domain that a stop would break.
func (in *instance) quiet(k disk) error {
	power, err := in.power(in.dom)
	if err != nil || power == swap.Off {
		return err
	}
	const passing = "wait until it has ended, or end it"
	kind, _, _, _, _, _, _, _, _, _, _, _, err := in.DomainGetJobInfo(in.dom)
	if err != nil && !is(err, lib.ErrNoSupport, lib.ErrOperationInvalid) {
		return in.say("cannot ask for its jobs", err)
	}
	if err == nil && kind != int32(lib.DomainJobNone) {
		return fmt.Errorf("a job is at work on it: it is migrated, saved or dumped, or a snapshot is made\n%s (virsh domjobinfo, domjobabort)", passing)
	}
	found, _, _, _, _, err := in.DomainGetBlockJobInfo(in.dom, k.target, 0)
	if err != nil && !is(err, lib.ErrNoSupport, lib.ErrOperationInvalid) {
		return in.say("cannot ask for the block jobs of its disk", err)
	}
	if err == nil && found != 0 {
		return fmt.Errorf("a block job is at work on disk %s\n%s (virsh blockjob)", k.target, passing)
	}
	return nil
}
