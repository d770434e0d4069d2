package vsphere

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/pbm"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	source "unbrick/inventory/source/vsphere"
)

// A site is a server, and what this process remembers of it.
type site struct {
	conn *source.Conn
	opt  Options

	mu      sync.Mutex
	helpers []helper
	asked   time.Time // for the helpers
	locks   map[types.ManagedObjectReference]chan struct{}
	holders map[types.ManagedObjectReference]holders
	pbm     *pbm.Client
	begun   map[types.ManagedObjectReference]string // tasks on helpers, with the file each is about
	known   []string                                // labels of all machines
	knownAt time.Time
}

// begin remembers that this process set a task going, until it is told the end.
func (s *site) begin(task types.ManagedObjectReference, file string) (end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.begun == nil {
		s.begun = map[types.ManagedObjectReference]string{}
	}
	s.begun[task] = file
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.begun, task)
	}
}

// others says whether this process began a task for another disk.
func (in *instance) others(task types.ManagedObjectReference) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	file, known := in.begun[task]
	return known && file != in.disk.file
}

// A helper is a machine that disks are hung on.
type helper struct {
	ref  types.ManagedObjectReference
	name string
}

// helpersOf returns the machines that are helpers by their names, without the instance itself.
// What was found is good for maxAge, since other processes may use helpers that are newer; 0: for
// as long as there was any.
func (s *site) helpersOf(ctx context.Context, in *instance, maxAge time.Duration) ([]helper, error) {
	s.mu.Lock()
	known, fresh := s.helpers, len(s.helpers) > 0 && (maxAge == 0 || time.Since(s.asked) < maxAge)
	s.mu.Unlock()
	if !fresh {
		var err error
		if known, err = in.nameHelpers(ctx); err != nil {
			return nil, err
		}
		s.mu.Lock()
		s.helpers, s.asked = known, time.Now()
		s.mu.Unlock()
	}
	return slices.DeleteFunc(slices.Clone(known), func(h helper) bool { return h.ref == in.ref }), nil
}

// nameHelpers looks for the helpers on the server: all that have only a name, in one request.
func (in *instance) nameHelpers(ctx context.Context) ([]helper, error) {
	var names []string
	spec := types.PropertyFilterSpec{PropSet: []types.PropertySpec{{Type: "VirtualMachine", PathSet: []string{"name"}}}}
	for _, h := range in.opt.Helpers {
		ref, named, err := in.helperAt(ctx, h)
		switch {
		case err != nil:
			return nil, say(ctx, "cannot look for the helper "+h, err)
		case named:
			names = append(names, h)
		case ref != nil:
			spec.ObjectSet = append(spec.ObjectSet, types.ObjectSpec{Obj: *ref})
		}
	}
	if len(names) > 0 {
		spec.ObjectSet = append(spec.ObjectSet, source.Below(in.ServiceContent.RootFolder))
	}
	if len(spec.ObjectSet) == 0 {
		return nil, nil
	}
	all, err := source.Collect(ctx, in.Client, spec)
	if err != nil {
		return nil, say(ctx, "cannot look for helpers", err)
	}
	return in.pick(all, names, spec.ObjectSet)
}

// helperAt returns the helper that a UUID or a path leads to, if there is one; named says that
// it is neither.
func (in *instance) helperAt(ctx context.Context, h string) (ref *types.ManagedObjectReference, named bool, err error) {
	switch {
	case uuid.MatchString(h):
		ref, err = byUUID(ctx, in.Client, h, true)
		return ref, false, err
	case strings.HasPrefix(h, "/"):
		res, err := methods.FindByInventoryPath(ctx, in.Client, &types.FindByInventoryPath{This: *in.ServiceContent.SearchIndex, InventoryPath: h})
		if err != nil {
			return nil, false, err
		}
		return res.Returnval, false, nil
	}
	return nil, true, nil
}

// pick returns of what was read those that are helpers by name, or were asked for themselves.
func (in *instance) pick(all []types.ObjectContent, names []string, asked []types.ObjectSpec) (helpers []helper, err error) {
	seen := map[string]bool{}
	for _, o := range all {
		var name string
		for _, p := range o.PropSet {
			name, _ = p.Val.(string)
		}
		self := slices.ContainsFunc(asked, func(a types.ObjectSpec) bool { return a.Obj == o.Obj })
		if o.Obj.Type != "VirtualMachine" || !self && !slices.Contains(names, name) || slices.Contains(helpers, helper{o.Obj, name}) {
			continue
		}
		if seen[name] {
			return nil, fmt.Errorf("%s has two helpers called %s, and their agents could not be told apart: give one another name", in.conn.Host(), name)
		}
		seen[name] = true
		helpers = append(helpers, helper{o.Obj, name})
	}
	return helpers, nil
}

