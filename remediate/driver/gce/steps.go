package gce

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"

	api "unbrick/inventory/source/gce"
	"unbrick/remediate"
	"unbrick/remediate/swap"
)

// Do implements swap.Instance. It returns when a step is done.
func (in *instance) Do(_ context.Context, step swap.Step, e swap.Entry, helper string) error {
	in.fresh, in.ended = false, false
	err := in.do(step, e, helper)
	in.held, in.by = nil, nil
	in.ended = err == nil && (step == swap.Stop || step == swap.Release || step == swap.Return)
	return err
}

func (in *instance) do(step swap.Step, e swap.Entry, helper string) error {
	switch step {
	case swap.Stop:
		// Windows does not answer, and is not given the minutes that it may have to end.
		q := url.Values{"noGracefulShutdown": {"true"}}
		if in.opt.DiscardLocalSSD && hasScratch(&in.now) {
			q.Set("discardLocalSsd", "true")
		}
		return in.change("cannot stop instance "+in.at.String(), in.path("stop"), q, nil, e.Mark, in.now.ID, in.now.LastStart)
	case swap.Start:
		if err := in.asItWas(e); err != nil {
			return err
		}
		return in.change("cannot start instance "+in.at.String(), in.path("start"), nil, nil, e.Mark, in.now.ID, in.now.LastStart, in.now.LastStop)
	case swap.Snap:
		return in.snap(e)
	case swap.Release:
		return in.release(e)
	case swap.Lend:
		return in.lend(e, helper)
	case swap.Recover:
		return in.recover(e, helper)
	case swap.Return:
		return in.giveBack(e)
	}
	return fmt.Errorf("compute engine knows no step %q", step)
}

func (in *instance) path(method string) string {
	return in.at.in("instances", in.now.Name) + "/" + method
}

// busy says whether something is being done to the instance.
func (in *instance) busy() (bool, error) {
	var list struct {
		Items []operation `json:"items"`
	}
	q := url.Values{"filter": {fmt.Sprintf(`targetLink="%s" AND status!="DONE"`, in.now.SelfLink)}}
	err := in.client.Get(in.ctx, fmt.Sprintf("projects/%s/zones/%s/operations", url.PathEscape(in.at.project), url.PathEscape(in.at.zone)), q, &list)
	if err != nil {
		return false, in.say("cannot list the operations on instance "+in.at.String(), err)
	}
	return len(list.Items) > 0, nil
}

func (in *instance) release(e swap.Entry) error {
	k := hung(&in.now, e.Slot.Volume)
	if k == nil {
		return nil
	}
	return in.change("cannot take "+e.Slot.Name+" off", in.path("detachDisk"), url.Values{"deviceName": {k.DeviceName}}, nil,
		e.Mark, "release", in.now.LastStop)
}

// An attachment is the body of attachDisk.
type attachment struct {
	Source     string `json:"source"`
	DeviceName string `json:"deviceName"`
	Type       string `json:"type"`
	Mode       string `json:"mode"`
	AutoDelete bool   `json:"autoDelete"`
	Boot       bool   `json:"boot,omitempty"`
	Interface  string `json:"interface,omitempty"`
}

// lend hangs the disk on the helper, by the interface that the helper's machine type has. It is
// not deleted with the helper.
func (in *instance) lend(e swap.Entry, helper string) error {
	d, err := in.lastDisk(e)
	if err != nil {
		return err
	}
	return in.change(fmt.Sprintf("cannot hang %s on the helper %s", e.Slot.Volume, helper), in.at.in("instances", helper)+"/attachDisk", nil,
		attachment{Source: e.Slot.Volume, DeviceName: e.Mark, Type: "PERSISTENT", Mode: "READ_WRITE"}, e.Mark, "lend", d.LastDetach)
}

func (in *instance) recover(e swap.Entry, helper string) error {
	var h api.Instance
	if in.by != nil && in.by.Name == helper {
		h = *in.by
	} else if err := in.get(in.at.in("instances", helper), &h); err != nil {
		return in.say("cannot read the helper "+helper, err)
	}
	k := hung(&h, e.Slot.Volume)
	if k == nil || !strings.HasPrefix(k.DeviceName, markPrefix) {
		return nil
	}
	d, err := in.lastDisk(e)
	if err != nil {
		return err
	}
	return in.change(fmt.Sprintf("cannot take %s off the helper %s", e.Slot.Volume, helper), in.at.in("instances", helper)+"/detachDisk",
		url.Values{"deviceName": {k.DeviceName}}, nil, e.Mark, "recover", d.LastAttach)
}

