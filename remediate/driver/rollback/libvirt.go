package rollback

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	lib "github.com/digitalocean/go-libvirt"

	source "unbrick/inventory/source/libvirt"
	"unbrick/remediate"
)

// Libvirt returns the platform of libvirt's domains. Addresses are those of the way libvirt.
//
// It goes back to snapshots inside the images (internal ones, of qcow2), and makes the one of the
// present so. Overlays are refused: libvirt before 9.9 cannot go back to them at all. A snapshot
// that has the memory of then is loaded, paused, and powered off: Windows starts from its disks
// as after a power cut. Libvirt also puts back how the domain was defined, so a snapshot from
// before a disk was added or taken away is refused. Proved on libvirt 9.0.0 with QEMU 7.2.
func Libvirt() Platform { return libvirt{} }

type libvirt struct{}

// Reach implements Platform.
func (libvirt) Reach(ctx context.Context, t remediate.Target) (Machine, error) {
	u, name, err := parseURI(t.Route.Address)
	if err != nil {
		return nil, err
	}
	l, hang, err := source.Dial(ctx, u)
	if err != nil {
		return nil, &remediate.RetryError{After: 10 * time.Second, Err: err}
	}
	m := &domain{Libvirt: l, ctx: ctx, hang: hang}
	m.dom, err = l.DomainLookupByName(name)
	if id, bad := hex.DecodeString(strings.ReplaceAll(name, "-", "")); is(err, lib.ErrNoDomain) && bad == nil && len(id) == lib.UUIDBuflen {
		m.dom, err = l.DomainLookupByUUID(lib.UUID(id))
	}
	if err != nil {
		hang()
	}
	if is(err, lib.ErrNoDomain) {
		return nil, fmt.Errorf("there is no domain %q: was it moved to another hypervisor? correct the address of the route", name)
	}
	return m, m.say("cannot look for domain "+name, err)
}

// parseURI takes an address apart: the hypervisor's URI, and a domain's name or UUID.
func parseURI(address string) (*url.URL, string, error) {
	const hint = "write qemu+unix:///system?name=DOMAIN or qemu://HYPERVISOR/DOMAIN"
	u, err := url.Parse(address)
	if err != nil {
		return nil, "", errors.New("that is no address of a libvirt domain\n" + hint) // it may have a password in it
	}
	address = u.Redacted()
	if u.Scheme == "" || u.User != nil || u.Opaque != "" {
		return nil, "", fmt.Errorf("%q is no address of a libvirt domain\n%s", address, hint)
	}
	q := u.Query()
	name := q.Get("name")
	if rest := strings.Trim(u.Path, "/"); !slices.Contains([]string{"system", "session", "default"}, rest) {
		if rest != "" && name != "" {
			return nil, "", fmt.Errorf("%q names two domains\n%s", address, hint)
		}
		name, u.Path = name+rest, "/system"
	}
	if name == "" {
		return nil, "", fmt.Errorf("%q names no domain\n%s", address, hint)
	}
	q.Del("name")
	u.RawQuery = q.Encode()
	return u, name, nil
}

// A domain is one during one call. Its connection is cut when the call's context ends.
type domain struct {
	*lib.Libvirt
	ctx  context.Context
	hang func()
	dom  lib.Domain
}

// Close implements Machine.
func (m *domain) Close() error {
	m.hang()
	return nil
}

// Look implements Machine.
func (m *domain) Look(context.Context) (s State, err error) {
	u := hex.EncodeToString(m.dom.UUID[:])
	s.ID = fmt.Sprintf("libvirt %s-%s-%s-%s-%s", u[:8], u[8:12], u[12:16], u[16:20], u[20:])
	s.Name = m.dom.Name
	if s.Power, err = m.power(); err != nil {
		return s, err
	}
	text, err := m.DomainGetXMLDesc(m.dom, lib.DomainXMLInactive)
	if err != nil {
		return s, m.say("cannot read the XML of domain "+s.Name, err)
	}
	x, err := parseDomain(text)
	if err != nil {
		return s, err
	}
	if len(x.TPM) > 0 {
		s.Remark = map[string]string{"tpm": "it stays as it is now: what was sealed to it since the snapshot is not known to the disk"}
	}
	if s.Snapshots, err = m.snapshots(x); err == nil {
		s.Refused, err = m.refused(x, s)
	}
	return s, err
}

// power says whether the domain runs.
func (m *domain) power() (Power, error) {
	state, _, err := m.DomainGetState(m.dom, 0)
	if err != nil {
		return "", m.say("cannot ask how domain "+m.dom.Name+" stands", err)
	}
	switch lib.DomainState(state) {
	case lib.DomainShutoff:
		return Off, nil
	case lib.DomainPaused, lib.DomainCrashed, lib.DomainPmsuspended:
		return m.busy(Paused)
	}
	return m.busy(On)
}

// busy is Changing while a job is at work on the domain: a migration, a save, a backup.
func (m *domain) busy(p Power) (Power, error) {
	kind, _, _, _, _, _, _, _, _, _, _, _, err := m.DomainGetJobInfo(m.dom)
	switch {
	case is(err, lib.ErrNoSupport, lib.ErrOperationInvalid):
		return p, nil
	case err != nil:
		return p, m.say("cannot ask for the jobs of domain "+m.dom.Name, err)
	case kind != int32(lib.DomainJobNone):
		return Changing, nil
	}
	return p, nil
}

