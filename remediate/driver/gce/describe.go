package gce

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	api "unbrick/inventory/source/gce"
	"unbrick/remediate/swap"
)

// Describe implements swap.Instance.
func (in *instance) Describe(context.Context) (swap.Slot, error) {
	if err := in.view(); err != nil {
		return swap.Slot{}, err
	}
	in.fresh = true
	s, err := in.describe()
	if err != nil {
		return s, fmt.Errorf("the disk of instance %s is not swapped: %w", in.at, err)
	}
	return s, nil
}

func (in *instance) describe() (swap.Slot, error) {
	k := in.now.Boot()
	if k == nil {
		return swap.Slot{}, errors.New("it has no boot disk\nlook in the journal of the project who took it off (gcloud compute operations list), and hang it back")
	}
	if err := in.swappable(k); err != nil {
		return swap.Slot{}, err
	}
	volume := api.Partial(k.Source)
	var d disk
	if err := in.get(volume, &d); err != nil {
		return swap.Slot{}, in.say("cannot read disk "+volume, err)
	}
	if err := d.swappable(); err != nil {
		return swap.Slot{}, err
	}
	b, err := json.Marshal(detailOf(&in.now, k, d.ID))
	if err != nil {
		return swap.Slot{}, err
	}
	return swap.Slot{Volume: volume, Name: fmt.Sprintf("disk %s as %s of %s", api.Last(volume), k.DeviceName, in.at), Detail: b, Remark: in.remarks(k, d)}, nil
}

// swappable says why an instance must not be stopped, or its disk not taken off.
func (in *instance) swappable(k *api.AttachedDisk) error {
	i := &in.now
	manager := api.Last(i.Meta("created-by"))
	switch {
	case in.isHelper():
		return errors.New("it is a helper itself\nrepair it by another way in, or make other helpers")
	case strings.Contains(i.Meta("created-by"), "/instanceGroupManagers/"):
		return fmt.Errorf("the managed instance group %s keeps it: it would start or replace it while its disk is away\nrepair the image or disk that the group's template names and let the group replace its instances, or abandon this one first (gcloud compute instance-groups managed abandon-instances %s)", manager, manager)
	case i.Labels["goog-gke-node"] != "" || i.Meta("cluster-name") != "" && i.Meta("kube-env") != "":
		return errors.New("it is a node of a Kubernetes cluster\nlet its node pool replace it")
	case i.Status == "SUSPENDED" || i.Status == "SUSPENDING":
		return fmt.Errorf("it is %s: its memory would go on with a disk that has changed\nresume it and look, or stop it", strings.ToLower(i.Status))
	case hasScratch(i) && !in.opt.DiscardLocalSSD:
		return errors.New("it has local SSDs, and all on them is lost when it is stopped\nsave what is there, or say that it may be lost (discard_local_ssd)")
	case strings.EqualFold(i.Meta("enable-wsfc"), "true") && in.group == "":
		return errors.New("it is a member of a failover cluster (enable-wsfc), and the inventory does not say of which: its partner could be down at the same time\ngive both the same group in the inventory")
	}
	return hangable(k)
}

// hangable says why a disk cannot be hung on a helper and back.
func hangable(k *api.AttachedDisk) error {
	switch {
	case k.Type == "SCRATCH" || k.Source == "":
		return errors.New("it starts from a local SSD\nmake it anew")
	case k.Mode != "READ_WRITE":
		return errors.New("its boot disk is read-only\nrepair the image that it is made from")
	case k.Key != nil && k.Key.KMS == "" && k.Key.SHA256 != "":
		return errors.New("its disk is encrypted with a key of your own (CSEK), which unbrick does not have\nswap it by hand with --csek-key-file, or repair it by another way in")
	case k.Shielded != nil:
		return errors.New("its disk brings Secure Boot keys of its own, which the reference does not say are kept when it is taken off\nrepair it by another way in")
	}
	return nil
}

func (d disk) swappable() error {
	switch {
	case len(d.Users) > 1 || d.MultiWriter || d.Access == "READ_WRITE_MANY":
		return errors.New("its disk is shared by several instances: two would write to it\nrepair it on one of them, by another way in")
	case d.Confidential:
		return errors.New("its disk is in confidential mode, which only confidential instances open\nrepair it by another way in")
	case d.Status != "" && d.Status != "READY":
		return fmt.Errorf("its disk is %s\nwait until that has ended", strings.ToLower(d.Status))
	}
	return nil
}

