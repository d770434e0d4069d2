package hyperv

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"unbrick/remediate/swap"
)

// giveBack hangs the disk back as it hung, and makes sure of it.
func (in *instance) giveBack(ctx context.Context, e swap.Entry) error {
	was, err := readRecord(e.Slot)
	if err != nil {
		return err
	}
	s, m, err := in.self(ctx)
	if err != nil {
		return err
	}
	lines, boot := []string{isOff}, s.Detail.Boot
	if _, ok := m.find(e.Slot.Volume); !ok {
		if d, ok := m.at(was.Drive.place()); ok {
			return fmt.Errorf("%s was at %s of %s, where somebody has hung %s meanwhile: take that off", e.Slot.Volume, was.Drive.place(), m.Name, d.Path)
		}
		lines = append(lines, nobodyHas(was.Drive.Path), "Add-VMHardDiskDrive -VM $vm "+was.Drive.where()+" -Path "+quote(was.Drive.Path))
		if m.Generation == 2 { // what is added boots last
			boot = append(slices.Clone(boot), entry{"Drive", was.Drive.place()})
		}
	}
	lines = append(lines, was.Drive.limits()...)
	lines = append(lines, bootLines(reorder(boot, was.Boot))...)
	if err := in.change(ctx, "cannot hang the disk back on "+m.Name, in.id, lines...); err != nil {
		return err
	}
	if s, m, err = in.self(ctx); err != nil {
		return err
	}
	return was.same(m, *s.Detail)
}

// same makes sure that a disk hangs as it did.
func (r record) same(m machine, d detail) error {
	if is, _ := m.find(r.Drive.Path); is != r.Drive {
		return fmt.Errorf("the disk is back on %s, but not as it was: it is %+v, and was %+v", m.Name, is, r.Drive)
	}
	if reorder(d.Boot, r.Boot) != nil {
		return fmt.Errorf("the disk is back on %s, but its order of boot is %v, and was %v", m.Name, d.Boot, r.Boot)
	}
	return nil
}

// self reads the instance with its details.
func (in *instance) self(ctx context.Context) (site, machine, error) {
	s, err := in.read(ctx, "")
	if err != nil {
		return s, machine{}, err
	}
	m, err := s.machine(in)
	if err == nil && s.Detail == nil {
		err = fmt.Errorf("hypervisor %s does not say how %s is made up", in.at.host, m.Name)
	}
	return s, m, err
}

// limits are the lines that give a drive its limits again, if it had any.
func (d drive) limits() []string {
	text := ""
	for _, limit := range [][2]string{{"-MaximumIOPS", d.Max}, {"-MinimumIOPS", d.Min}} {
		if n, err := strconv.ParseUint(limit[1], 10, 64); err == nil && n > 0 {
			text += fmt.Sprintf(" %s %d", limit[0], n)
		}
	}
	if d.QoS != "" && strings.Trim(d.QoS, "0-") != "" {
		text = " -QoSPolicyID " + quote(d.QoS) // which has the limits
	}
	if text == "" {
		return nil
	}
	return []string{"$disk = Get-VMHardDiskDrive -VM $vm " + d.where(), "Set-VMHardDiskDrive -VMHardDiskDrive $disk" + text}
}

// reorder returns which of the entries that there are have to stand where, as numbers from 0,
// or nil if they stand as they did. Entries for files come from what Windows writes to the
// firmware: one that is gone comes back when it starts. What is new stands last.
func reorder(is, was []entry) []int {
	var order []int
	for _, e := range was {
		if i := slices.Index(is, e); i >= 0 && !slices.Contains(order, i) {
			order = append(order, i)
		}
	}
	for i := range is {
		if !slices.Contains(order, i) {
			order = append(order, i)
		}
	}
	if slices.IsSorted(order) {
		return nil
	}
	return order
}

// bootLines set an order of boot, if there are still as many entries.
func bootLines(order []int) []string {
	if order == nil {
		return nil
	}
	var items []string
	for _, i := range order {
		items = append(items, fmt.Sprintf("$boot[%d]", i))
	}
	return []string{
		"$boot = @((Get-VMFirmware -VM $vm).BootOrder)",
		fmt.Sprintf("if ($boot.Count -ne %d) { throw 'the order of boot has changed' }", len(order)),
		"Set-VMFirmware -VM $vm -BootOrder " + strings.Join(items, ","),
	}
}