// snapshots returns those of the domain, which is defined as now.
func (m *domain) snapshots(now domainXML) (all []Snapshot, err error) {
	list, _, err := m.DomainListAllSnapshots(m.dom, 1, uint32(lib.DomainSnapshotListTopological)) // its times are seconds
	if err != nil {
		return nil, m.say("cannot list the snapshots of domain "+m.dom.Name, err)
	}
	current := ""
	if has, err := m.DomainHasCurrentSnapshot(m.dom, 0); err != nil {
		return nil, m.say("cannot ask for the current snapshot of domain "+m.dom.Name, err)
	} else if has != 0 {
		one, err := m.DomainSnapshotCurrent(m.dom, 0)
		if err != nil {
			return nil, m.say("cannot ask for the current snapshot of domain "+m.dom.Name, err)
		}
		current = one.Name
	}
	for _, one := range list {
		text, err := m.DomainSnapshotGetXMLDesc(one, 0)
		if err != nil {
			return nil, m.say("cannot read snapshot "+one.Name, err)
		}
		x, err := parseSnapshot(text)
		if err != nil {
			return nil, err
		}
		all = append(all, Snapshot{ID: one.Name, Name: one.Name, Made: time.Unix(x.Created, 0).UTC(),
			Memory: x.Memory.Kind == "internal", Current: one.Name == current, Refused: x.refused(now)})
	}
	slices.SortStableFunc(all, func(a, b Snapshot) int { return a.Made.Compare(b.Made) })
	return all, nil
}

// refused says why the domain must not go back to any snapshot.
func (m *domain) refused(x domainXML, s State) (string, error) {
	persistent, err := m.DomainIsPersistent(m.dom)
	if err != nil {
		return "", m.say("cannot ask whether domain "+s.Name+" is defined", err)
	}
	if persistent == 0 {
		return "it is transient, and would be gone when it is stopped\ndefine it first (virsh dumpxml, virsh define)", nil
	}
	saved, err := m.DomainHasManagedSaveImage(m.dom, 0)
	if err != nil && !is(err, lib.ErrNoSupport) {
		return "", m.say("cannot ask for the saved memory of domain "+s.Name, err)
	}
	if err == nil && saved != 0 {
		return "its memory was saved, and would go on with disks that have changed\nstart it and look, or drop what was saved (virsh managedsave-remove)", nil
	}
	for _, k := range x.Disks {
		if k.Shareable != nil {
			return fmt.Sprintf("disk %s is shared with other domains, which would not go back\nrepair it by another way in", k.Target.Dev), nil
		}
		found, _, _, _, _, err := m.DomainGetBlockJobInfo(m.dom, k.Target.Dev, 0)
		if err != nil && !is(err, lib.ErrNoSupport, lib.ErrOperationInvalid, lib.ErrInvalidArg) {
			return "", m.say("cannot ask for the block jobs of domain "+s.Name, err)
		}
		if err == nil && found != 0 {
			return fmt.Sprintf("a block job is at work on disk %s\nwait until it has ended, or end it (virsh blockjob)", k.Target.Dev), nil
		}
	}
	return "", nil
}

// Do implements Machine.
func (m *domain) Do(_ context.Context, step Step, snapshot string) error {
	name := m.dom.Name
	switch step {
	case Stop:
		err := m.DomainDestroyFlags(m.dom, lib.DomainDestroyGraceful)
		return m.say("cannot stop domain "+name, err)
	case Start:
		return m.say("cannot start domain "+name, m.DomainCreate(m.dom))
	case Keep:
		text := fmt.Sprintf("<domainsnapshot><name>%s</name><description>by unbrick, before it went back to an older one</description></domainsnapshot>", snapshot)
		_, err := m.DomainSnapshotCreateXML(m.dom, text, 0)
		return m.say("cannot make a snapshot of the present of domain "+name+", so it does not go back", err)
	case Back:
		one, err := m.DomainSnapshotLookupByName(m.dom, snapshot, 0)
		if err == nil {
			err = m.back(one)
		}
		return m.say(fmt.Sprintf("domain %s cannot go back to snapshot %s", name, snapshot), err)
	}
	return fmt.Errorf("libvirt knows no step %q", step)
}

// back has libvirt load a snapshot. One with memory starts, and is paused for that.
func (m *domain) back(one lib.DomainSnapshot) error {
	text, err := m.DomainSnapshotGetXMLDesc(one, 0)
	if err != nil {
		return err
	}
	x, err := parseSnapshot(text)
	if err != nil {
		return err
	}
	flags := lib.DomainSnapshotRevertFlags(0)
	if x.State != "shutoff" {
		flags = lib.DomainSnapshotRevertPaused
	}
	return m.DomainRevertToSnapshot(one, uint32(flags))
}

// say puts an error of libvirt into words: one that may pass is a *remediate.RetryError.
func (m *domain) say(what string, err error) error {
	var said lib.Error
	switch {
	case err == nil:
		return nil
	case m.ctx.Err() != nil:
		return fmt.Errorf("%s: %w", what, context.Cause(m.ctx))
	case !errors.As(err, &said):
		return &remediate.RetryError{After: 5 * time.Second, Err: fmt.Errorf("%s: the connection to libvirt broke: %w", what, err)}
	case is(err, lib.ErrOperationTimeout, lib.ErrInternalError, lib.ErrOperationFailed):
		return &remediate.RetryError{After: 5 * time.Second, Err: fmt.Errorf("%s: %w", what, err)}
	}
	return fmt.Errorf("%s: %w", what, err)
}

// is says whether an error is one of libvirt's with one of these codes.
func is(err error, codes ...lib.ErrorNumber) bool {
	var said lib.Error
	return errors.As(err, &said) && slices.Contains(codes, lib.ErrorNumber(said.Code))
}
