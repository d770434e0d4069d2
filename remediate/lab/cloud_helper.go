package lab

import (
	"context"
	"log/slog"
	"path/filepath"
	"time"

	"unbrick/remediate/engine"
	"unbrick/remediate/rescue"
	"unbrick/remediate/rescue/agent"
	"unbrick/remediate/rescue/wire"
)

// helperName is what helpers are called if nobody says otherwise.
const helperName = "unbrick-helper"

// helperLife is how long the lab's helpers are good for: less than the program allows.
const helperLife = 24 * time.Hour

// startHelpers makes the credentials of the helpers, one on each platform, in the state and the
// folder of the run to come, as unbrick image helper does, and has their agents ask for work.
func (l *Lab) startHelpers(ctx context.Context, dir, url string) error {
	store, err := engine.Open(ctx, filepath.Join(dir, "unbrick.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer store.Close()
	helpers, err := rescue.OpenHelpers(filepath.Join(dir, "rescue"), store)
	if err != nil {
		return err
	}
	work, cancel := context.WithCancel(context.Background())
	l.dismiss = cancel
	for _, c := range l.clouds {
		if c.helper == "" {
			continue
		}
		cfg, err := helpers.Issue(ctx, rescue.HelperOrder{URL: url, Name: c.helper, IssuedBy: "lab", Until: time.Now().Add(helperLife)})
		if err != nil {
			return err
		}
		l.helpers.Go(func() {
			if err := agent.Serve(work, rack{c}, cfg, agent.Options{Version: "lab", Pause: 100 * time.Millisecond}); work.Err() == nil {
				l.log.write(c.kind+" "+c.helper, "helper gives up", err.Error())
			}
		})
	}
	return nil
}

// A rack is the helper of a platform as its agent sees it.
type rack struct{ *cloud }

// Disks implements agent.Rack.
func (r rack) Disks(context.Context) (marks []string, err error) {
	for _, h := range r.guests {
		if mark := h.control.(*instance).look().mark; mark != "" {
			marks = append(marks, mark)
		}
	}
	return marks, nil
}

// Machine implements agent.Rack.
func (r rack) Machine(mark string) agent.Machine {
	for _, h := range r.guests {
		if h.control.(*instance).look().mark == mark {
			h.log.write(h.Name, "on the helper", mark)
			return lentDisk{h}
		}
	}
	return lentDisk{}
}

// A lentDisk is the host of a disk that hangs on a helper. It has nothing else.
type lentDisk struct{ h *host }

// Identity implements agent.Machine.
func (lentDisk) Identity() (wire.Identity, error) { return wire.Identity{}, nil }

// Volumes implements agent.Machine.
func (d lentDisk) Volumes(context.Context) ([]agent.Volume, error) {
	if d.h == nil { // it was taken off meanwhile
		return nil, nil
	}
	return []agent.Volume{&volume{h: d.h}}, nil
}
