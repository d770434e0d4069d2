package playbooks_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"reflect"
	"strings"
	"testing"
	"time"

	"unbrick/playbooks"
	"unbrick/playbooks/volumetest"
)

const folder = "Windows/System32/drivers/CrowdStrike/"

var (
	bad  = time.Date(2024, 7, 19, 4, 9, 47, 0, time.UTC)
	good = time.Date(2024, 7, 19, 5, 27, 0, 0, time.UTC)
)

// channel returns the content of a channel file 291, with something of its own.
func channel(own string) []byte {
	return append([]byte{0xaa, 0xaa, 0xaa, 0xaa, 1, 0, 0x23, 1}, own...)
}

// windows returns a volume with one Windows and no sensor.
func windows() *volumetest.Volume {
	return volumetest.New().Add("Windows/System32/config/SYSTEM", bad, []byte("regf"))
}

// patient has two faulty files and a good one.
func patient() *volumetest.Volume {
	return windows().
		Add(folder+"C-00000291-1.sys", bad, channel("one")).
		Add(folder+"C-00000291-2.sys", bad, channel("two")).
		Add(folder+"C-00000291-3.sys", good, channel("three"))
}

func library(t testing.TB) *playbooks.Playbook {
	t.Helper()
	pb, err := playbooks.Open("crowdstrike-291")
	if err != nil {
		t.Fatal(err)
	}
	return pb
}

// A keep is a Keeper that is a function.
type keep func(playbooks.File, io.Reader) error

func (k keep) Keep(f playbooks.File, r io.Reader) error { return k(f, r) }

func TestApply(t *testing.T) {
	v := patient()
	kept := map[string]string{}
	k := keep(func(f playbooks.File, r io.Reader) error {
		b, err := io.ReadAll(r)
		kept[f.Path] = string(b)
		if !v.Has(folder+"C-00000291-1.sys") || !v.Has(folder+"C-00000291-2.sys") {
			t.Error("something was removed before all copies were kept")
		}
		return err
	})
	found, err := library(t).Apply(v, k)
	if err != nil || len(found) != 1 || found[0].Verdict != playbooks.Both {
		t.Fatalf("%+v, %v", found, err)
	}
	want := map[string]string{folder + "C-00000291-1.sys": string(channel("one")), folder + "C-00000291-2.sys": string(channel("two"))}
	if !reflect.DeepEqual(kept, want) {
		t.Errorf("kept %q", kept)
	}
	for i, f := range found[0].Files {
		if f.Removed != (i < 2) || f.Faulty != (i < 2) || f.Why == "" || v.Has(f.Path) == f.Removed {
			t.Errorf("%+v", f)
		}
	}
	left := v.Files()
	again, err := library(t).Apply(v, k)
	if err != nil || again[0].Verdict != playbooks.Good || !reflect.DeepEqual(v.Files(), left) {
		t.Errorf("the second time: %+v, %v", again, err)
	}
}

// Check changes nothing and says the same as Apply does first.
func TestCheckChangesNothing(t *testing.T) {
	v := patient()
	v.Intercept(func(op volumetest.Op, name string) error {
		if op == volumetest.Remove {
			t.Errorf("Check removes %s", name)
		}
		return nil
	})
	before := v.Files()
	found, err := library(t).Check(v)
	if err != nil || found[0].Verdict != playbooks.Both || !reflect.DeepEqual(v.Files(), before) {
		t.Errorf("%+v, %v", found, err)
	}
}

