package playbooks_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"unbrick/playbooks"
	"unbrick/playbooks/volumetest"
	"unbrick/remediate/lab/testenv"
)

// A mistake that a tool of July 2024 made is a row here: files as they stood, and the ones
// that have to go. Tools that did not fix it deleted too much, too little, or nothing, and
// reported success.
func TestWildBugs(t *testing.T) {
	at := func(s string) time.Time {
		w, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	type files map[string]time.Time
	const name = folder + "C-00000291-00000000-00000032.sys"
	for _, c := range []struct {
		bug     string
		files   files
		content []byte // of all of them; channel("x") if nil
		verdict playbooks.Verdict
		gone    []string
	}{
		{bug: "wrong folder: the file of that name next to the sensor's folder is not the sensor's",
			files:   files{"Windows/System32/drivers/C-00000291-00000000-00000032.sys": bad, "Windows/System32/C-00000291-1.sys": bad, name: bad},
			verdict: playbooks.Faulty, gone: []string{name}},
		{bug: "fixed suffix: it changes with every version",
			files:   files{folder + "C-00000291-00000000-00000029.sys": bad, folder + "c-00000291-00000000-00000039.SYS": bad, folder + "C-00000291.sys": bad},
			verdict: playbooks.Faulty, gone: []string{folder + "C-00000291-00000000-00000029.sys", folder + "C-00000291.sys", folder + "c-00000291-00000000-00000039.SYS"}},
		{bug: "narrow glob: C-00000291*18.sys",
			files:   files{folder + "C-00000291-00000000-00000018.sys": good, folder + "C-00000291-00000000-00000032.sys": bad},
			verdict: playbooks.Both, gone: []string{name}},
		{bug: "other channels of the same hour stay",
			files:   files{folder + "C-00000290-00000000-00000032.sys": bad, folder + "XC-00000291-1.sys": bad, folder + "C-00000291-1.sys.bak": bad, name: bad},
			verdict: playbooks.Faulty, gone: []string{name}},
		{bug: "timestamp in name: 0409 in a name says nothing",
			files:   files{folder + "C-00000291-20240719-0409.sys": good, name: bad},
			verdict: playbooks.Both, gone: []string{name}},
		{bug: "exact-second equality misses the file written seconds later",
			files:   files{name: at("2024-07-19T04:09:47.1234567Z")},
			verdict: playbooks.Faulty, gone: []string{name}},
		{bug: "exact-second equality: the first moment of the window is faulty",
			files: files{name: at("2024-07-19T04:09:00Z")}, verdict: playbooks.Faulty, gone: []string{name}},
		{bug: "not older than the incident: the good file of the day before stays",
			files: files{name: at("2024-07-18T04:09:00Z")}, verdict: playbooks.Good},
		{bug: "100 ns before the window is good",
			files: files{name: at("2024-07-19T04:08:59.9999999Z")}, verdict: playbooks.Good},
		{bug: "100 ns before the end is faulty",
			files: files{name: at("2024-07-19T05:26:59.9999999Z")}, verdict: playbooks.Faulty, gone: []string{name}},
		{bug: "05:27 is good",
			files: files{name: at("2024-07-19T05:27:00Z")}, verdict: playbooks.Good},
		{bug: "time-zone double offset: the same instant in the zone of Sydney is faulty",
			files: files{name: at("2024-07-19T14:09:00+10:00")}, verdict: playbooks.Faulty, gone: []string{name}},
		{bug: "time-zone double offset: 04:09 on the clock of New York is not 04:09 UTC",
			files: files{name: at("2024-07-19T04:09:00-04:00")}, verdict: playbooks.Good},
		{bug: "summer time: an hour later by the clock of London is the same instant",
			files: files{name: at("2024-07-19T05:09:00+01:00")}, verdict: playbooks.Faulty, gone: []string{name}},
		{bug: "success without finding a file: the sensor is not there",
			files: files{"Windows/System32/drivers/ntfs.sys": bad}, verdict: playbooks.Absent},
		{bug: "success without finding a file: the sensor is there and no file of the kind",
			files: files{folder + "C-00000285-00000000-00000032.sys": bad}, verdict: playbooks.Clean},
		{bug: "name alone: a file of zeros, as a crash leaves it, is no channel file",
			files: files{name: bad}, content: make([]byte, 40000), verdict: playbooks.Clean},
		{bug: "header compared without its order",
			files: files{name: bad}, content: []byte{1, 0, 0x23, 1, 0xaa, 0xaa, 0xaa, 0xaa}, verdict: playbooks.Clean},
		{bug: "header of a file that is shorter",
			files: files{name: bad}, content: []byte{0xaa, 0xaa, 0xaa, 0xaa}, verdict: playbooks.Clean},
		{bug: "an empty file",
			files: files{name: bad}, content: []byte{}, verdict: playbooks.Clean},
		{bug: "case: crowdstrike in small letters",
			files:   files{"Windows/SYSTEM32/Drivers/Crowdstrike/c-00000291-1.sys": bad},
			verdict: playbooks.Faulty, gone: []string{"Windows/System32/Drivers/Crowdstrike/c-00000291-1.sys"}},
		{bug: "several files, one good: the good one stays",
			files:   files{name: bad, folder + "C-00000291-00000000-00000033.sys": good},
			verdict: playbooks.Both, gone: []string{name}},
	} {
		t.Run(c.bug, func(t *testing.T) {
			inZones(t, func(t *testing.T) {
				v := windows()
				content := c.content
				if content == nil {
					content = channel("x")
				}
				for name, mtime := range c.files {
					v.Add(name, mtime.Local(), content)
				}
				before := len(v.Files())
				found, err := library(t).Apply(v, keeper(t))
				if err != nil {
					t.Fatal(err)
				}
				r := playbooks.Result{Volumes: []playbooks.VolumeResult{playbooks.NewVolumeResult("v", found, nil)}}
				var gone []string
				for _, f := range r.Removed() {
					gone = append(gone, f.Path)
					if v.Has(f.Path) {
						t.Errorf("%s is called removed and is there", f.Path)
					}
				}
				slices.Sort(gone)
				if r.Verdict() != c.verdict || !slices.Equal(gone, c.gone) || len(v.Files()) != before-len(c.gone) {
					t.Errorf("verdict %s, gone %q; want %s, %q\n%+v", r.Verdict(), gone, c.verdict, c.gone, found)
				}
				if r.Affected() != (len(c.gone) > 0) || len(r.Left()) > 0 {
					t.Errorf("affected %v, left %+v", r.Affected(), r.Left())
				}
			})
		})
	}
}

// inZones runs f as on a system in several zones: the rescue image says UTC, a helper or a
// jump box says anything.
func inZones(t *testing.T, f func(*testing.T)) {
	t.Helper()
	saved := time.Local
	defer func() { time.Local = saved }()
	for _, z := range []*time.Location{
		time.UTC,
		time.FixedZone("Sydney", 10*3600),
		time.FixedZone("Kolkata", 5*3600+1800),
		time.FixedZone("New York in summer", -4*3600),
		time.FixedZone("London in summer", 3600),
	} {
		time.Local = z
		t.Run(z.String(), f)
	}
}

func keeper(t *testing.T) *playbooks.DirKeeper {
	t.Helper()
	k, err := playbooks.NewDirKeeper(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Only %WINDIR%: every Windows is looked at, whatever its name, and each is told apart.
func TestAllWindows(t *testing.T) {
	const tail = "/System32/drivers/CrowdStrike/C-00000291-1.sys"
	v := volumetest.New()
	for _, root := range []string{"Windows", "WINNT", "Windows.old/WINDOWS", "SRV", "D/Custom"} {
		v.Add(root+"/system32/CONFIG/System", bad, nil).Add(root+tail, bad, channel("x"))
	}
	v.Add("Recovery/WindowsRE/Winre.wim", bad, nil).
		Add("Not Windows"+tail, bad, channel("x")).               // no hive
		Add("a/b/Windows/System32/config/SYSTEM", bad, nil).      // too deep: somebody's backup
		Add("Only/System32/config/SYSTEM/x", bad, nil).           // a directory, not a hive
		Add("System Volume Information/x", bad, nil).Mkdir("Tmp") // kept from administrators
	v.Fail(volumetest.ReadDir, "System Volume Information", fs.ErrPermission)
	found, err := library(t).Apply(v, keeper(t))
	if err != nil {
		t.Fatal(err)
	}
	var roots []string
	for _, f := range found {
		roots = append(roots, f.Root)
		if f.Verdict != playbooks.Faulty || len(f.Files) != 1 || !f.Files[0].Removed {
			t.Errorf("%+v", f)
		}
	}
	if want := []string{"D/Custom", "SRV", "WINNT", "Windows", "Windows.old/WINDOWS"}; !slices.Equal(roots, want) {
		t.Errorf("roots %q, want %q", roots, want)
	}
	if !v.Has("Not Windows" + tail) {
		t.Error("a file outside of every Windows was removed")
	}
}

// A volume without Windows has no finding, and is never called good.
func TestNoWindows(t *testing.T) {
	found, err := library(t).Check(volumetest.New().Add("data/x", bad, nil))
	if r := playbooks.NewVolumeResult("data", found, err); err != nil || len(found) != 0 || r.Verdict != playbooks.Absent {
		t.Errorf("%+v, %v", r, err)
	}
}

// Errors swallowed: what could not be read is never called absent, clean or good.
func TestUnreadable(t *testing.T) {
	name := folder + "C-00000291-1.sys"
	fault := errors.New("input/output error")
	for _, c := range []struct {
		op   volumetest.Op
		path string
	}{
		{volumetest.ReadDir, "."},
		{volumetest.ReadDir, "Windows"},
		{volumetest.ReadDir, "Windows/System32"},
		{volumetest.ReadDir, "Windows/System32/config"},
		{volumetest.ReadDir, "Windows/System32/drivers"},
		{volumetest.ReadDir, "Windows/System32/drivers/CrowdStrike"},
		{volumetest.Open, name},
	} {
		t.Run(fmt.Sprintf("%s %s", c.op, c.path), func(t *testing.T) {
			v := windows().Add(name, good, channel("x"))
			v.Fail(c.op, c.path, fault)
			found, err := library(t).Apply(v, keeper(t))
			r := playbooks.NewVolumeResult("v", found, err)
			if !errors.Is(err, fault) || r.Verdict != playbooks.Unreadable || r.Error == "" {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
}

// A short volume gives one byte less of each file than it says, and no error.
type short struct{ *volumetest.Volume }

func (s short) Open(name string) (fs.File, error) {
	f, err := s.Volume.Open(name)
	if info, serr := fs.Stat(s.Volume, name); err != nil || serr != nil || info.IsDir() {
		return f, err
	}
	return shortFile{f}, nil
}

type shortFile struct{ fs.File }

func (f shortFile) Read(p []byte) (int, error) {
	n, err := f.File.Read(p)
	if err == nil && n > 0 {
		n--
	}
	return n, err
}

func TestShortRead(t *testing.T) {
	v := short{windows().Add(folder+"C-00000291-1.sys", bad, channel("x"))}
	found, err := library(t).Check(v)
	if err == nil || !strings.Contains(err.Error(), "it has 9 bytes and") || found[0].Verdict != playbooks.Unreadable {
		t.Errorf("%+v, %v", found, err)
	}
}

// A link on the way may lead anywhere: it is reported and not followed.
func TestLinks(t *testing.T) {
	for _, mode := range []fs.FileMode{fs.ModeSymlink, fs.ModeIrregular} {
		for _, path := range []string{"Windows/System32/drivers/CrowdStrike", "Windows/System32/Drivers", folder + "C-00000291-1.sys"} {
			v := windows().Link(path, mode)
			found, err := library(t).Apply(v, keeper(t))
			if err == nil || len(found) != 1 || found[0].Verdict != playbooks.Unreadable || found[0].Error == "" {
				t.Errorf("%s: %+v, %v", path, found, err)
			}
		}
		v := volumetest.New().Mkdir("Windows").Link("Windows/System32", mode)
		if _, err := playbooks.Roots(v); err == nil {
			t.Error("a Windows behind a link was passed over without a word")
		}
		v = windows().Link("Documents and Settings", mode)
		if roots, err := playbooks.Roots(v); err != nil || len(roots) != 1 {
			t.Errorf("%q, %v", roots, err)
		}
	}
}

// Where the file system tells case apart, every directory that may be meant is visited.
func TestCaseTwins(t *testing.T) {
	files := []volumetest.File{
		{Path: "Windows/System32/config/SYSTEM", ModTime: bad},
		{Path: folder + "C-00000291-1.sys", ModTime: bad, Content: channel("x")},
		{Path: "Windows/System32/drivers/crowdstrike/C-00000291-1.sys", ModTime: good, Content: channel("x")},
		{Path: "Windows/SYSTEM32/Drivers/CROWDSTRIKE/c-00000291-1.SYS", ModTime: bad, Content: channel("x")},
		{Path: "Windows/System32/drivers/CrowdStri\u212ae/C-00000291-1.sys", ModTime: good, Content: channel("the sign of Kelvin is no K")},
		{Path: "WINDOWS/System32/config/SYSTEM", ModTime: bad},
	}
	dir := tree(t, files)
	if _, err := os.Stat(dir + "/windows"); err == nil {
		testenv.Missing(t, "a file system that tells case apart")
	}
	v := openDir(t, dir)
	found, err := library(t).Apply(v, keeper(t))
	if err != nil || len(found) != 2 || found[0].Verdict != playbooks.Absent || found[1].Verdict != playbooks.Both || len(found[1].Files) != 3 {
		t.Fatalf("%+v, %v", found, err)
	}
	for _, f := range files {
		_, err := fs.Stat(v, f.Path)
		if gone := errors.Is(err, fs.ErrNotExist); gone != (f.ModTime.Equal(bad) && len(f.Content) > 0) {
			t.Errorf("%s gone: %v", f.Path, gone)
		}
	}
}

func TestHash(t *testing.T) {
	const sum = "9fce12e80d0c1ea4c4c4d2bd3b67ca3b7d8bd2bbcd2a1d1e4f1f6f3d7cd0f5a1"
	v := windows().Add(folder+"C-00000291-1.sys", good.AddDate(9, 0, 0), channel("x"))
	step := *library(t).Steps[0].(*playbooks.Remove)
	check := func() playbooks.Finding {
		t.Helper()
		f, err := step.Check(v, "Windows")
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	step.SHA256 = []string{sum}
	f := check()
	if f.Verdict != playbooks.Good {
		t.Errorf("%+v", f)
	}
	step.SHA256 = []string{sum, f.Files[0].SHA256}
	if f := check(); f.Verdict != playbooks.Faulty {
		t.Errorf("known faulty content with the time of a wrong clock: %+v", f)
	}
	step.Written = playbooks.Window{}
	if f := check(); f.Verdict != playbooks.Faulty {
		t.Errorf("%+v", f)
	}
	v.Add(folder+"C-00000291-1.sys", bad, channel("y"))
	if f := check(); f.Verdict != playbooks.Good {
		t.Errorf("other content, and no window was given: %+v", f)
	}
	v.Add(folder+"C-00000291-1.sys", bad, []byte("other kind"))
	if f := check(); f.Verdict != playbooks.Clean {
		t.Errorf("%+v", f)
	}
}
