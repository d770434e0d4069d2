package playbooks_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"unbrick/playbooks"
	"unbrick/playbooks/hive"
	"unbrick/playbooks/hivetest"
	"unbrick/playbooks/volumetest"
)

const config = "Windows/System32/config/"

// registered is a volume with the hives of a Windows that has a driver acme, which starts at
// boot, and with boot stores that start Windows in Safe Mode.
func registered() *volumetest.Volume {
	v := volumetest.New()
	for name, b := range map[string][]byte{
		config + "SYSTEM":        hivetest.System(map[string]uint32{"acme": 0, "other": 1}),
		config + "SYSTEM.LOG1":   nil,
		config + "SYSTEM.LOG2":   nil,
		config + "SOFTWARE":      hivetest.Build(hivetest.Key{Name: "ROOT", Keys: []hivetest.Key{{Name: "Acme", Values: []hivetest.Value{hivetest.Text("Mode", "Fast")}}}}),
		config + "SOFTWARE.LOG1": nil,
		"Boot/BCD":               hivetest.BCD(hivetest.OtherLoader),
		"Boot/BCD.LOG":           nil,
		"EFI/Microsoft/Boot/BCD": hivetest.BCD(hivetest.Loader, hivetest.OtherLoader),
	} {
		v.Add(name, bad, b)
	}
	return v
}

func driver() *playbooks.Registry {
	return &playbooks.Registry{Hive: "SYSTEM", Key: `CurrentControlSet\Services\ACME`, Value: "start", Type: "REG_DWORD",
		When: playbooks.Condition{OneOf: []string{"0", "0x1"}}, Set: "4"}
}

func all() []playbooks.Step {
	return []playbooks.Step{&playbooks.Hives{}, driver(), &playbooks.Safeboot{}}
}

func read(t testing.TB, v fs.FS, name string) *hive.Hive {
	t.Helper()
	b, err := fs.ReadFile(v, name)
	if err != nil {
		t.Fatal(err)
	}
	if hive.Dirty(b) {
		t.Fatalf("%s is dirty", name)
	}
	h, err := hive.Open(b)
	if err != nil {
		t.Fatal(name, err)
	}
	return h
}

// startOf returns the Start value of acme in each control set.
func startOf(t testing.TB, v fs.FS) (starts []uint64) {
	t.Helper()
	h := read(t, v, config+"SYSTEM")
	for _, set := range []string{"001", "002"} {
		is, err := h.Get(`ControlSet`+set+`\Services\acme`, "Start")
		if err != nil {
			t.Fatal(err)
		}
		starts = append(starts, is.Number())
	}
	return starts
}