// Everything that can go wrong before the first file goes, and after it.
func TestApplyFaults(t *testing.T) {
	all := func(f playbooks.File, r io.Reader) error { _, err := io.Copy(io.Discard, r); return err }
	second := folder + "C-00000291-2.sys"
	for _, c := range []struct {
		name    string
		keep    playbooks.Keeper
		fault   func(v *volumetest.Volume) // before Apply
		want    string
		removed int
	}{
		{"the keeper fails", keep(func(playbooks.File, io.Reader) error { return errors.New("no space left") }), nil, "no space left", 0},
		{"the keeper fails for the second file", keep(func(f playbooks.File, r io.Reader) error {
			if f.Path == second {
				return errors.New("no space left")
			}
			return all(f, r)
		}), nil, "no space left", 0},
		{"the keeper takes a part", keep(func(_ playbooks.File, r io.Reader) error { _, err := r.Read(make([]byte, 3)); return err }), nil, "3 of 11 bytes were taken", 0},
		{"the keeper takes nothing", keep(func(playbooks.File, io.Reader) error { return nil }), nil, "0 of 11 bytes were taken", 0},
		{"no keeper", nil, nil, "nobody keeps a copy", 0},
		{"the content changes after the check", keep(all), func(v *volumetest.Volume) {
			afterOpens(v, second, 1, func() { v.Add(second, bad, channel("TWO")) })
		}, "changed after it was looked at", 0},
		{"the time changes after the check", keep(all), func(v *volumetest.Volume) {
			afterOpens(v, second, 1, func() { v.Add(second, good, channel("two")) })
		}, "changed after it was looked at", 0},
		{"the content changes after the copy", keep(all), func(v *volumetest.Volume) {
			afterOpens(v, second, 3, func() { v.Add(second, bad, channel("TWO")) })
		}, "changed after it was looked at", 1},
		{"the file becomes a link after the check", keep(all), func(v *volumetest.Volume) {
			afterOpens(v, second, 1, func() { v.Link(second, fs.ModeSymlink) })
		}, "not a plain file", 0},
		{"it cannot be read again", keep(all), func(v *volumetest.Volume) {
			n := 0
			v.Intercept(func(op volumetest.Op, name string) error {
				if op == volumetest.Open && name == second {
					if n++; n > 1 {
						return errors.New("input/output error")
					}
				}
				return nil
			})
		}, "input/output error", 0},
		{"one refuses to go", keep(all), func(v *volumetest.Volume) { v.Fail(volumetest.Remove, second, fs.ErrPermission) }, "permission denied", 1},
		{"the mount is read-only", keep(all), func(v *volumetest.Volume) { v.SetReadOnly(true) }, "permission denied", 0},
		{"it comes back", keep(all), func(v *volumetest.Volume) {
			afterOp(v, volumetest.ReadDir, "Windows/System32/drivers/CrowdStrike", func() {
				if !v.Has(second) {
					v.Add(second, bad, channel("two"))
				}
			})
		}, "still listed after it was removed", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := patient()
			if c.fault != nil {
				c.fault(v)
			}
			found, err := library(t).Apply(v, c.keep)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%v, want %q", err, c.want)
			}
			r := playbooks.Result{Volumes: []playbooks.VolumeResult{playbooks.NewVolumeResult("v", found, err)}}
			if len(r.Removed()) != c.removed || len(r.Left()) != 2-c.removed || !r.Affected() || found[0].Error == "" {
				t.Errorf("removed %+v, left %+v, error %q", r.Removed(), r.Left(), found[0].Error)
			}
			for _, f := range r.Removed() {
				if v.Has(f.Path) {
					t.Errorf("%s is called removed and is there", f.Path)
				}
			}
			for _, f := range r.Left() {
				if f.Path != second && !v.Has(f.Path) {
					t.Errorf("%s is called left and is gone", f.Path)
				}
			}
			if !v.Has(folder + "C-00000291-3.sys") {
				t.Error("the good file is gone")
			}
		})
	}
}

// afterOpens has f run once, right before the file is opened for the n+1st time.
func afterOpens(v *volumetest.Volume, name string, n int, f func()) {
	v.Intercept(func(op volumetest.Op, asked string) error {
		if op == volumetest.Open && asked == name {
			if n--; n == -1 {
				f()
			}
		}
		return nil
	})
}

func afterOp(v *volumetest.Volume, op volumetest.Op, name string, f func()) {
	v.Intercept(func(o volumetest.Op, asked string) error {
		if o == op && asked == name {
			f()
		}
		return nil
	})
}

