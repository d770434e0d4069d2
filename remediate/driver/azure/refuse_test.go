package azure_test

import (
	"errors"
	"strings"
	"testing"

	"unbrick/remediate"
	"unbrick/remediate/driver/azure"
	"unbrick/remediate/driver/azure/azuretest"
)

type object = map[string]any

const groups = "/subscriptions/" + azuretest.Subscription + "/resourceGroups/"

// set returns a change of the host that sets a property of it.
func set(name string, value any) func(*azuretest.Cloud) {
	return func(c *azuretest.Cloud) {
		c.Change("ws1", func(m *azuretest.Machine) { m.Properties[name] = value })
	}
}

func setDisk(name string, value any) func(*azuretest.Cloud) {
	return func(c *azuretest.Cloud) {
		c.ChangeDisk("ws1_OsDisk", func(d *azuretest.Disk) { d.Properties[name] = value })
	}
}

func changeHelper(change func(m *azuretest.Machine)) func(*azuretest.Cloud) {
	return func(c *azuretest.Cloud) { c.Change("unbrick-helper", change) }
}

// Every refusal says what to do instead, and comes before anything is changed.
func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*azuretest.Cloud)
		want   string
	}{
		"scale set":    {set("virtualMachineScaleSet", object{"id": groups + "Hosts/providers/Microsoft.Compute/virtualMachineScaleSets/pool"}), "detach it from the scale set first"},
		"ephemeral":    {set("storageProfile", object{"osDisk": object{"diffDiskSettings": object{"option": "Local"}}}), "az vm reimage"},
		"unmanaged":    {set("storageProfile", object{"osDisk": object{"managedDisk": nil, "vhd": object{"uri": "https://x/y.vhd"}}}), "az vm convert"},
		"confidential": {set("securityProfile", object{"securityType": "ConfidentialVM"}), "opens in no other"},
		"hibernated":   {set("instanceView", object{"statuses": []object{{"code": "HibernationState/Hibernated"}}}), "start it and shut it down"},
		"managed by": {func(c *azuretest.Cloud) {
			c.Change("ws1", func(m *azuretest.Machine) { m.Top = object{"managedBy": "/x/databricks"} })
		}, "/x/databricks manages it"},
		"linux":        {func(c *azuretest.Cloud) { c.Change("ws1", func(m *azuretest.Machine) { m.OSType = "Linux" }) }, "unbrick repairs Windows"},
		"encrypted":    {setDisk("encryptionSettingsCollection", object{"enabled": true}), "az vm repair create --unlock-encrypted-vm"},
		"encrypted VM": {set("storageProfile", object{"osDisk": object{"encryptionSettings": object{"enabled": true}}}), "--unlock-encrypted-vm"},
		"shared":       {setDisk("maxShares", 2), "shared with other machines"},
		"exported": {func(c *azuretest.Cloud) {
			c.ChangeDisk("ws1_OsDisk", func(d *azuretest.Disk) { d.State = "ActiveSAS" })
		}, "az disk revoke-access --ids /subscriptions/"},
		"read only": {func(c *azuretest.Cloud) {
			c.Add(azuretest.Lock{Scope: groups + "hosts", Name: "freeze", Level: "ReadOnly"})
		}, "the lock freeze would stop it"},
		"all locked": {func(c *azuretest.Cloud) {
			c.Add(azuretest.Lock{Scope: "/subscriptions/" + azuretest.Subscription, Name: "all", Level: "CanNotDelete"})
		}, "az lock delete --ids"},
		"helper gone": {changeHelper(func(m *azuretest.Machine) { m.Name = "other" }), "unbrick-helper is not there"},
		"helper locked": {func(c *azuretest.Cloud) {
			c.Add(azuretest.Lock{Scope: groups + "tools", Name: "freeze", Level: "ReadOnly"})
		}, "unbrick-helper is read-only by the lock freeze"},
		"helper off":    {changeHelper(func(m *azuretest.Machine) { m.Power = "deallocated" }), "unbrick-helper does not run"},
		"other zone":    {changeHelper(func(m *azuretest.Machine) { m.Zone = "" }), "is in no zone and the host in zone 2"},
		"other region":  {changeHelper(func(m *azuretest.Machine) { m.Location = "northeurope" }), "is in northeurope and the host in westeurope"},
		"Windows helps": {changeHelper(func(m *azuretest.Machine) { m.OSType = "Windows" }), "the same faulty sensor"},
		"NVMe":          {changeHelper(func(m *azuretest.Machine) { m.Properties["storageProfile"] = object{"diskControllerType": "NVMe"} }), "use a size that has SCSI"},
	} {
		t.Run(name, func(t *testing.T) {
			cloud := newCloud()
			c.change(cloud)
			driver, _, _ := newDriver(t, cloud, nil)
			at := target(host)
			for what, err := range map[string]error{
				"observe": func() error { _, err := driver.Observe(t.Context(), at); return err }(),
				"enter":   enterUnlessHelper(t, driver, at, c.want),
			} {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%s: %v, want %q", what, err, c.want)
				}
			}
			if n := cloud.Actions(); n > 0 && !strings.Contains(c.want, "helper") {
				t.Errorf("%d changes were made", n)
			}
			if err := driver.Leave(t.Context(), at, remediate.Posture{}); err != nil {
				t.Errorf("what was not touched cannot be left: %v", err)
			}
		})
	}
}

