package azure_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"unbrick/remediate"
	"unbrick/remediate/driver/azure"
	"unbrick/remediate/driver/azure/azuretest"
	"unbrick/remediate/rescue"
	"unbrick/remediate/swap"
)

// places is a desk that remembers what it was told.
type places struct {
	mu   sync.Mutex
	told map[string]string // host: helper and mark
}

func (p *places) Lend(_ context.Context, t remediate.Target, helper, mark string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told[t.Host.Name] = helper + " " + mark
	return nil
}

func (p *places) Withdraw(context.Context, remediate.Target) error { return nil }

// Two hosts, one of which is stopped and not deallocated, are repaired on one helper at once, each
// known by the place that its disk has there; both come up as they were.
func TestTwoAtOnce(t *testing.T) {
	for _, named := range []string{"tools/unbrick-helper", "tag:unbrick=helper"} {
		t.Run(named, func(t *testing.T) {
			c := newCloud()
			c.Change("ws1", func(m *azuretest.Machine) { m.OSDisk.Accelerated, m.OSDisk.Caching = true, "None" })
			before, _ := c.Inventory()
			desk := &places{told: map[string]string{}}
			p := platform(t, newLine(t, c).URL, func(o *azure.Options) { o.Helpers = []string{named} })
			d := swap.New(swap.Options{Way: "azure", Platform: p, Desk: desk, Records: &rescue.MemRecords{}, Every: 1})
			hosts := []string{host, azuretest.Subscription + "/HOSTS/ws22"}
			both(t, hosts, func(at remediate.Target) error { return d.Enter(t.Context(), at, remediate.Image{}) })
			luns := map[string]string{}
			c.Change("unbrick-helper", func(m *azuretest.Machine) {
				for _, h := range m.Data[1:] {
					luns[strings.TrimSuffix(h.Disk, "_OsDisk")] = fmt.Sprintf("%s lun:%d", strings.ToLower(helper), h.Lun)
					if h.Caching != "None" || h.Delete != "Detach" || h.Lun < 10 {
						t.Errorf("it hangs on the helper as %+v", h)
					}
				}
			})
			if len(luns) != 2 || fmt.Sprint(luns) != fmt.Sprint(desk.told) {
				t.Errorf("the desk was told %v, and they hang at %v", desk.told, luns)
			}
			both(t, hosts, func(at remediate.Target) error { return d.Leave(t.Context(), at, remediate.Posture{}) })
			c.Settle()
			after, _ := c.Inventory()
			for i := range before { // a host that was stopped is started
				before[i] = strings.Replace(before[i], "ws22: stopped", "ws22: running", 1)
			}
			if left := difference(before, after); left != "" {
				t.Error(left)
			}
		})
	}
}