// A file that is gone by itself, or by a run that was cut off, counts as removed.
func TestApplyGoneAlready(t *testing.T) {
	v := patient()
	step := library(t).Steps[0]
	f, err := step.Check(v, "Windows")
	if err != nil {
		t.Fatal(err)
	}
	stale := f
	stale.Files = append([]playbooks.File(nil), f.Files...)
	if err := step.Apply(v, &f, keeper(t)); err != nil {
		t.Fatal(err)
	}
	if err := step.Apply(v, &f, keeper(t)); err != nil {
		t.Error(err)
	}
	if err := step.Apply(v, &stale, keeper(t)); err != nil || !stale.Files[0].Removed || !strings.Contains(stale.Files[0].Why, "gone already") {
		t.Errorf("%+v, %v", stale, err)
	}
	// On a volume that went away everything is gone, and nothing was removed.
	v = patient()
	if f, err = step.Check(v, "Windows"); err != nil {
		t.Fatal(err)
	}
	if err := step.Apply(volumetest.New(), &f, keeper(t)); err == nil || f.Files[0].Removed {
		t.Errorf("%+v, %v", f, err)
	}
}

// One Windows that cannot be read does not keep the other from being repaired, and is
// reported.
func TestApplyOneRootUnreadable(t *testing.T) {
	v := patient().Add("Windows.old/Windows/System32/config/SYSTEM", bad, nil).
		Add("Windows.old/"+folder+"C-00000291-1.sys", bad, channel("old"))
	fault := errors.New("input/output error")
	v.Fail(volumetest.Open, folder+"C-00000291-1.sys", fault)
	found, err := library(t).Apply(v, keeper(t))
	if !errors.Is(err, fault) || len(found) != 2 {
		t.Fatalf("%+v, %v", found, err)
	}
	if found[0].Verdict != playbooks.Unreadable || !v.Has(folder+"C-00000291-2.sys") {
		t.Errorf("%+v", found[0])
	}
	if found[1].Verdict != playbooks.Faulty || !found[1].Files[0].Removed || v.Has("Windows.old/"+folder+"C-00000291-1.sys") {
		t.Errorf("%+v", found[1])
	}
}

// A playbook that matches more than an incident leaves is a mistake.
func TestApplyTooMany(t *testing.T) {
	v := windows()
	for i := range playbooks.DefaultMax + 1 {
		v.Add(fmt.Sprintf("%sC-00000291-%d.sys", folder, i), bad, channel("x"))
	}
	before := len(v.Files())
	found, err := library(t).Apply(v, keeper(t))
	if err == nil || !strings.Contains(err.Error(), "raise max") || len(v.Files()) != before {
		t.Errorf("%d of %d files are left, %v", len(v.Files()), before, err)
	}
	if len(found) != 1 || found[0].Verdict != playbooks.Faulty || len(found[0].Files) != playbooks.DefaultMax+1 {
		t.Errorf("%+v", found)
	}
	if found, err := library(t).Check(v); err == nil || found[0].Error == "" {
		t.Error("a dry run does not say that the step would refuse")
	}
	step := *library(t).Steps[0].(*playbooks.Remove)
	step.Max = playbooks.DefaultMax + 1
	if _, err := (&playbooks.Playbook{Steps: []playbooks.Step{&step}}).Apply(v, keeper(t)); err != nil || len(v.Files()) != 1 {
		t.Errorf("%d files are left, %v", len(v.Files()), err)
	}
}

// Apply trusts no Finding: it may be another step's, or have travelled.
func TestApplyForeignFinding(t *testing.T) {
	step := library(t).Steps[0]
	for _, path := range []string{
		"Windows/System32/config/SYSTEM",
		"Users/x/C-00000291-1.sys",
		folder + "../../config/C-00000291-1.sys",
		"/" + folder + "C-00000291-1.sys",
		folder + "other.sys",
		folder + "sub/C-00000291-1.sys",
		"",
	} {
		v := patient()
		before := len(v.Files())
		f := playbooks.Finding{Root: "Windows", Verdict: playbooks.Faulty, Files: []playbooks.File{{Path: path, Faulty: true}}}
		if err := step.Apply(v, &f, keeper(t)); err == nil || len(v.Files()) != before {
			t.Errorf("%q: %v", path, err)
		}
	}
}