// giveBack hangs the disk on its instance as it hung.
func (in *instance) giveBack(e swap.Entry) error {
	was, err := readDetail(e.Slot)
	if err != nil {
		return err
	}
	d, err := in.lastDisk(e)
	if err != nil {
		return err
	}
	err = in.change("cannot hang back "+e.Slot.Name, in.path("attachDisk"), nil, attachment{Source: e.Slot.Volume, DeviceName: was.DeviceName,
		Type: "PERSISTENT", Mode: was.Mode, AutoDelete: was.AutoDelete, Boot: true, Interface: was.Interface}, e.Mark, "return", d.LastDetach)
	if err != nil {
		return err
	}
	if err := in.read(); err != nil {
		return err
	}
	if hung(&in.now, e.Slot.Volume) == nil {
		return nil // not shown yet: Look waits for it, and the start looks how it hangs
	}
	err = in.asItWas(e)
	in.fresh = err == nil
	return err
}

// asItWas makes sure that the disk hangs as its slot says. Whether it is deleted with the
// instance can be put right; the reference does not promise that attachDisk heeds it.
func (in *instance) asItWas(e swap.Entry) error {
	k := hung(&in.now, e.Slot.Volume)
	if e.Slot.Volume == "" || k == nil {
		return nil
	}
	was, err := readDetail(e.Slot)
	if err != nil {
		return err
	}
	if k.AutoDelete != was.AutoDelete {
		q := url.Values{"deviceName": {k.DeviceName}, "autoDelete": {strconv.FormatBool(was.AutoDelete)}}
		if err := in.change("cannot set whether "+e.Slot.Name+" is deleted with it", in.path("setDiskAutoDelete"), q, nil, e.Mark, "autodelete", in.now.LastStop); err != nil {
			return err
		}
		k.AutoDelete = was.AutoDelete
	}
	if is := detailOf(&in.now, k, was.Disk); !reflect.DeepEqual(is, was) || !k.Boot {
		return fmt.Errorf("disk %s is back on %s, but not as it was: it is %s and was %s; the instance is not started\nput it right, then run again", e.Slot.Volume, in.at, text(is), e.Slot.Detail)
	}
	return nil
}

func text(d detail) string {
	b, _ := json.Marshal(d) // numbers, texts and a truth
	return string(b)
}

// lookSnapshot says whether the snapshot of an entry is ready. While it is made the disk stays.
func (in *instance) lookSnapshot(e swap.Entry, s *swap.State) error {
	status, err := in.snapshot(e)
	if err != nil {
		return err
	}
	switch status {
	case "":
	case "READY":
		s.Snapshot = true
	case "FAILED":
		return fmt.Errorf("snapshot %s of %s failed\nremove it (%s) and run again, or run without snapshots", e.Mark, e.Slot.Name, Removal(e))
	default:
		s.Volume = swap.Moving
	}
	return nil
}

// snapshot returns the status of the snapshot of an entry, empty if there is none.
func (in *instance) snapshot(e swap.Entry) (string, error) {
	var found struct {
		Status string `json:"status"`
		Source string `json:"sourceDisk"`
	}
	err := in.get(fmt.Sprintf("projects/%s/global/snapshots/%s", url.PathEscape(in.at.project), e.Mark), &found)
	switch {
	case api.Is(err, http.StatusNotFound):
		return "", nil
	case err != nil:
		return "", in.say("cannot look for snapshot "+e.Mark, err)
	case api.Partial(found.Source) != e.Slot.Volume:
		return "", fmt.Errorf("there is a snapshot %s, of another disk (%s): remove it", e.Mark, found.Source)
	}
	return found.Status, nil
}

func (in *instance) snap(e swap.Entry) error {
	body := map[string]any{
		"name": e.Mark, "description": "by unbrick, before it repairs the disk of " + in.now.Name,
		"labels": map[string]string{"unbrick": e.Mark},
	}
	err := in.change("cannot make a snapshot of "+e.Slot.Name, e.Slot.Volume+"/createSnapshot", nil, body, e.Mark, "snap")
	if api.Is(err, http.StatusConflict) { // it is being made
		return &remediate.RetryError{After: 5 * time.Second, Err: err}
	}
	return err
}

// Removal returns the command that removes the snapshot of an entry.
func Removal(e swap.Entry) string {
	a, err := parseAddress(e.Address)
	if err != nil {
		return "gcloud compute snapshots delete " + e.Mark
	}
	return fmt.Sprintf("gcloud compute snapshots delete %s --project=%s --quiet", e.Mark, a.project)
}