func both(t *testing.T, hosts []string, do func(remediate.Target) error) {
	t.Helper()
	var all sync.WaitGroup
	for _, h := range hosts {
		all.Go(func() {
			if err := persist(func() error { return do(target(h)) }); err != nil {
				t.Errorf("%s: %v", h, err)
			}
		})
	}
	all.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// Where Azure has no room for a machine that starts, it is said so, and tried again. An operation
// that began and failed is no success.
func TestNoRoom(t *testing.T) {
	c := newCloud()
	d, _, _ := newDriver(t, c, nil)
	at := target(host)
	if err := d.Enter(t.Context(), at, remediate.Image{}); err != nil {
		t.Fatal(err)
	}
	if err := failing(c, "ws1", azuretest.Fault{Code: "AllocationFailed", Message: "We do not have sufficient capacity\nin this region."}, "ws1_OsDisk", func() error {
		return d.Leave(t.Context(), at, remediate.Posture{})
	}); err == nil || !strings.Contains(err.Error(), "We do not have sufficient capacity in this region. (AllocationFailed)\nAzure has no room") {
		t.Fatal(err)
	}
	if err := d.Leave(t.Context(), at, remediate.Posture{}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(c.Booted("ws1_OsDisk"), " "); got != "helper disk" {
		t.Errorf("the disk booted %q", got)
	}
}

// failing repeats a call until the machine has its disk back, and has its start fail then.
func failing(c *azuretest.Cloud, machine string, f azuretest.Fault, disk string, call func() error) error {
	c.OnWork(machine, func(m *azuretest.Machine) *azuretest.Fault {
		if m.Power == "starting" && m.OSDisk.Disk == disk {
			c.OnWork(machine, nil)
			return &f
		}
		return nil
	})
	err := call()
	var retry *remediate.RetryError
	if !errors.As(err, &retry) {
		return fmt.Errorf("it is not tried again: %w", err)
	}
	return err
}

// A person who hangs the disk elsewhere meanwhile has it; nothing is taken from under them.
func TestElsewhere(t *testing.T) {
	c := newCloud()
	d, _, _ := newDriver(t, c, nil)
	at := target(host)
	if err := d.Enter(t.Context(), at, remediate.Image{}); err != nil {
		t.Fatal(err)
	}
	c.Change("unbrick-helper", func(m *azuretest.Machine) { m.Name = "somebody-else" })
	c.Reattach("somebody-else", "ws1_OsDisk")
	n := c.Actions()
	if err := d.Leave(t.Context(), at, remediate.Posture{}); err == nil || !strings.Contains(err.Error(), "somebody-else, and unbrick did not hang it there") || c.Actions() != n {
		t.Errorf("%v, %d changes", err, c.Actions()-n)
	}
}

// What somebody else calls as the stand-in would be called is neither swapped in nor removed.
func TestForeignStandIn(t *testing.T) {
	c := newCloud()
	d, _, records := newDriver(t, c, nil)
	at := target(host)
	if err := d.Enter(t.Context(), at, remediate.Image{}); err != nil {
		t.Fatal(err)
	}
	all, err := swap.NewJournal(records).All(t.Context())
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	c.ChangeDisk(all[0].Mark+"-standin", func(d *azuretest.Disk) { d.Tags = nil })
	if err := d.Leave(t.Context(), at, remediate.Posture{}); err == nil || !strings.Contains(err.Error(), "is not removed: it is not unbrick's") {
		t.Error(err)
	}
	if got := strings.Join(c.Booted("ws1_OsDisk"), " "); got != "helper disk" {
		t.Errorf("the disk booted %q", got)
	}
	want := "az snapshot delete --ids /subscriptions/" + azuretest.Subscription + "/resourceGroups/Hosts/providers/Microsoft.Compute/snapshots/" + all[0].Mark
	if got := azure.Removal(all[0]); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// Addresses and options that name nothing are refused before Azure is asked.
func TestBadNames(t *testing.T) {
	d, _, _ := newDriver(t, newCloud(), func(o *azure.Options) { o.Helpers = []string{"/dc1/vm/helper/of/vsphere", "tag:none=such"} })
	if _, err := d.Observe(t.Context(), target(host)); err == nil || !strings.Contains(err.Error(), "none of the helpers (/dc1/vm/helper/of/vsphere, tag:none=such) is a virtual machine of Azure") {
		t.Error(err)
	}
	if _, err := d.Observe(t.Context(), target("ws1")); err == nil || !strings.Contains(err.Error(), "SUBSCRIPTION-ID/RESOURCE-GROUP/NAME") {
		t.Error(err)
	}
	elsewhere := "00000000-0000-4000-8000-00000000000b/tools/unbrick-helper" // as the one here is called
	other, _, _ := newDriver(t, newCloud(), func(o *azure.Options) { o.Helpers = []string{elsewhere} })
	if _, err := other.Observe(t.Context(), target(host)); err == nil || !strings.Contains(err.Error(), elsewhere+" is in another subscription") {
		t.Error(err)
	}
	if _, err := d.Observe(t.Context(), target(host+"x")); err == nil || !strings.Contains(err.Error(), "was it deleted, or moved?") {
		t.Error(err)
	}
}

// A place that another process took in between is no end: another is taken.
func TestPlaceTaken(t *testing.T) {
	c := newCloud()
	taken := -1
	d, _, _ := newDriver(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if taken < 0 && strings.HasSuffix(r.URL.Path, "/attachDetachDataDisks") {
			b, _ := io.ReadAll(r.Body)
			var in struct {
				Disks []struct{ Lun int } `json:"dataDisksToAttach"`
			}
			if err := json.Unmarshal(b, &in); err != nil {
				t.Error(err)
			}
			taken = in.Disks[0].Lun
			c.Change("unbrick-helper", func(m *azuretest.Machine) { m.Data = append(m.Data, azuretest.Hook{Disk: "tools_Data", Lun: taken}) })
			r.Body = io.NopCloser(bytes.NewReader(b))
		}
		c.ServeHTTP(w, r)
	}), nil)
	whole(t, d, target(host))
	if got := strings.Join(c.Booted("ws1_OsDisk"), " "); taken < 10 || got != "helper disk" {
		t.Errorf("place %d was taken, and the disk booted %q", taken, got)
	}
}

// A stand-in is never taken for the disk that it stands in for, whatever state was lost.
func TestLostState(t *testing.T) {
	c := newCloud()
	d, _, _ := newDriver(t, c, nil)
	if err := d.Enter(t.Context(), target(host), remediate.Image{}); err != nil {
		t.Fatal(err)
	}
	other, _, _ := newDriver(t, c, nil)
	n := c.Actions()
	for what, err := range map[string]error{
		"observe": func() error { _, err := other.Observe(t.Context(), target(host)); return err }(),
		"enter":   other.Enter(t.Context(), target(host), remediate.Image{}),
	} {
		if err == nil || !strings.Contains(err.Error(), "--os-disk ws1_OsDisk") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if c.Actions() != n {
		t.Errorf("%d changes were made", c.Actions()-n)
	}
	if err := d.Leave(t.Context(), target(host), remediate.Posture{}); err != nil {
		t.Error(err)
	}
}

// BenchmarkWay is a host's whole way over a cloud whose operations last two requests: what it
// takes beside them.
func BenchmarkWay(b *testing.B) {
	c, calls := newCloud(), 0
	d, _, _ := newDriver(b, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { calls++; c.ServeHTTP(w, r) }), nil)
	for b.Loop() {
		if _, err := d.Observe(b.Context(), target(host)); err != nil {
			b.Fatal(err)
		}
		if err := d.Enter(b.Context(), target(host), remediate.Image{}); err != nil {
			b.Fatal(err)
		}
		if err := persist(func() error { return d.Leave(b.Context(), target(host), remediate.Posture{}) }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(calls)/float64(b.N), "calls/host")
}
