package playbooks_test

import (
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"unbrick/playbooks"
)

// TestJudge holds Judge to its law: it finds what Check finds.
func TestJudge(t *testing.T) {
	contents := [][]byte{channel("one"), channel("two"), {}, []byte("other"), channel("one")[:5]}
	times := []time.Time{bad, good, bad.Add(-time.Hour), good.Add(-time.Nanosecond)}
	names := []string{"C-00000291-1.sys", "c-00000291-2.SYS", "C-00000292-1.sys", "readme"}
	known := sha256.Sum256(contents[1])
	rules := []*playbooks.Remove{library(t).Steps[0].(*playbooks.Remove), {
		Directory: "System32/drivers/CrowdStrike", Glob: "C-00000291*.sys", SHA256: []string{hex.EncodeToString(known[:])}, Max: 1,
	}}
	seen := map[playbooks.Verdict]int{}
	for range 2000 {
		v, there := windows(), rand.IntN(10) > 0
		var sightings []playbooks.Sighting
		if there {
			v.Mkdir(strings.TrimSuffix(folder, "/"))
			for _, name := range names {
				if rand.IntN(3) == 0 {
					continue
				}
				b, mtime := contents[rand.IntN(len(contents))], times[rand.IntN(len(times))]
				sum := sha256.Sum256(b)
				v.Add(folder+name, mtime, b)
				sightings = append(sightings, playbooks.Sighting{Head: b, File: playbooks.File{
					Path: folder + name, Size: int64(len(b)), ModTime: mtime, SHA256: hex.EncodeToString(sum[:])}})
			}
		}
		r := rules[rand.IntN(2)]
		want, errWant := r.Check(v, "Windows")
		got, errGot := r.Judge("Windows", there, sightings)
		if !reflect.DeepEqual(got, want) || (errGot == nil) != (errWant == nil) {
			t.Fatalf("Judge: %+v, %v\nCheck: %+v, %v", got, errGot, want, errWant)
		}
		seen[got.Verdict]++
	}
	if len(seen) < 5 {
		t.Errorf("the test saw only %v", seen)
	}
}

func TestJudgeUnread(t *testing.T) {
	r := library(t).Steps[0].(*playbooks.Remove)
	for name, s := range map[string]playbooks.Sighting{
		"no hash":         {File: playbooks.File{Path: folder + "C-00000291-1.sys", Size: 8}, Head: channel("")},
		"short head":      {File: playbooks.File{Path: folder + "C-00000291-1.sys", Size: 8, SHA256: strings.Repeat("0", 64)}, Head: channel("")[:7]},
		"other directory": {File: playbooks.File{Path: "Windows/System32/C-00000291-1.sys", SHA256: strings.Repeat("0", 64)}},
	} {
		if f, err := r.Judge("Windows", true, []playbooks.Sighting{s}); err == nil || f.Verdict != playbooks.Unreadable {
			t.Errorf("%s: %+v, %v", name, f, err)
		}
	}
}