// enterUnlessHelper does not enter where only the helper is wrong: Observe has refused by then,
// and what a helper lost in between does is tested elsewhere.
func enterUnlessHelper(t *testing.T, d remediate.Driver, at remediate.Target, want string) error {
	if _, err := d.Observe(t.Context(), at); err != nil && strings.Contains(err.Error(), "no helper") {
		return err
	}
	return d.Enter(t.Context(), at, remediate.Image{})
}

// Locks that are in nobody's way are no reason to refuse: that the disk alone may not be deleted,
// or that others may not be changed.
func TestHarmlessLocks(t *testing.T) {
	c := newCloud().Add(
		azuretest.Lock{Scope: groups + "Hosts/providers/Microsoft.Compute/disks/ws1_OsDisk", Name: "keep", Level: "CanNotDelete"},
		azuretest.Lock{Scope: groups + "Hosts2", Name: "freeze", Level: "ReadOnly"},
		azuretest.Lock{Scope: groups + "Hosts/providers/Microsoft.Compute/virtualMachines/ws", Name: "freeze", Level: "ReadOnly"})
	driver, _, _ := newDriver(t, c, nil)
	whole(t, driver, target(host))
	if got := strings.Join(c.Booted("ws1_OsDisk"), " "); got != "helper disk" {
		t.Errorf("the disk booted %q", got)
	}
}

func whole(t *testing.T, d remediate.Driver, at remediate.Target) {
	t.Helper()
	p, err := d.Observe(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	if err := persist(func() error { return d.Enter(t.Context(), at, remediate.Image{}) }); err != nil {
		t.Fatal("enter: ", err)
	}
	if err := persist(func() error { return d.Leave(t.Context(), at, p) }); err != nil {
		t.Fatal("leave: ", err)
	}
}

// persist calls again what may pass by itself, as the engine does, without waiting.
func persist(do func() error) (err error) {
	for range 50 {
		var retry *remediate.RetryError
		if err = do(); !errors.As(err, &retry) {
			return err
		}
	}
	return err
}

// A helper is no host, whichever way it is named.
func TestHelperIsNoHost(t *testing.T) {
	for _, named := range []string{"tools/unbrick-helper", "unbrick-helper", helper, "tag:Unbrick=helper", "tag:unbrick"} {
		c := newCloud()
		driver, _, _ := newDriver(t, c, func(o *azure.Options) { o.Helpers = []string{named} })
		c.Change("unbrick-helper", func(m *azuretest.Machine) { m.OSType = "Windows" })
		if _, err := driver.Observe(t.Context(), target(helper)); err == nil || !strings.Contains(err.Error(), "it is a helper") {
			t.Errorf("%s: %v", named, err)
		}
	}
}
