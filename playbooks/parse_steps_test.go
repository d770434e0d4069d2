package playbooks_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"unbrick/playbooks"
)

const soundRegistry = `name: incident-2
title: A value
steps:
  - registry:
      hive: SYSTEM
      key: CurrentControlSet\Services\acme
      value: Start
      type: REG_DWORD
      when:
        one-of: [0, 0x1]
      set: 4
`

func TestParseSteps(t *testing.T) {
	src := soundRegistry + `  - registry:
      set: C:\Program Files\x y
      when: {exists: true}
      type: REG_EXPAND_SZ
      value: ""
      key: Acme
      hive: SOFTWARE
      with:
        directory: System32
        glob: acme.sys
        sha256: [` + strings.Repeat("AB", 32) + `]
  - registry: {hive: SAM, key: a, value: b, type: REG_QWORD, when: {equals: 7}, delete: true}
  - hives: {}
  - hives:
      names: [SAM, SECURITY]
      replay: dirty
  - safeboot: {}
`
	pb, err := playbooks.Parse("p", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	want := []playbooks.Step{
		&playbooks.Registry{Hive: "SYSTEM", Key: `CurrentControlSet\Services\acme`, Value: "Start", Type: "REG_DWORD",
			When: playbooks.Condition{OneOf: []string{"0", "1"}}, Set: "4"},
		&playbooks.Registry{Hive: "SOFTWARE", Key: "Acme", Type: "REG_EXPAND_SZ", When: playbooks.Condition{Exists: true}, Set: `C:\Program Files\x y`,
			With: &playbooks.Remove{Directory: "System32", Glob: "acme.sys", SHA256: []string{strings.Repeat("ab", 32)}}},
		&playbooks.Registry{Hive: "SAM", Key: "a", Value: "b", Type: "REG_QWORD", When: playbooks.Condition{OneOf: []string{"7"}}, Delete: true},
		&playbooks.Hives{}, &playbooks.Hives{Names: []string{"SAM", "SECURITY"}, Replay: "dirty"}, &playbooks.Safeboot{},
	}
	if !reflect.DeepEqual(pb.Steps, want) {
		for i := range want {
			t.Errorf("%+v\nwant %+v", pb.Steps[i], want[i])
		}
	}
	if err := validate(t, schemaOf(t), src); err != nil {
		t.Error(err)
	}
}

func TestParseStepsRefuses(t *testing.T) {
	schema := schemaOf(t)
	for _, c := range []struct {
		name, old, with, at, want string
		schema                    bool
	}{
		{"hive", "hive: SYSTEM", "hive: system32", "5:13", "a hive is one of SYSTEM", true},
		{"slashes", `CurrentControlSet\Services\acme`, `CurrentControlSet\\Services`, "6:12", "one backslash between two", true},
		{"with the hive", `CurrentControlSet\Services\acme`, `HKLM\SYSTEM\x`, "6:12", `leave out "HKLM"`, false},
		{"not ASCII", `CurrentControlSet\Services\acme`, `Gerät`, "6:12", "may not be in the name", true},
		{"type", "REG_DWORD", "DWORD", "8:13", "a type is one of REG_DWORD", true},
		{"no condition", "one-of: [0, 0x1]", "{}", "5:7", "a value is never changed whatever it is", true},
		{"two conditions", "one-of: [0, 0x1]", "one-of: [0]\n        exists: true", "5:7", "either exists, or the faulty values", true},
		{"exists false", "one-of: [0, 0x1]", "exists: false", "10:17", "true is wanted here", true},
		{"too large", "[0, 0x1]", "[0x100000000]", "10:18", "from 0 to 4294967295", false},
		{"negative", "[0, 0x1]", "[-1]", "10:18", "whole number", true},
		{"text for a number", "set: 4", "set: four", "11:12", "a REG_DWORD is a whole number", false},
		{"set is faulty", "set: 4", "set: 1", "5:7", "is called faulty by when and is what set makes of it", false},
		{"set and delete", "set: 4", "set: 4\n      delete: true", "5:7", "give one of the two", true},
		{"neither", "      set: 4\n", "", "5:7", "give one of the two", true},
		{"no value", "      value: Start\n", "", "5:7", `registry lacks "value"`, true},
		{"file by its name alone", "set: 4", "set: 4\n      with: {directory: System32, glob: acme.sys}", "12:13", "never removed by its name alone", true},
		{"after the file is gone", "registry:", "remove: {directory: System32, glob: acme.sys, sha256: [" + strings.Repeat("0a", 32) + "]}\n  - registry:\n      with: {directory: system32, glob: ACME.sys, sha256: [" + strings.Repeat("0a", 32) + "]}",
			"5:5", "put this step first", false},
		{"hives that are none", "registry:", "hives: {names: [HARDWARE]}\n  - registry:", "4:21", "a hive is one of", true},
		{"replay", "registry:", "hives: {replay: all}\n  - registry:", "4:21", "replay is damaged or dirty", true},
		{"safeboot has no keys", "registry:", "safeboot: {mode: off}\n  - registry:", "4:16", `safeboot has no "mode"`, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !strings.Contains(soundRegistry, c.old) {
				t.Fatal(c.old)
			}
			src := strings.Replace(soundRegistry, c.old, c.with, 1)
			_, err := playbooks.Parse("p.yaml", []byte(src))
			var in *playbooks.InputError
			if !errors.As(err, &in) || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "p.yaml:"+c.at) {
				t.Errorf("%v\nwant %q at %s", err, c.want, c.at)
			}
			if refused := validate(t, schema, src) != nil; refused != c.schema && c.schema {
				t.Error("the schema accepts it")
			}
		})
	}
}
