package rescue_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode"

	"unbrick/inventory"
	"unbrick/playbooks"
	"unbrick/remediate"
	"unbrick/remediate/rescue"
	"unbrick/remediate/rescue/wire"
)

func TestJudge(t *testing.T) {
	type vr = playbooks.VolumeResult
	faulty := playbooks.File{Path: "W/bad.sys", Faulty: true}
	removed := faulty
	removed.Removed = true
	vol := func(v playbooks.Verdict, err string, files ...playbooks.File) vr {
		return vr{Volume: "C", Verdict: v, Error: err, Findings: []playbooks.Finding{{Root: "W", Step: "s", Verdict: v, Files: files}}}
	}
	locked := vr{Volume: "D", Verdict: playbooks.Locked, Error: "protector X: no recovery key on record"}
	for _, tt := range []struct {
		name    string
		report  wire.Report
		volumes []vr
		want    string // how the error begins; empty: none
		final   bool
		then    string
	}{
		{name: "removed", volumes: []vr{vol(playbooks.Both, "", removed)}},
		{name: "removed, data volume locked", volumes: []vr{vol(playbooks.Faulty, "", removed), locked}},
		{name: "removed, other volume unreadable", volumes: []vr{vol(playbooks.Faulty, "", removed), vol(playbooks.Unreadable, "bad sector")}},
		{name: "removed, other volume not", volumes: []vr{vol(playbooks.Faulty, "", removed), vol(playbooks.Faulty, "hibernated", faulty)}, want: "not all is repaired: C: W/bad.sys; C: hibernated"},
		{name: "removed, not verified", volumes: []vr{vol(playbooks.Both, "after the repair: x is not as it was", removed)}, want: "not all is repaired"},
		{name: "half removed", volumes: []vr{vol(playbooks.Both, "", removed, faulty)}, want: "not all is repaired: C: W/bad.sys"},
		{name: "affected, no file to show", volumes: []vr{vol(playbooks.Faulty, "")}, want: "not all is repaired"},
		{name: "good", volumes: []vr{vol(playbooks.Good, "")}},
		{name: "good, data volume locked", volumes: []vr{vol(playbooks.Good, ""), locked}},
		{name: "good and unreadable", volumes: []vr{vol(playbooks.Good, ""), vol(playbooks.Unreadable, "bad sector")}, want: "cannot read every volume: C: bad sector"},
		{name: "unreadable", volumes: []vr{vol(playbooks.Unreadable, "")}, want: "cannot read every volume"},
		{name: "locked", volumes: []vr{locked, vol(playbooks.Absent, "")}, want: "the volume is locked and was not opened: D: protector X", final: true},
		{name: "locked, nobody asked", volumes: []vr{locked}, report: wire.Report{Unanswered: []string{"X"}}, want: "the volume is locked, and another way may open it"},
		{name: "locked, and set to start in Safe Mode", volumes: []vr{locked}, report: wire.Report{Unanswered: []string{"X"}, SafeMode: true}, want: "the volume is locked, and Windows was left to open it: D: protector X", then: "winrm"},
		{name: "the same beside a repaired one", volumes: []vr{vol(playbooks.Faulty, "", removed), locked}, report: wire.Report{SafeMode: true}, want: "the volume is locked", then: "winrm"},
		{name: "set to start in Safe Mode for good", report: wire.Report{Error: "bcdedit", SafeMode: true}, want: "the agent could not do its job: bcdedit"},
		{name: "absent", volumes: []vr{vol(playbooks.Absent, "")}, want: "nothing found: no volume has a file that playbook p is about (C: absent)", final: true},
		{name: "clean", volumes: []vr{vol(playbooks.Clean, "")}, want: "nothing found", final: true},
		{name: "no Windows", volumes: []vr{{Volume: "C", Verdict: playbooks.Absent}}, want: "nothing found", final: true},
		{name: "no volume", want: "the agent saw no volume"},
		{name: "agent failed", report: wire.Report{Error: "boom"}, volumes: []vr{vol(playbooks.Good, "")}, want: "the agent could not do its job: boom"},
		{name: "dry run", report: wire.Report{Result: playbooks.Result{DryRun: true}}, volumes: []vr{vol(playbooks.Faulty, "", faulty)}, want: "dry run: 1 faulty", final: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.report.Playbook, tt.report.Volumes = "p", tt.volumes
			err := rescue.Judge(tt.report)
			if (err == nil) != (tt.want == "") || final(err) != tt.final {
				t.Errorf("got %v (final %t), want %q (final %t)", err, final(err), tt.want, tt.final)
			}
			var then *remediate.ThenError
			if errors.As(err, &then) != (tt.then != "") || then != nil && then.Way != tt.then {
				t.Errorf("%v names %+v, not %q", err, then, tt.then)
			}
			if err != nil && !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestIdentify(t *testing.T) {
	const other = "11111111-2222-3333-4444-555555555555"
	for _, tt := range []struct {
		name  string
		host  inventory.Host
		says  wire.Identity
		want  string // what agrees
		wrong string // what the error names
	}{
		{name: "nothing known"},
		{name: "uuid", host: inventory.Host{UUID: uuid}, says: wire.Identity{UUID: strings.ToUpper(uuid)}, want: "uuid"},
		{name: "uuid the other way round", host: inventory.Host{UUID: "44454c4c-4200-1035-8054-b2c04f4a4b31"}, says: wire.Identity{UUID: uuid}, want: "uuid"},
		{name: "other uuid", host: inventory.Host{UUID: uuid}, says: wire.Identity{UUID: other}, wrong: other},
		{name: "other uuid, same serial", host: inventory.Host{UUID: uuid, Serial: "SN1"}, says: wire.Identity{UUID: other, Serial: "SN1"}, wrong: other},
		{name: "same uuid, other serial", host: inventory.Host{UUID: uuid, Serial: "SN1"}, says: wire.Identity{UUID: uuid, Serial: "SN2"}, wrong: "SN2"},
		{name: "placeholder uuid", host: inventory.Host{UUID: uuid}, says: wire.Identity{UUID: "03000200-0400-0500-0006-000700080009"}},
		{name: "placeholder in the inventory", host: inventory.Host{UUID: strings.Repeat("0", 8) + "-0000-0000-0000-000000000000"}, says: wire.Identity{UUID: uuid}},
		{name: "serial", host: inventory.Host{Serial: "vmware-56 4d"}, says: wire.Identity{Serial: " VMware-564d "}, want: "serial"},
		{name: "placeholder serials agree on nothing", host: inventory.Host{Serial: "Default string"}, says: wire.Identity{Serial: "Default string"}},
		{name: "mac", host: inventory.Host{MAC: []string{"52:54:00:12:34:56"}}, says: wire.Identity{MAC: []string{"aa:bb:cc:dd:ee:ff", "52-54-00-12-34-56"}}, want: "mac"},
		{name: "other mac", host: inventory.Host{MAC: []string{"52:54:00:12:34:56"}}, says: wire.Identity{MAC: []string{"aa:bb:cc:dd:ee:ff"}}},
		{name: "no mac", host: inventory.Host{MAC: []string{"00:00:00:00:00:00", ""}}, says: wire.Identity{MAC: []string{"", "00:00:00:00:00:00"}}},
		{name: "all", host: inventory.Host{UUID: uuid, Serial: "SN1", MAC: []string{"52:54:00:12:34:56"}}, says: wire.Identity{UUID: uuid, Serial: "sn1", MAC: []string{"52:54:00:12:34:56"}}, want: "uuid serial mac"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.host.Name = "pc1"
			agrees, err := rescue.Identify(tt.host, tt.says)
			if strings.Join(agrees, " ") != tt.want || (err == nil) != (tt.wrong == "") {
				t.Errorf("agrees %v, %v; want %q, %q", agrees, err, tt.want, tt.wrong)
			}
			if tt.wrong != "" {
				wantErr(t, err, "pc1", tt.wrong)
			}
		})
	}
}

// Whatever JSON an agent sends, reading and judging it does not break the server, and nothing that names
// no removed or good file passes for a repair.
func FuzzReport(f *testing.F) {
	for _, v := range []playbooks.Verdict{playbooks.Good, playbooks.Faulty, playbooks.Locked} {
		b, _ := json.Marshal(report(v))
		f.Add(b)
	}
	f.Add([]byte(`{"volumes":[{"findings":[{"files":[{"faulty":true,"removed":true}]}]}]}`))
	f.Add([]byte(`{"volumes":null,"elapsed":-1,"log":[""]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var tree any
		if json.Unmarshal(b, &tree) != nil {
			return
		}
		r, kept, _ := rescue.Read(tree)
		if kept == nil {
			return
		}
		if strings.ContainsFunc(string(kept), unicode.IsControl) {
			t.Errorf("control characters are kept: %q", kept)
		}
		evidence := len(r.Removed())+len(r.Changed()) > 0
		for _, v := range r.Volumes {
			for _, f := range v.Findings {
				evidence = evidence || f.Verdict == playbooks.Good
			}
		}
		if rescue.Judge(r) == nil && !evidence {
			t.Errorf("repaired without evidence: %s", b)
		}
	})
}

// Whatever an agent says of its host, asking the inventory does not break the server, and
// what agrees is what both have.
func FuzzIdentify(f *testing.F) {
	f.Add(uuid, "S", "52:54:00:12:34:56", `{"uuid":"`+uuid+`","serial":"S","mac":["525400123456"]}`)
	f.Add("", "", "", `{"mac":[""]}`)
	f.Fuzz(func(t *testing.T, uuid, serial, mac, hello string) {
		var id wire.Identity
		if json.Unmarshal([]byte(hello), &id) != nil {
			return
		}
		agrees, err := rescue.Identify(inventory.Host{Name: "h", UUID: uuid, Serial: serial, MAC: []string{mac}}, id)
		if err != nil && agrees != nil {
			t.Error("a wrong host agrees")
		}
		for _, what := range agrees {
			if has := map[string]bool{"uuid": uuid != "" && id.UUID != "", "serial": serial != "" && id.Serial != "", "mac": mac != "" && len(id.MAC) > 0}; !has[what] {
				t.Errorf("agrees in %s, which one of the two does not have", what)
			}
		}
	})
}
