package redfish

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/stmcginnis/gofish/schemas"
)

// Before firmware 6 of the iDRAC 9, the boot source Cd means the drive with a tray. Virtual
// media is booted by two attributes of the manager: the iDRAC 9 takes them by PATCH, the
// iDRAC 8 by the import of a server profile.
const (
	bootOnceAttr    = "ServerBoot.1.BootOnce"
	bootDeviceAttr  = "ServerBoot.1.FirstBootDevice"
	virtualDVD      = "VCD-DVD"
	importedProfile = `<SystemConfiguration><Component FQDD="iDRAC.Embedded.1">` +
		`<Attribute Name="ServerBoot.1#BootOnce">%s</Attribute>` +
		`<Attribute Name="ServerBoot.1#FirstBootDevice">%s</Attribute>` +
		`</Component></SystemConfiguration>` // no white space: the import refuses it
)

func (v *visit) dellAttributes() string { return v.managers[0].ODataID + "/Attributes" }

// dellOverride reads the attributes. An iDRAC 8 does not show them.
func (v *visit) dellOverride() (override, error) {
	var r struct{ Attributes map[string]any }
	_, err := v.read(v.dellAttributes(), &r)
	if kindOf(err) == missing {
		return override{Unread: true}, nil
	}
	if err != nil {
		return override{}, err
	}
	text := func(name string) string { s, _ := r.Attributes[name].(string); return s }
	o := override{Target: text(bootDeviceAttr), Enabled: "Disabled"}
	if text(bootOnceAttr) == "Enabled" {
		o.Enabled = "Once"
	}
	return o, nil
}

func (v *visit) dellClear(ctx context.Context, now override) error {
	if !now.Unread && !now.pending() {
		return nil
	}
	return v.dellSet(ctx, "Disabled", "Normal")
}

func (v *visit) dellSet(ctx context.Context, once, device string) error {
	now, err := v.dellOverride()
	if err != nil {
		return err
	}
	if now.Unread {
		return v.dellImport(ctx, once, device)
	}
	want := override{Target: device, Enabled: "Disabled"}
	if once == "Enabled" {
		want.Enabled = "Once"
	}
	return v.settle(ctx, "boot attributes", func() (bool, error) {
		o, err := v.dellOverride()
		return err == nil && o.pending() == want.pending() && (!want.pending() || o == want), err
	}, func() error {
		return v.patch(v.dellAttributes(), "", map[string]any{"Attributes": map[string]string{bootOnceAttr: once, bootDeviceAttr: device}})
	})
}

// dellImport imports a profile of the two attributes, and waits for the job. To import it
// twice is to import it once, so a lost answer is an error that may be repeated.
func (v *visit) dellImport(ctx context.Context, once, device string) error {
	path, err := v.dellImportPath()
	if err != nil {
		return err
	}
	resp, err := v.client.Post(path, map[string]any{
		"ImportBuffer":    fmt.Sprintf(importedProfile, once, device),
		"ShareParameters": map[string]string{"Target": "ALL"},
	})
	if err != nil {
		return err
	}
	resp.Body.Close()
	return v.dellJob(ctx, resp)
}

// dellImportPath finds the action: its name is older than the rules for such names.
func (v *visit) dellImportPath() (string, error) {
	var m struct {
		Actions struct {
			Oem map[string]schemas.ActionTarget
		}
	}
	if _, err := v.read(v.managers[0].ODataID, &m); err != nil {
		return "", err
	}
	for name, a := range m.Actions.Oem {
		if strings.HasSuffix(name, "ImportSystemConfiguration") && a.Target != "" {
			return a.Target, nil
		}
	}
	return "", fmt.Errorf("BMC %s cannot boot virtual media: this iDRAC cannot import a server profile (%s)", v.addr.host, v.product())
}

// dellJob waits until a job is done. Jobs vanish some time after.
func (v *visit) dellJob(ctx context.Context, resp *http.Response) error {
	at, err := resp.Location()
	if err != nil {
		return nil // nothing to follow: taken
	}
	var task struct {
		TaskState, TaskStatus string
		Messages              []struct{ Message string }
	}
	ok, err := v.until(ctx, func() (bool, error) {
		_, err := v.read(at.Path, &task)
		if kindOf(err) == missing {
			return true, nil
		}
		return task.TaskState == "Completed" || task.TaskState == "Exception", err
	})
	switch {
	case err != nil:
		return err
	case !ok:
		return v.later(fmt.Errorf("BMC %s does not finish the import of a server profile", v.addr.host))
	case task.TaskState == "Exception" || task.TaskStatus == "Critical":
		text := "no reason given"
		if len(task.Messages) > 0 {
			text = task.Messages[0].Message
		}
		return fmt.Errorf("BMC %s could not import a server profile: %s", v.addr.host, v.clean(text))
	}
	return nil
}
