package redfishtest

import (
	"strings"
	"time"
)

// A machine is what the BMC controls: the host's power, what its firmware boots next, and
// what is in the slots. All of it is guarded by the BMC's mutex.
type machine struct {
	power      string // On, Off, PoweringOn
	timer      *time.Timer
	override   BootOverride
	attributes map[string]string // of a manager with the boot attribute
	media      []*medium
	boots      []Boot
	version    int // changes with every change: the entity tag

	onRefusals   int
	postRefusals int

	events  []func() // not yet told to the host
	telling bool
}

// A medium is what is in one slot.
type medium struct {
	slot     Slot
	image    string
	inserted bool
	from     time.Time // shown as inserted from then on
	stale    int       // reads that still show what was ejected
}

func (b *BMC) init() {
	b.power = "On"
	if b.opt.Off {
		b.power = "Off"
	}
	b.override = BootOverride{"None", "Disabled", b.model.Mode}
	if b.override.Mode == "" {
		b.override.Mode = "UEFI"
	}
	if b.model.BootAttribute || b.model.ImportProfile {
		b.attributes = map[string]string{"ServerBoot.1.BootOnce": "Disabled", "ServerBoot.1.FirstBootDevice": "Normal"}
	}
	for _, s := range b.model.Slots {
		b.media = append(b.media, &medium{slot: s})
	}
}

// record notes an action. The caller holds mu.
func (b *BMC) record(kind, detail string) {
	b.version++
	if b.opt.Record != nil {
		b.opt.Record(Action{time.Now(), kind, detail})
	}
}

// tell queues a call of the host. The caller holds mu.
func (b *BMC) tell(f func()) {
	if b.opt.Host == nil {
		return
	}
	b.events = append(b.events, f)
	if !b.telling {
		b.telling = true
		b.busy.Add(1)
		go b.drain()
	}
}

// drain calls the host until nothing is queued.
func (b *BMC) drain() {
	defer b.busy.Done()
	for {
		b.mu.Lock()
		if len(b.events) == 0 {
			b.telling = false
			b.mu.Unlock()
			return
		}
		f := b.events[0]
		b.events = b.events[1:]
		b.mu.Unlock()
		f()
	}
}

// switchOn starts the host after the power delay. The caller holds mu.
func (b *BMC) switchOn() {
	b.stopTimer()
	if b.opt.PowerDelay == 0 {
		b.start()
		return
	}
	b.power = "PoweringOn"
	var t *time.Timer
	t = time.AfterFunc(b.opt.PowerDelay, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.timer == t {
			b.timer = nil
			b.start()
		}
	})
	b.timer = t
}

func (b *BMC) start() {
	b.power = "On"
	boot := b.firmware()
	b.tell(func() { b.opt.Host.Start(boot) })
}

// switchOff takes the power away. The caller holds mu.
func (b *BMC) switchOff() {
	b.stopTimer()
	if b.power == "On" {
		b.tell(func() { b.opt.Host.Stop() })
	}
	b.power = "Off"
	b.onRefusals = b.model.OnRefusals
}

func (b *BMC) stopTimer() {
	if b.timer != nil {
		b.timer.Stop()
		b.timer = nil
	}
}

// firmware decides what to boot, and uses up an override that holds once. The caller holds
// mu.
func (b *BMC) firmware() Boot {
	boot := Boot{Device: Hdd}
	o := b.override
	wanted := o.Enabled != "Disabled" && b.model.MediaTarget != "" && o.Target == b.model.MediaTarget && o.Mode == "UEFI"
	if b.attributes["ServerBoot.1.BootOnce"] == "Enabled" {
		wanted = b.attributes["ServerBoot.1.FirstBootDevice"] == "VCD-DVD"
		b.attributes["ServerBoot.1.BootOnce"] = "Disabled"
		b.attributes["ServerBoot.1.FirstBootDevice"] = "Normal"
	}
	if wanted && b.silent(OverrideIgnored) {
		wanted = false
	}
	if wanted {
		for _, m := range b.media {
			if m.inserted && !m.slot.NoBoot {
				boot = Boot{Cd, m.image}
				break
			}
		}
	}
	if o.Enabled != "Disabled" && o.Target == Pxe && o.Mode == "UEFI" && !b.silent(OverrideIgnored) {
		boot = Boot{Device: Pxe}
	}
	if o.Enabled == "Once" {
		b.override.Target, b.override.Enabled = "None", "Disabled"
	}
	b.boots = append(b.boots, boot)
	b.postRefusals = b.model.PostRefusals
	b.record(Booted, strings.TrimSpace(strings.ToLower(boot.Device)+" "+boot.Image))
	return boot
}

// Reboot says that the host resets itself, and returns what the firmware boots now. A host
// without power boots nothing: Device is empty.
func (b *BMC) Reboot() Boot {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.power != "On" {
		return Boot{}
	}
	return b.firmware()
}

// PoweredOff says that the host switched itself off.
func (b *BMC) PoweredOff() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopTimer()
	b.power = "Off"
	b.onRefusals = b.model.OnRefusals
	b.record(Power, "off")
}

// SetMedia puts an image into a slot, as somebody did before us; the empty image takes it out.
func (b *BMC) SetMedia(slot, image string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.media {
		if m.slot.ID == slot {
			m.image, m.inserted = image, image != ""
		}
	}
	b.version++
}

// SetOverride sets the boot override, as somebody did before us.
func (b *BMC) SetOverride(o BootOverride) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.override = o
	b.version++
}