// lock keeps the others of this process off a helper, on which vSphere changes one thing at a
// time and refuses what comes meanwhile, and off what is remembered of a datastore.
func (s *site) lock(ctx context.Context, ref types.ManagedObjectReference) (unlock func(), err error) {
	s.mu.Lock()
	if s.locks == nil {
		s.locks = map[types.ManagedObjectReference]chan struct{}{}
	}
	l := s.locks[ref]
	if l == nil {
		l = make(chan struct{}, 1)
		s.locks[ref] = l
	}
	s.mu.Unlock()
	select {
	case l <- struct{}{}:
		return func() { <-l }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// holders are the machines on a datastore by what is below their disks.
type holders struct {
	of map[string][]holder // by file
	at time.Time
}

type holder struct {
	ref  types.ManagedObjectReference
	name string
}

// How old what is known of other machines may be: where nothing is changed yet, and where a disk
// is about to be hung up. vSphere's locks do the rest, for machines that run.
const (
	leisurely = 5 * time.Minute
	soon      = time.Minute
)

// alone makes sure that no other machine has the disk, or one that is made on top of it. Helpers
// are looked at elsewhere, and not for this.
func (in *instance) alone(ctx context.Context, v volume, maxAge time.Duration) error {
	if v.datastore == nil {
		return nil
	}
	h, err := in.onDatastore(ctx, *v.datastore, maxAge)
	if err != nil {
		return err
	}
	helpers, err := in.helpersOf(ctx, in, 0)
	if err != nil {
		return err
	}
	for _, one := range h.of[v.file] {
		if one.ref != in.ref && !slices.ContainsFunc(helpers, func(h helper) bool { return h.ref == one.ref }) {
			return fmt.Errorf("virtual machine %s has %s too, or a disk that is made on top of it\ntake it off there, or give the host the address of the machine that it is", one.name, v.file)
		}
	}
	return nil
}

// onDatastore returns what is known of a datastore. Of all that ask at once, one reads.
func (in *instance) onDatastore(ctx context.Context, datastore types.ManagedObjectReference, maxAge time.Duration) (holders, error) {
	unlock, err := in.lock(ctx, datastore)
	if err != nil {
		return holders{}, err
	}
	defer unlock()
	in.mu.Lock()
	h := in.site.holders[datastore]
	in.mu.Unlock()
	if time.Since(h.at) <= maxAge {
		return h, nil
	}
	if h, err = in.readHolders(ctx, datastore); err != nil {
		return h, err
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.site.holders == nil {
		in.site.holders = map[types.ManagedObjectReference]holders{}
	}
	in.site.holders[datastore] = h
	return h, nil
}

// readHolders reads the disks of all machines that have files on a datastore.
func (in *instance) readHolders(ctx context.Context, datastore types.ManagedObjectReference) (holders, error) {
	all, err := source.Collect(ctx, in.Client, types.PropertyFilterSpec{
		ObjectSet: []types.ObjectSpec{{Obj: datastore, Skip: types.NewBool(true), SelectSet: []types.BaseSelectionSpec{&types.TraversalSpec{Type: "Datastore", Path: "vm"}}}},
		PropSet:   []types.PropertySpec{{Type: "VirtualMachine", PathSet: []string{"name", "config.hardware.device"}}}})
	if err != nil {
		return holders{}, say(ctx, "cannot see which machines are on datastore "+datastore.Value, err)
	}
	h := holders{of: map[string][]holder{}, at: time.Now()}
	for _, o := range all {
		var vm mo.VirtualMachine
		if err := mo.LoadObjectContent([]types.ObjectContent{o}, &vm); err != nil {
			return h, say(ctx, "cannot read "+o.Obj.Value, err)
		}
		for _, d := range disks(vm) {
			for b := flat(d); b != nil; b = b.Parent {
				h.of[b.FileName] = append(h.of[b.FileName], holder{vm.Self, vm.Name})
			}
		}
	}
	return h, nil
}
