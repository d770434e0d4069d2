package proxmox

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	api "unbrick/inventory/source/proxmox"
	"unbrick/remediate/swap"
)

// A guest is the configuration of one.
type guest struct {
	api.Resource
	digest string
	keys   map[string]setting
}

// A setting is a key of it. Of a guest that runs, what could not be changed at once is pending.
type setting struct {
	value   string // in effect
	pending string // from the next start on
	leaving bool   // deleted from the next start on
}

// read reads a guest's configuration.
func (in *instance) read(ctx context.Context, r api.Resource) (guest, error) {
	var rows []struct {
		Key     string `json:"key"`
		Value   any    `json:"value"`
		Pending any    `json:"pending"`
		Delete  any    `json:"delete"`
	}
	g := guest{Resource: r, keys: map[string]setting{}}
	if err := in.Get(ctx, r.Path()+"/pending", &rows); err != nil {
		return g, in.say("cannot read the configuration of "+name(r), err)
	}
	for _, row := range rows {
		g.keys[row.Key] = setting{scalar(row.Value), scalar(row.Pending), row.Delete != nil && scalar(row.Delete) != "0"}
	}
	g.digest = g.keys["digest"].value
	if g.digest == "" {
		return g, fmt.Errorf("the configuration of %s on cluster %s comes without a digest: a release of Proxmox VE before 6.2 is not known here", name(r), in.Name())
	}
	return g, nil
}

// scalar is the text of a value, which may come as a number.
func scalar(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return ""
}

// on says whether a key is set to a true value.
func (g guest) on(key string) bool { return g.keys[key].value == "1" }

var drives = regexp.MustCompile(`^(ide[0-3]|sata[0-5]|scsi([0-9]|[12][0-9]|30)|virtio([0-9]|1[0-5]))$`)

// isDrive says whether a key is one that a disk or a drive hangs on.
func isDrive(key string) bool { return drives.MatchString(key) }

// find returns the key that a volume hangs on, in effect or pending; empty if it does not.
func (g guest) find(volume string) (key string, s setting) {
	for k, s := range g.keys {
		if !isDrive(k) {
			continue
		}
		value, _ := api.Properties(s.value)
		pending, _ := api.Properties(s.pending)
		if fileOf(s.value, value) == volume || fileOf(s.pending, pending) == volume {
			return k, s
		}
	}
	return "", setting{}
}

// fileOf is the volume of a drive: it may be named.
func fileOf(drive, first string) string {
	if first != "" {
		return first
	}
	_, p := api.Properties(drive)
	return p["file"]
}

// A drive is what hangs on a key.
type drive struct {
	key, text string
	volume    string
	options   map[string]string
}

func parseDrive(key, text string) drive {
	first, options := api.Properties(text)
	return drive{key, text, fileOf(text, first), options}
}

// isDisk says whether it is a disk of the guest's own: no CD-ROM drive, and not that of
// cloud-init.
func (d drive) isDisk() bool {
	return d.volume != "" && d.volume != "none" && d.options["media"] != "cdrom" && !strings.Contains(d.volume, "cloudinit")
}

// system returns the disk that Windows starts from: the one that is asked for, the first in the
// order of boot, or the only one there is.
func (g guest) system(asked string) (drive, error) {
	var disks []drive
	for key, s := range g.keys {
		if d := parseDrive(key, s.value); isDrive(key) && s.value != "" && d.isDisk() {
			disks = append(disks, d)
		}
	}
	at := func(key string) int { return slices.IndexFunc(disks, func(d drive) bool { return d.key == key }) }
	if asked != "" {
		if i := at(asked); i >= 0 {
			return disks[i], nil
		}
		return drive{}, fmt.Errorf("it has no disk %s", asked)
	}
	_, boot := api.Properties(g.keys["boot"].value)
	for _, key := range append(strings.Split(boot["order"], ";"), g.keys["bootdisk"].value) {
		if i := at(key); i >= 0 {
			return disks[i], nil
		}
	}
	if len(disks) == 1 {
		return disks[0], nil
	}
	return drive{}, fmt.Errorf("%d disks hang on it, and none is in its order of boot\nsay which one Windows starts from: put ?disk=scsi0 behind the address of the route", len(disks))
}

// A status is how a guest stands.
type status struct {
	Status string `json:"status"` // running or stopped
	Lock   string `json:"lock"`
	HA     struct {
		Managed any    `json:"managed"`
		State   string `json:"state"`
	} `json:"ha"`
}

func (in *instance) status(ctx context.Context, r api.Resource) (s status, err error) {
	err = in.Get(ctx, r.Path()+"/status/current", &s)
	return s, in.say("cannot ask how "+name(r)+" stands", err)
}

func (s status) power() swap.Power {
	if s.Status == "stopped" {
		return swap.Off
	}
	return swap.On
}

// A task is an operation of the cluster that takes long.
type task struct {
	UPID string `json:"upid"`
	Type string `json:"type"` // qmstart, qmstop, qmconfig, qmsnapshot, …
	ID   string `json:"id"`
	Ends int64  `json:"endtime"`
}

// tasks returns those at work on a guest now, as far as they are the token's own or it has
// Sys.Audit.
func (in *instance) tasks(ctx context.Context, r api.Resource) (at []task, err error) {
	var all []task
	id := strconv.Itoa(r.VMID)
	err = in.Get(ctx, "/nodes/"+url.PathEscape(r.Node)+"/tasks?source=active&vmid="+id, &all)
	for _, t := range all {
		if t.ID == id && t.Ends == 0 {
			at = append(at, t)
		}
	}
	return at, in.say("cannot list the tasks of "+name(r), err)
}

// configures says whether one of the tasks changes a configuration.
func configures(all []task) bool {
	return slices.ContainsFunc(all, func(t task) bool { return t.Type == "qmconfig" })
}

// run sets a task going and returns when it has ended well. When ctx ends first, the task goes
// on: tasks finds it.
func (in *instance) run(ctx context.Context, r api.Resource, call string, form url.Values, what string) error {
	var upid string // none if it has ended already
	if err := in.Post(ctx, r.Path()+call, form, &upid); err != nil || upid == "" {
		return in.say(what, err)
	}
	for {
		var s struct {
			Status string `json:"status"`
			Exit   string `json:"exitstatus"`
		}
		err := in.Get(ctx, "/nodes/"+url.PathEscape(r.Node)+"/tasks/"+url.PathEscape(upid)+"/status", &s)
		switch {
		case err != nil:
			return in.say(what, err)
		case s.Status == "stopped" && (s.Exit == "OK" || strings.HasPrefix(s.Exit, "WARNINGS")):
			return nil
		case s.Status == "stopped":
			return in.say(what, &api.Error{Status: 500, Message: "the task ended with: " + api.Line(s.Exit)})
		}
		select {
		case <-time.After(in.opt.Every):
		case <-ctx.Done():
			return fmt.Errorf("%s on cluster %s: task %s is not done yet: %w", what, in.Name(), upid, context.Cause(ctx))
		}
	}
}

// set changes a configuration, if it is still the one that was read.
func (in *instance) set(ctx context.Context, g guest, form url.Values, what string) error {
	form.Set("digest", g.digest)
	return in.run(ctx, g.Resource, "/config", form, what)
}