func TestSteps(t *testing.T) {
	v := registered()
	pb := &playbooks.Playbook{Name: "p", Steps: all()}
	v.Intercept(func(op volumetest.Op, name string) error {
		if op == volumetest.Write || op == volumetest.Remove {
			t.Errorf("Check does %s to %s", op, name)
		}
		return nil
	})
	found, err := pb.Check(v)
	if err != nil {
		t.Fatal(err)
	}
	v.Intercept(nil)
	kept := map[string][]byte{}
	before := v.Files()
	applied, err := pb.Apply(v, keep(func(f playbooks.File, r io.Reader) error {
		b, err := io.ReadAll(r)
		kept[f.Path] = b
		return err
	}))
	if err != nil || len(applied) != 4 {
		t.Fatalf("%+v, %v", applied, err)
	}
	for i, want := range []playbooks.Verdict{playbooks.Good, playbooks.Faulty, playbooks.Faulty, playbooks.Both} {
		if found[i].Verdict != want || applied[i].Verdict != want {
			t.Errorf("%s: checked %s, applied %s, want %s", found[i].Step, found[i].Verdict, applied[i].Verdict, want)
		}
		if aside := i != 1; found[i].Aside != aside {
			t.Errorf("%s: aside %v", found[i].Step, found[i].Aside)
		}
	}
	r := playbooks.Result{Volumes: []playbooks.VolumeResult{playbooks.NewVolumeResult("v", applied, nil)}}
	var changed []string
	for _, val := range r.Changed() {
		changed = append(changed, fmt.Sprintf("%s %s: %s -> %s", val.Path, val.Name, val.Was, val.Is))
	}
	if want := []string{
		config + `SYSTEM ControlSet001\Services\ACME\start: REG_DWORD 0 -> REG_DWORD 4`,
		config + `SYSTEM ControlSet002\Services\ACME\start: REG_DWORD 0 -> REG_DWORD 4`,
		`EFI/Microsoft/Boot/BCD Objects\` + hivetest.Loader + `\Elements\25000080: Safe Mode with Networking -> not there`,
		`EFI/Microsoft/Boot/BCD Objects\` + hivetest.OtherLoader + `\Elements\25000080: Safe Mode with Networking -> not there`,
		`Boot/BCD Objects\` + hivetest.OtherLoader + `\Elements\25000080: Safe Mode with Networking -> not there`,
	}; !reflect.DeepEqual(changed, want) || len(r.Unchanged()) != 0 {
		t.Errorf("changed\n%s\nleft %+v", strings.Join(changed, "\n"), r.Unchanged())
	}
	if s := startOf(t, v); !slices.Equal(s, []uint64{4, 4}) {
		t.Error(s)
	}
	if other, err := read(t, v, config+"SYSTEM").Get(`ControlSet001\Services\other`, "Start"); err != nil || other.Number() != 1 {
		t.Error(other, err)
	}
	for _, f := range before {
		if b, ok := kept[f.Path]; f.Path == "Boot/BCD" && (!ok || !bytes.Equal(b, f.Content)) || strings.Contains(f.Path, "SOFTWARE") && ok {
			t.Errorf("%s kept: %v", f.Path, ok)
		}
	}
	left := v.Files()
	again, err := pb.Apply(v, keeper(t))
	if err != nil || !reflect.DeepEqual(v.Files(), left) || again[1].Verdict != playbooks.Good || again[2].Verdict != playbooks.Good {
		t.Errorf("the second time: %+v, %v", again, err)
	}
}

func TestRegistryDecides(t *testing.T) {
	for _, c := range []struct {
		name    string
		step    func(r *playbooks.Registry)
		verdict playbooks.Verdict
		was, is string // of the first value
	}{
		{"faulty", func(*playbooks.Registry) {}, playbooks.Faulty, "REG_DWORD 0", "REG_DWORD 4"},
		{"good already", func(r *playbooks.Registry) { r.Set, r.When.OneOf = "0", []string{"3"} }, playbooks.Good, "REG_DWORD 0", ""},
		{"neither", func(r *playbooks.Registry) { r.When.OneOf = []string{"2"} }, playbooks.Clean, "REG_DWORD 0", ""},
		{"another type", func(r *playbooks.Registry) { r.Type = "REG_SZ" }, playbooks.Clean, "REG_DWORD 0", ""},
		{"no such key", func(r *playbooks.Registry) { r.Key = `CurrentControlSet\Services\nobody` }, playbooks.Absent, "", ""},
		{"no such value", func(r *playbooks.Registry) { r.Value = "nothing" }, playbooks.Clean, "not there", ""},
		{"whatever it is", func(r *playbooks.Registry) { r.When = playbooks.Condition{Exists: true} }, playbooks.Faulty, "REG_DWORD 0", "REG_DWORD 4"},
		{"delete", func(r *playbooks.Registry) { r.Set, r.Delete = "", true }, playbooks.Faulty, "REG_DWORD 0", "not there"},
		{"delete, other data", func(r *playbooks.Registry) { r.Set, r.Delete, r.When.OneOf = "", true, []string{"7"} }, playbooks.Clean, "REG_DWORD 0", ""},
		{"one control set", func(r *playbooks.Registry) { r.Key = `controlset002\services\acme` }, playbooks.Faulty, "REG_DWORD 0", "REG_DWORD 4"},
		{"text, any case", func(r *playbooks.Registry) {
			*r = playbooks.Registry{Hive: "SOFTWARE", Key: "acme", Value: "mode", Type: "REG_SZ", When: playbooks.Condition{OneOf: []string{"FAST"}}, Set: "a much longer text than that"}
		}, playbooks.Faulty, `REG_SZ "Fast"`, `REG_SZ "a much longer text than that"`},
		{"hive that is not there", func(r *playbooks.Registry) { r.Hive = "DRIVERS" }, playbooks.Absent, "", ""},
		{"with a file that is not there", func(r *playbooks.Registry) { r.With = library(t).Steps[0].(*playbooks.Remove) }, playbooks.Clean, "REG_DWORD 0", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, r := registered(), driver()
			c.step(r)
			found, err := (&playbooks.Playbook{Steps: []playbooks.Step{r}}).Apply(v, keeper(t))
			if err != nil || len(found) != 1 || found[0].Verdict != c.verdict || (len(found[0].Values) > 0) != (c.was != "") {
				t.Fatalf("%+v, %v", found, err)
			}
			if c.was == "" {
				return
			}
			val := found[0].Values[0]
			if val.Was != c.was || val.Is != c.is || val.Faulty != (c.is != "") || val.Changed != val.Faulty || val.Why == "" {
				t.Errorf("%+v", val)
			}
			after, err := r.Check(v, "Windows")
			if err != nil || after.Verdict.Affected() || val.Changed && after.Values[0].Was != val.Is {
				t.Errorf("afterwards %+v, %v", after, err)
			}
		})
	}
}

// A step that is tied to a faulty file comes before the one that removes it, and changes
// nothing on a host that has the good one.
func TestRegistryWith(t *testing.T) {
	remove := library(t).Steps[0].(*playbooks.Remove)
	r := driver()
	r.With = remove
	pb := &playbooks.Playbook{Steps: []playbooks.Step{r, remove}}
	for _, c := range []struct {
		mtime time.Time
		start uint64
	}{{bad, 4}, {good, 0}} {
		v := registered().Add(folder+"C-00000291-1.sys", c.mtime, channel("x"))
		found, err := pb.Apply(v, keeper(t))
		if err != nil || found[0].Verdict.Affected() != (c.start == 4) || found[1].Verdict.Affected() != (c.start == 4) {
			t.Fatalf("%+v, %v", found, err)
		}
		if s := startOf(t, v); s[0] != c.start || s[1] != c.start {
			t.Errorf("Start is %d, want %d", s, c.start)
		}
	}
}

// states returns a hive before and after a change, and in between with its log.
func states(t *testing.T) (old, done []byte, w hive.Write) {
	old = hivetest.System(map[string]uint32{"acme": 0})
	h, err := hive.Open(old)
	if err != nil {
		t.Fatal(err)
	}
	e, err := h.Edit(bad)
	if err == nil {
		err = e.Set(`ControlSet001\Control`, "SystemStartOptions", hive.String, hivetest.UTF16("changed, and long enough for a cell of its own\x00"))
	}
	if err != nil {
		t.Fatal(err)
	}
	if done, err = e.Bytes(); err != nil {
		t.Fatal(err)
	}
	if w, err = hive.Plan(old, done, nil); err != nil {
		t.Fatal(err)
	}
	return old, done, w
}

func TestHives(t *testing.T) {
	old, done, w := states(t)
	torn := bytes.Clone(w.Begun)
	copy(torn[4096+512:], make([]byte, 512))
	cleanTorn := bytes.Clone(torn)
	copy(cleanTorn, old[:4096])
	for _, c := range []struct {
		name      string
		primary   []byte
		log, back []byte
		replay    string
		verdict   playbooks.Verdict
		why       string
		after     []byte
	}{
		{"clean", old, nil, nil, "", playbooks.Good, "it passes the load test", old},
		{"clean, with the log of a change that Windows would ignore", old, w.Log, nil, "", playbooks.Good, "it passes", old},
		{"dirty, as every crash leaves it", w.Begun, w.Log, nil, "", playbooks.Good, "Windows replays its logs at its next start: 1 changes in SYSTEM.LOG1", w.Begun},
		{"dirty, and to be replayed", w.Begun, w.Log, nil, playbooks.ReplayDirty, playbooks.Faulty, "behind its logs", done},
		{"torn", torn, w.Log, nil, "", playbooks.Faulty, "at 0x", done},
		{"base block gone", append(make([]byte, 4096), w.Begun[4096:]...), w.Log, nil, "", playbooks.Faulty, "does not begin as a hive does", done},
		{"dirty without a log", w.Begun, nil, nil, "", playbooks.Damaged, "no log continues it; RegBack has no copy", w.Begun},
		{"torn, the log too", torn, w.Log[:700], nil, "", playbooks.Damaged, "an entry has", torn},
		{"torn, and written to its end", cleanTorn, w.Log, []byte{}, "", playbooks.Damaged, "its logs have nothing to restore it from; the copy in RegBack is empty", cleanTorn},
		{"a copy in RegBack", cleanTorn, nil, old, "", playbooks.Damaged, "RegBack has a whole copy of 2024-07-19T04:09:00Z", cleanTorn},
		{"a torn copy in RegBack", cleanTorn, nil, torn, "", playbooks.Damaged, "RegBack is of no use", cleanTorn},
		{"empty, and the log has all of it", []byte{}, w.Log, nil, "", playbooks.Faulty, "does not begin as a hive does", done},
		{"empty", []byte{}, nil, nil, "", playbooks.Damaged, "no log continues it", []byte{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := volumetest.New().Add(config+"SYSTEM", bad, c.primary).Add(config+"SYSTEM.LOG1", bad, c.log)
			if c.back != nil {
				v.Add(config+"RegBack/SYSTEM", bad, c.back)
			}
			pb := &playbooks.Playbook{Steps: []playbooks.Step{&playbooks.Hives{Names: []string{"SYSTEM"}, Replay: c.replay}}}
			found, err := pb.Apply(v, keeper(t))
			if err != nil || len(found) != 1 || found[0].Verdict != c.verdict || found[0].Aside {
				t.Fatalf("%+v, %v", found, err)
			}
			val := found[0].Values[0]
			if !strings.Contains(val.Why, c.why) || val.Changed != (c.verdict == playbooks.Faulty) {
				t.Errorf("%+v, want %q", val, c.why)
			}
			is, err := fs.ReadFile(v, config+"SYSTEM")
			if err != nil || !bytes.Equal(is[min(4096, len(is)):], c.after[min(4096, len(c.after)):]) || hive.Dirty(is) != hive.Dirty(c.after) {
				t.Errorf("%d bytes, dirty %v, %v", len(is), hive.Dirty(is), err)
			}
			r := playbooks.NewVolumeResult("v", found, err)
			if len(playbooks.Result{Volumes: []playbooks.VolumeResult{r}}.Unchanged()) > 0 != (c.verdict == playbooks.Damaged) || r.Verdict != c.verdict {
				t.Errorf("%+v", r)
			}
		})
	}
	v := volumetest.New().Add(config+"SYSTEM", bad, old)
	if f, err := (&playbooks.Hives{}).Check(v, "Windows"); err != nil || f.Verdict != playbooks.Damaged || f.Values[1].Was != "not there" {
		t.Errorf("no SOFTWARE: %+v, %v", f, err)
	}
}

// A dirty hive is read as its logs make it, and a change builds on that.
func TestRegistryOnDirty(t *testing.T) {
	_, _, w := states(t)
	for _, primary := range [][]byte{w.Begun, w.Filled, append(make([]byte, 512), w.Begun[512:]...)} {
		v := registered().Add(config+"SYSTEM", bad, primary).Add(config+"SYSTEM.LOG1", bad, w.Log)
		found, err := (&playbooks.Playbook{Steps: []playbooks.Step{driver()}}).Apply(v, keeper(t))
		if err != nil || !found[0].Values[0].Changed {
			t.Fatalf("%+v, %v", found, err)
		}
		text, err := read(t, v, config+"SYSTEM").Get(`ControlSet001\Control`, "SystemStartOptions")
		if s := startOf(t, v); s[0] != 4 || s[1] != 4 || err != nil || !strings.HasPrefix(text.Text(), "changed") {
			t.Errorf("%d, %q, %v", s, text.Text(), err)
		}
	}
}

// Law: cut off at any write, with any part of it done, the next run brings it to its end, and
// nothing is lost: neither what the logs had nor what nobody asked to change.
func TestCutOff(t *testing.T) {
	_, _, w := states(t)
	cut := errors.New("the power is gone")
	taken := keep(func(_ playbooks.File, r io.Reader) error { _, err := io.Copy(io.Discard, r); return err })
	for _, primary := range [][]byte{nil, w.Begun, w.Filled, append(make([]byte, 600), w.Begun[600:]...), w.Begun[:100], {}} {
		dirty := primary != nil
		for n := 1; ; n++ {
			done := false
			for _, part := range []int{0, 512, 4096, 4096 + 1024, 8192, 1 << 20} {
				v := registered()
				if dirty {
					v.Add(config+"SYSTEM", bad, primary).Add(config+"SYSTEM.LOG1", bad, w.Log)
				}
				pb := &playbooks.Playbook{Steps: []playbooks.Step{&playbooks.Hives{Replay: playbooks.ReplayDirty}, driver()}}
				c := &cutter{Volume: v, left: n, part: part, err: cut}
				_, err := pb.Apply(c, taken)
				if done = err == nil; done {
					break
				}
				if !errors.Is(err, cut) {
					t.Fatal(err)
				}
				found, err := pb.Apply(v, taken)
				if err != nil {
					t.Fatalf("dirty %v, write %d, %d bytes of it: %v\n%+v", dirty, n, part, err, found)
				}
				if s := startOf(t, v); s[0] != 4 || s[1] != 4 {
					t.Errorf("dirty %v, write %d, %d bytes of it: Start is %d", dirty, n, part, s)
				}
				text, err := read(t, v, config+"SYSTEM").Get(`ControlSet001\Control`, "SystemStartOptions")
				if err != nil || strings.HasPrefix(text.Text(), "changed") != dirty {
					t.Errorf("dirty %v, write %d, %d bytes of it: %q, %v", dirty, n, part, text.Text(), err)
				}
			}
			if done {
				if n < 5 {
					t.Errorf("dirty %v: only %d writes", dirty, n-1)
				}
				break
			}
		}
	}
}

// A cutter loses its power at the write number left, after part bytes of it.
type cutter struct {
	*volumetest.Volume
	left, part int
	err        error
}

func (c *cutter) WriteFile(name string, b []byte) error {
	if c.left--; c.left > 0 {
		return c.Volume.WriteFile(name, b)
	}
	if c.left == 0 {
		was, err := fs.ReadFile(c.Volume, name)
		if err != nil {
			return err
		}
		n := min(c.part, len(b))
		if err := c.Volume.WriteFile(name, append(bytes.Clone(b[:n]), was[min(n, len(was)):]...)); err != nil {
			return err
		}
	}
	return c.err
}

// What goes wrong before the first write leaves everything as it was.
func TestStepsRefuse(t *testing.T) {
	for _, c := range []struct {
		name, want string
		keep       playbooks.Keeper
		fault      func(v *volumetest.Volume)
	}{
		{"no keeper", "nobody keeps a copy", nil, nil},
		{"the keeper fails", "no space left", keep(func(playbooks.File, io.Reader) error { return errors.New("no space left") }), nil},
		{"read-only", "permission denied", keeper(t), func(v *volumetest.Volume) { v.SetReadOnly(true) }},
		{"no hive", "is damaged", keeper(t), func(v *volumetest.Volume) { v.Add(config+"SYSTEM", bad, []byte("regf")) }},
		{"unreadable", "input/output error", keeper(t), func(v *volumetest.Volume) {
			v.Fail(volumetest.Open, config+"SYSTEM", errors.New("input/output error"))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := registered()
			if c.fault != nil {
				c.fault(v)
			}
			before := v.Files()
			found, err := (&playbooks.Playbook{Steps: []playbooks.Step{driver()}}).Apply(v, c.keep)
			if err == nil || !strings.Contains(err.Error(), c.want) || found[0].Error == "" {
				t.Fatalf("%+v, %v, want %q", found, err, c.want)
			}
			if !reflect.DeepEqual(v.Files(), before) {
				t.Error("something was written")
			}
			for _, val := range found[0].Values {
				if val.Changed {
					t.Errorf("%+v", val)
				}
			}
		})
	}
}

// Apply takes no Finding on trust.
func TestStepsForeignFinding(t *testing.T) {
	value := func(path, name string) playbooks.Value {
		return playbooks.Value{Path: path, Name: name, Was: "REG_DWORD 0", Is: "REG_DWORD 4", Faulty: true}
	}
	for _, c := range []struct {
		step playbooks.Step
		root string
		val  playbooks.Value
	}{
		{driver(), "Windows", value(config+"SYSTEM", `ControlSet001\Services\other\start`)},
		{driver(), "Windows", value(config+"SYSTEM", `ControlSet001\Services\ACME\Type`)},
		{driver(), "Windows", value(config+"SOFTWARE", `ControlSet001\Services\ACME\start`)},
		{driver(), "Windows", value("Boot/BCD", `ControlSet001\Services\ACME\start`)},
		{driver(), "Windows", value("../SYSTEM", `ControlSet001\Services\ACME\start`)},
		{&playbooks.Hives{}, "Windows", value("Boot/BCD", "")},
		{&playbooks.Hives{}, "Windows", value(config+"SYSTEM", "x")},
		{&playbooks.Safeboot{}, "Boot/BCD", value(config+"SYSTEM", `Objects\{x}\Elements\25000080`)},
		{&playbooks.Safeboot{}, "Boot/BCD", value("Boot/BCD", `Objects\`+hivetest.Loader+`\Elements\12000004`)},
	} {
		v := registered()
		before := v.Files()
		f := playbooks.Finding{Root: c.root, Verdict: playbooks.Faulty, Values: []playbooks.Value{c.val}}
		if err := c.step.Apply(v, &f, keeper(t)); err == nil || !reflect.DeepEqual(v.Files(), before) || f.Values[0].Changed {
			t.Errorf("%s: %+v, %v", c.step, c.val, err)
		}
	}
	// The value is another one by now.
	v := registered()
	f, err := driver().Check(v, "Windows")
	if err != nil {
		t.Fatal(err)
	}
	f.Values[0].Was = "REG_DWORD 1"
	if err := driver().Apply(v, &f, keeper(t)); err == nil || !strings.Contains(err.Error(), "changed after it was looked at") {
		t.Error(err)
	}
}

// A volume whose hives are well has nothing of the incident by that.
func TestAsideProvesNothing(t *testing.T) {
	pb := &playbooks.Playbook{Steps: []playbooks.Step{&playbooks.Hives{}, &playbooks.Safeboot{}, library(t).Steps[0]}}
	v := registered().Add("Boot/BCD", bad, hivetest.BCD()).Add("EFI/Microsoft/Boot/BCD", bad, hivetest.BCD())
	found, err := pb.Check(v)
	if r := playbooks.NewVolumeResult("v", found, err); err != nil || r.Verdict != playbooks.Absent || len(found) != 4 {
		t.Errorf("%+v, %v", r, err)
	}
	// Alone they are what it is about.
	pb.Steps = pb.Steps[:2]
	found, err = pb.Check(v)
	if r := playbooks.NewVolumeResult("v", found, err); err != nil || r.Verdict != playbooks.Good {
		t.Errorf("%+v, %v", r, err)
	}
}

// Every installation on a volume is put right, and each is named; one that cannot be read
// keeps the other from nothing.
func TestSeveralInstallations(t *testing.T) {
	v := registered()
	for _, f := range v.Files() {
		if strings.HasPrefix(f.Path, "Windows/") {
			v.Add("Windows.old/"+f.Path, bad, f.Content)
		}
	}
	v.Add("Broken/WINNT/System32/config/SYSTEM", bad, []byte("regf"))
	found, err := (&playbooks.Playbook{Steps: []playbooks.Step{driver()}}).Apply(v, keeper(t))
	if err == nil || !strings.Contains(err.Error(), "Broken/WINNT") || len(found) != 3 || found[0].Verdict != playbooks.Unreadable {
		t.Fatalf("%+v, %v", found, err)
	}
	for i, root := range []string{"Windows", "Windows.old/Windows"} {
		f := found[i+1]
		if f.Root != root || f.Verdict != playbooks.Faulty || len(f.Values) != 2 || !f.Values[0].Changed || !strings.HasPrefix(f.Values[0].Path, root+"/") {
			t.Errorf("%+v", f)
		}
	}
}
