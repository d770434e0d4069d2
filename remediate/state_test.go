package remediate_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"unbrick/playbooks"
	"unbrick/remediate"
)

// The table as a person reads it: every stage, every outcome, every verdict so far that can be
// in force there. "-" is no verdict yet.
const table = `
check    ok    -          enter    -
check    up    -          end      healthy
check    skip  -          end      skipped
check    ill   -          end      failed
check    ?     -          end      failed
enter    ok    -          repair   -
enter    up    -          leave    healthy
enter    skip  -          leave    failed
enter    ill   -          leave    failed
enter    ?     -          leave    failed
repair   ok    -          leave    fixed
repair   up    -          leave    healthy
repair   skip  -          leave    failed
repair   ill   -          leave    failed
repair   ?     -          leave    failed
leave    ok    fixed      confirm  fixed
leave    ok    healthy    confirm  healthy
leave    ok    failed     end      failed
leave    up    fixed      end      stranded
leave    up    healthy    end      stranded
leave    up    failed     end      stranded
leave    skip  fixed      end      stranded
leave    skip  healthy    end      stranded
leave    skip  failed     end      stranded
leave    ill   fixed      end      stranded
leave    ill   healthy    end      stranded
leave    ill   failed     end      stranded
leave    ?     fixed      end      stranded
leave    ?     healthy    end      stranded
leave    ?     failed     end      stranded
confirm  ok    fixed      end      fixed
confirm  ok    healthy    end      healthy
confirm  up    fixed      end      unconfirmed
confirm  up    healthy    end      failed
confirm  skip  fixed      end      unconfirmed
confirm  skip  healthy    end      failed
confirm  ill   fixed      end      unconfirmed
confirm  ill   healthy    end      failed
confirm  ?     fixed      end      unconfirmed
confirm  ?     healthy    end      failed
`

func TestTable(t *testing.T) {
	sofar := map[remediate.Stage][]remediate.Verdict{
		remediate.Leave:   {remediate.Fixed, remediate.Healthy, remediate.Failed},
		remediate.Confirm: {remediate.Fixed, remediate.Healthy},
	}
	var b strings.Builder
	for _, s := range remediate.Stages() {
		for _, o := range []remediate.Outcome{remediate.OK, remediate.Up, remediate.Skip, remediate.Ill, "?"} {
			before := sofar[s]
			if before == nil {
				before = []remediate.Verdict{""}
			}
			for _, v := range before {
				m := remediate.Next(s, o, v)
				fmt.Fprintf(&b, "%-8s %-5s %-10s %-8s %s\n", s, o, dash(v), end(m.Next), dash(m.Verdict))
			}
		}
	}
	if got, want := strings.TrimSpace(b.String()), strings.TrimSpace(table); got != want {
		t.Errorf("the table reads\n%s\nwant\n%s", got, want)
	}
}

func dash(v remediate.Verdict) string {
	if v == "" {
		return "-"
	}
	return string(v)
}

func end(s remediate.Stage) string {
	if s == remediate.End {
		return "end"
	}
	return string(s)
}

// Wherever a host is, and whatever happens to it, it comes to an end with a verdict, and it is
// put back if it was entered.
func TestEveryPathEnds(t *testing.T) {
	var walk func(s remediate.Stage, v remediate.Verdict, entered bool, steps int)
	walk = func(s remediate.Stage, v remediate.Verdict, entered bool, steps int) {
		if steps > len(remediate.Stages()) {
			t.Fatalf("no end after %d stages", steps)
		}
		if s == remediate.End {
			if v == "" {
				t.Error("a path ends without a verdict")
			}
			if entered && v != remediate.Stranded {
				t.Errorf("a path ends %q and the host was not put back", v)
			}
			return
		}
		for _, o := range []remediate.Outcome{remediate.OK, remediate.Up, remediate.Skip, remediate.Ill} {
			m := remediate.Next(s, o, v)
			in := entered || s == remediate.Enter
			if s == remediate.Leave && o == remediate.OK {
				in = false
			}
			walk(m.Next, m.Verdict, in, steps+1)
		}
	}
	walk(remediate.Check, "", false, 0)
}

func TestProof(t *testing.T) {
	file := func(faulty, removed bool) playbooks.File {
		return playbooks.File{Path: "C-00000291-1.sys", Faulty: faulty, Removed: removed}
	}
	volume := func(v playbooks.Verdict, files ...playbooks.File) playbooks.VolumeResult {
		return playbooks.VolumeResult{Volume: "C:", Verdict: v, Findings: []playbooks.Finding{{Verdict: v, Files: files}}}
	}
	for _, c := range []struct {
		name    string
		volumes []playbooks.VolumeResult
		dry     bool
		want    string // in the error; empty: none
		final   bool
		removed int
	}{
		{"removed", []playbooks.VolumeResult{volume(playbooks.Faulty, file(true, true))}, false, "", false, 1},
		{"both, the faulty one removed", []playbooks.VolumeResult{volume(playbooks.Both, file(true, true), file(false, false))}, false, "", false, 1},
		{"good", []playbooks.VolumeResult{volume(playbooks.Good, file(false, false))}, false, "", false, 0},
		{"two Windows, one left", []playbooks.VolumeResult{volume(playbooks.Faulty, file(true, true)), volume(playbooks.Faulty, file(true, false))}, false, "1 faulty files were not removed", false, 1},
		{"removed, and data locked", []playbooks.VolumeResult{volume(playbooks.Faulty, file(true, true)), volume(playbooks.Locked)}, false, "", false, 1},
		{"locked", []playbooks.VolumeResult{volume(playbooks.Locked)}, false, "C: is locked", false, 0},
		{"unreadable", []playbooks.VolumeResult{volume(playbooks.Unreadable)}, false, "C: is unreadable", false, 0},
		{"absent", []playbooks.VolumeResult{volume(playbooks.Absent)}, false, "C: is absent", true, 0},
		{"clean", []playbooks.VolumeResult{volume(playbooks.Clean)}, false, "C: is clean", true, 0},
		{"no volume", nil, false, "no volume with Windows", false, 0},
		{"dry run", []playbooks.VolumeResult{volume(playbooks.Faulty, file(true, false))}, true, "dry run", false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := remediate.Report{Result: playbooks.Result{Volumes: c.volumes, DryRun: c.dry}}
			err := r.Proof()
			var final *remediate.FinalError
			switch {
			case (err == nil) != (c.want == ""), err != nil && !strings.Contains(err.Error(), c.want):
				t.Errorf("Proof() = %v, want %q", err, c.want)
			case errors.As(err, &final) != c.final:
				t.Errorf("Proof() = %v, final %v", err, !c.final)
			}
			if n := len(r.Removed()); n != c.removed {
				t.Errorf("%d files removed, want %d", n, c.removed)
			}
		})
	}
}

// TestProofByWord: a word counts where nobody read a volume, and never against one.
func TestProofByWord(t *testing.T) {
	r := remediate.Report{Word: "alice at 03:12: deleted it"}
	if err := r.Proof(); err != nil {
		t.Errorf("a word alone: %v", err)
	}
	r.Volumes = []playbooks.VolumeResult{{Volume: "C:", Verdict: playbooks.Locked}}
	if r.Proof() == nil {
		t.Error("a word opens no volume")
	}
	r.Volumes, r.DryRun = nil, true
	if r.Proof() == nil {
		t.Error("a word makes no dry run wet")
	}
}