// A step that was not made by Parse is held to the same rules.
func TestInvalidStep(t *testing.T) {
	for _, r := range []*playbooks.Remove{
		{},
		{Directory: "System32", Glob: "acme*.sys"},
		{Directory: "System32", Glob: "acme*.sys", Header: []byte{1}},
		{Directory: "../Users", Glob: "acme*.sys", SHA256: []string{strings.Repeat("00", 32)}},
		{Directory: "System32", Glob: "*", SHA256: []string{strings.Repeat("00", 32)}},
		{Directory: "System32", Glob: "acme*.sys", SHA256: []string{"00"}},
		{Directory: "System32", Glob: "acme*.sys", Written: playbooks.Window{From: good, Until: bad}},
		{Directory: "System32", Glob: "acme*.sys", SHA256: []string{strings.Repeat("00", 32)}, Max: -1},
	} {
		f, err := r.Check(patient(), "Windows")
		if err == nil || f.Verdict != playbooks.Unreadable {
			t.Errorf("%+v is taken: %+v", r, f)
		}
		if err := r.Apply(patient(), &f, keeper(t)); err == nil {
			t.Errorf("%+v is applied", r)
		}
	}
}

// Law: whatever a valid step says and whatever the names on the volume are, only files in the
// step's directory of a Windows are removed.
func FuzzRemoveStaysInside(f *testing.F) {
	f.Add("System32/drivers/CrowdStrike", "C-00000291*.sys", "C-00000291-9.sys")
	f.Add("System32", "system*", "SYSTEM.LOG")
	f.Add("System32/drivers", "ntf?.sys", "ntf\u212a.sys")
	f.Fuzz(func(t *testing.T, directory, glob, name string) {
		step := &playbooks.Remove{Directory: directory, Glob: glob, Written: playbooks.Window{From: bad, Until: good}, Max: 100}
		if step.Validate() != nil {
			return
		}
		v := windows().Add("outside.sys", bad, nil).Add("Users/x/C-00000291-1.sys", bad, nil)
		for _, dir := range []string{"System32", "System32/drivers/CrowdStrike", directory} {
			addTo(v, "Windows/"+dir, name)
		}
		before := v.Files()
		found, err := (&playbooks.Playbook{Steps: []playbooks.Step{step}}).Apply(v, keep(func(playbooks.File, io.Reader) error { return nil }))
		removed := 0
		for _, f := range found {
			for _, file := range f.Files {
				if file.Removed {
					removed++
				}
			}
		}
		if len(before)-len(v.Files()) != removed {
			t.Errorf("%d files are gone and %d reported, %v", len(before)-len(v.Files()), removed, err)
		}
		for _, file := range before {
			dir := "Windows/" + directory + "/"
			inside := len(file.Path) > len(dir) && strings.EqualFold(file.Path[:len(dir)], dir) && !strings.Contains(file.Path[len(dir):], "/")
			if !v.Has(file.Path) && !inside {
				t.Errorf("%s is gone: the step is %s", file.Path, step)
			}
		}
	})
}

// addTo adds a file unless its path cannot be.
func addTo(v *volumetest.Volume, dir, name string) {
	if !fs.ValidPath(dir+"/"+name) || strings.Contains(name, "/") {
		return
	}
	for up := dir; up != "."; up = path.Dir(up) {
		if v.Has(up) {
			return // a file is there
		}
	}
	if info, err := fs.Stat(v, dir+"/"+name); err == nil && info.IsDir() {
		return
	}
	v.Add(dir+"/"+name, bad, nil)
}

func TestString(t *testing.T) {
	const want = "remove System32/drivers/CrowdStrike/C-00000291*.sys that begins with AA AA AA AA 01 00 23 01, written 2024-07-19T04:09:00Z to 2024-07-19T05:27:00Z"
	if s := library(t).Steps[0].String(); s != want {
		t.Error(s)
	}
}