func hasScratch(i *api.Instance) bool {
	return slices.ContainsFunc(i.Disks, func(d api.AttachedDisk) bool { return d.Type == "SCRATCH" })
}

// remarks say what a person should know before the instance is stopped.
func (in *instance) remarks(k *api.AttachedDisk, d disk) map[string]string {
	all := map[string]string{}
	if in.now.Shielded.VTPM {
		all["tpm"] = "the helper does not have it: a volume that BitLocker bound to it needs its recovery key"
	}
	if in.now.Confidential.On || in.now.Confidential.Type != "" {
		all["confidential"] = "its memory is encrypted; its disk can be read by the helper all the same"
	}
	if k.Key != nil && k.Key.KMS != "" {
		all["key"] = "the disk is encrypted with " + k.Key.KMS + ", which must be enabled"
	}
	for _, n := range in.now.Interfaces {
		for _, a := range n.Access {
			if a.IP != "" {
				all["address"] = a.IP + " is lost when it is stopped unless it is reserved (gcloud compute addresses create --addresses=" + a.IP + ")"
			}
		}
	}
	if in.now.Scheduling.Model == "SPOT" {
		all["spot"] = "it may not start again while its zone is short of machines"
	}
	if hasScratch(&in.now) {
		all["ssd"] = "all on its local SSDs is lost"
	}
	var licences []string
	for _, l := range d.Licenses {
		licences = append(licences, api.Last(l))
	}
	if len(licences) > 0 {
		all["licences"] = strings.Join(licences, " ")
	}
	return all
}

const labelPrefix = "label:"

// isHelper says whether the instance is one that disks are hung on.
func (in *instance) isHelper() bool { return in.named(&in.now) }

// named says whether the options name an instance as a helper.
func (in *instance) named(i *api.Instance) bool {
	return slices.ContainsFunc(in.opt.Helpers, func(h string) bool {
		key, value, _ := strings.Cut(strings.TrimPrefix(h, labelPrefix), "=")
		got, has := i.Labels[key]
		return h == i.Name || h == i.ID || strings.HasPrefix(h, labelPrefix) && has && got == value
	})
}

// Helpers implements swap.Instance: those that run in the zone of the instance. One that starts
// Windows is none: a faulty sensor would stop it too, and Windows takes a disk that has the same
// signature as another for the same and changes it.
func (in *instance) Helpers(context.Context) ([]swap.Helper, error) {
	var all []swap.Helper
	seen := map[string]bool{in.now.ID: true}
	for _, name := range in.opt.Helpers {
		found, err := in.find(name)
		if err != nil {
			return nil, err
		}
		for _, h := range found {
			if seen[h.ID] || h.Status != "RUNNING" {
				continue
			}
			seen[h.ID] = true
			if boot := h.Boot(); boot != nil && boot.Windows() {
				return nil, fmt.Errorf("the helper %s runs Windows, which may have the same fault as its guests\nmake one that starts the helper image of unbrick", h.Name)
			}
			lent := 0
			for _, k := range h.Disks {
				if strings.HasPrefix(k.DeviceName, markPrefix) && !k.Boot {
					lent++
				}
			}
			all = append(all, swap.Helper{Name: h.Name, Lent: lent})
		}
	}
	return all, nil
}

// find returns the instances in the zone that one of the options names.
func (in *instance) find(name string) ([]api.Instance, error) {
	if label, ok := strings.CutPrefix(name, labelPrefix); ok {
		key, value, _ := strings.Cut(label, "=")
		var list struct {
			Items []api.Instance `json:"items"`
		}
		q := url.Values{"filter": {fmt.Sprintf(`labels.%s="%s"`, key, value)}}
		err := in.client.Get(in.ctx, fmt.Sprintf("projects/%s/zones/%s/instances", url.PathEscape(in.at.project), url.PathEscape(in.at.zone)), q, &list)
		return list.Items, in.say("cannot look for helpers with "+name, err)
	}
	var h api.Instance
	err := in.get(in.at.in("instances", name), &h)
	if api.Is(err, http.StatusNotFound) {
		return nil, nil
	}
	return []api.Instance{h}, in.say("cannot look for the helper "+name, err)
}
