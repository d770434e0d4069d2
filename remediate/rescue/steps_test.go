package rescue_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"unbrick/playbooks"
	"unbrick/playbooks/hive"
	"unbrick/playbooks/hivetest"
	"unbrick/playbooks/volumetest"
	"unbrick/remediate"
	"unbrick/remediate/rescue"
	"unbrick/remediate/rescue/wire"
)

const steps = `name: steps
title: A driver, its service, and what crashes leave behind
steps:
  - hives: {}
  - registry:
      hive: SYSTEM
      key: CurrentControlSet\Services\acme
      value: Start
      type: REG_DWORD
      when:
        one-of: [0, 1]
      set: 4
  - safeboot: {}
`

// registered is a volume with hives, of which SYSTEM has a driver that starts at boot, and a
// boot store in Safe Mode.
func registered() *volumetest.Volume {
	return volumetest.New().
		Add("Windows/System32/config/SYSTEM", at(1, 0), hivetest.System(map[string]uint32{"acme": 0})).
		Add("Windows/System32/config/SYSTEM.LOG1", at(1, 0), nil).
		Add("Windows/System32/config/SOFTWARE", at(1, 0), hivetest.Build(hivetest.Key{Name: "ROOT"})).
		Add("Boot/BCD", at(1, 0), hivetest.BCD(hivetest.Loader))
}

// The whole conversation with values instead of files: the copies are in the quarantine before
// a byte is written, the report names each value, and the second look finds them right.
func TestValues(t *testing.T) {
	pb, err := playbooks.Parse("steps", []byte(steps))
	if err != nil {
		t.Fatal(err)
	}
	var l *lab
	l = newLab(t, func(l *lab) {
		l.pb = pb
		l.machine.volumes[0].v = registered()
	})
	v := l.machine.volumes[0].v
	v.Intercept(func(op volumetest.Op, name string) error {
		if kept, _ := os.ReadDir(filepath.Join(l.cfg.Dir, "quarantine")); op == volumetest.Write && len(kept) == 0 {
			t.Errorf("%s is written to, and no copy is kept", name)
		}
		return nil
	})
	rep, err, _ := l.repair()
	v.Intercept(nil)
	if err != nil || rep.Proof() != nil || len(rep.Changed()) != 3 || len(rep.Unchanged()) != 0 {
		t.Fatalf("%+v, %v, proof %v", rep, err, rep.Proof())
	}
	b, err := fs.ReadFile(v, "Windows/System32/config/SYSTEM")
	if err != nil {
		t.Fatal(err)
	}
	h, err := hive.Open(b)
	if err != nil || hive.Dirty(b) {
		t.Fatal(err)
	}
	for _, set := range []string{"1", "2"} {
		if start, err := h.Get(`ControlSet00`+set+`\Services\acme`, "Start"); err != nil || start.Number() != 4 {
			t.Errorf("%+v, %v", start, err)
		}
	}
}

func TestJudgeValues(t *testing.T) {
	value := func(faulty bool, is string, changed bool) playbooks.Value {
		return playbooks.Value{Path: "W/SYSTEM", Name: `K\V`, Was: "REG_DWORD 1", Why: "w", Faulty: faulty, Is: is, Changed: changed}
	}
	vol := func(v playbooks.Verdict, aside bool, values ...playbooks.Value) playbooks.VolumeResult {
		return playbooks.VolumeResult{Volume: "C", Verdict: v, Findings: []playbooks.Finding{{Root: "W", Verdict: v, Values: values, Aside: aside}}}
	}
	for _, tt := range []struct {
		name   string
		volume playbooks.VolumeResult
		want   string
		final  bool
	}{
		{"changed", vol(playbooks.Faulty, false, value(true, "REG_DWORD 4", true)), "", false},
		{"restored beside what is absent", vol(playbooks.Faulty, true, value(true, "restored", true)), "", false},
		{"not changed", vol(playbooks.Faulty, false, value(true, "REG_DWORD 4", false)), `W/SYSTEM K\V is REG_DWORD 1: w`, false},
		{"one of two", vol(playbooks.Faulty, false, value(true, "REG_DWORD 4", true), value(true, "REG_DWORD 4", false)), "REG_DWORD 1", false},
		{"damaged", vol(playbooks.Damaged, true, value(true, "", false)), "REG_DWORD 1", false},
		{"good", vol(playbooks.Good, false, value(false, "", false)), "", false},
		{"good hives prove nothing", playbooks.VolumeResult{Volume: "C", Verdict: playbooks.Absent, Findings: []playbooks.Finding{{Verdict: playbooks.Good, Aside: true}}}, "nothing", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := wire.Report{Result: playbooks.Result{Playbook: "p", Volumes: []playbooks.VolumeResult{tt.volume}}}
			for who, err := range map[string]error{"judge": rescue.Judge(r), "proof": remediate.Report{Result: r.Result}.Proof()} {
				if (err == nil) != (tt.want == "") || final(err) != tt.final || err != nil && !strings.Contains(err.Error(), tt.want) {
					t.Errorf("%s: %v (final %t), want %q (final %t)", who, err, final(err), tt.want, tt.final)
				}
			}
		})
	}
}
