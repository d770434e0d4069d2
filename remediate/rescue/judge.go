package rescue

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"unbrick/playbooks"
	"unbrick/remediate"
	"unbrick/remediate/rescue/wire"
)

// judge says whether a report means that the host is repaired. The first line that fits
// decides:
//
//	the agent could not do its job at all       error
//	Windows was set to start in Safe Mode       ThenError: WinRM repairs it there
//	nothing to look at: no volume               error: another route may reach the disk
//	dry run                                     FinalError: nothing was to be changed
//	a faulty file or value is still there, a
//	hive is damaged beyond repair, or the volume
//	that had it was not seen to be well after   error, with its name
//	files were removed, values changed          nil
//	a volume could not be read, or hibernates   error: another route may
//	only good files                             nil: the good one is the evidence
//	a volume is locked, nobody knows of a key   error: an escrow may answer another time
//	a volume is locked, nobody has the key      FinalError, with the ids of its protectors
//	the file is nowhere                         FinalError: nothing found is not fixed
//
// A locked data volume beside a repaired system is the normal case, which is why locked stands
// so low. The report is the word of a program on a host that anyone may have forged: it moves
// the host on, and confirm has to see Windows up.
func judge(r wire.Report) error {
	n := count(r)
	switch {
	case r.Error != "":
		return fmt.Errorf("the agent could not do its job: %s", r.Error)
	case r.SafeMode:
		return &remediate.ThenError{Way: "winrm", Err: fmt.Errorf("the volume is locked, and Windows was left to open it: %s", strings.Join(n.locked, "; "))}
	case len(r.Volumes) == 0:
		return errors.New("the agent saw no volume: the disk may need a driver that the rescue image lacks")
	case r.DryRun:
		return &remediate.FinalError{Err: fmt.Errorf("dry run: %d faulty files and values found, none changed", len(n.left))}
	case len(n.left) > 0:
		return fmt.Errorf("not all is repaired: %s", strings.Join(append(n.left, n.errs...), "; "))
	case n.removed > 0:
		return nil
	case len(n.errs) > 0:
		return fmt.Errorf("cannot read every volume: %s", strings.Join(n.errs, "; "))
	case n.good:
		return nil
	case len(n.locked) > 0 && len(r.Unanswered) > 0:
		return fmt.Errorf("the volume is locked, and another way may open it: %s", strings.Join(n.locked, "; "))
	case len(n.locked) > 0:
		return &remediate.FinalError{Err: fmt.Errorf("the volume is locked and was not opened: %s", strings.Join(n.locked, "; "))}
	}
	return &remediate.FinalError{Err: fmt.Errorf("nothing found: no volume has a file that playbook %s is about (%s)", r.Playbook, strings.Join(n.verdicts, ", "))}
}

// A tally is what a report comes to.
type tally struct {
	removed  int // files removed and values changed
	good     bool
	left     []string // faulty files not removed
	errs     []string // volumes that would not say everything
	locked   []string // locked volumes, with the ids of their protectors
	verdicts []string // of each volume
}

func count(r wire.Report) (n tally) {
	for _, v := range r.Volumes {
		n.verdicts = append(n.verdicts, fmt.Sprintf("%s: %s", v.Volume, v.Verdict))
		if v.Verdict == playbooks.Locked {
			n.locked = append(n.locked, v.Volume+": "+v.Error)
			continue
		}
		left, removed, wrong := len(n.left), n.removed, trouble(v)
		for _, f := range v.Findings {
			n.add(v.Volume, f)
		}
		switch {
		case v.Verdict.Affected() && wrong != "": // it was not seen to be well again
			n.left = append(n.left, v.Volume+": "+wrong)
		case v.Verdict.Affected() && n.removed == removed && len(n.left) == left: // and no file to show for it
			n.left = append(n.left, v.Volume+": "+string(v.Verdict))
		case wrong != "":
			n.errs = append(n.errs, v.Volume+": "+wrong)
		}
	}
	return n
}

func (n *tally) add(volume string, f playbooks.Finding) {
	n.good = n.good || f.Verdict == playbooks.Good && !f.Aside
	for _, v := range f.Values {
		switch {
		case v.Faulty && v.Changed:
			n.removed++
		case v.Faulty:
			n.left = append(n.left, volume+": "+v.String())
		}
	}
	for _, file := range f.Files {
		switch {
		case file.Faulty && file.Removed:
			n.removed++
		case file.Faulty:
			n.left = append(n.left, volume+": "+file.Path)
		}
	}
}

// trouble says what could not be found out or done on a volume, or nothing. The volume's own
// error has those of its findings in it.
func trouble(v playbooks.VolumeResult) string {
	if v.Error != "" {
		return v.Error
	}
	for _, f := range v.Findings {
		if f.Error != "" || f.Verdict == playbooks.Unreadable {
			return fmt.Sprintf("%s: %s %s", f.Root, f.Verdict, f.Error)
		}
	}
	if v.Verdict == playbooks.Unreadable {
		return string(v.Verdict)
	}
	return ""
}

// public is what the engine keeps of a report. The keys that were released are those that
// the agent names and those that this server knows of.
func public(r wire.Report, live *repair) remediate.Report {
	released := slices.Clone(r.Released)
	if live != nil {
		live.mu.Lock()
		for id, times := range live.released {
			if times > 0 {
				released = append(released, id.String())
			}
		}
		live.mu.Unlock()
	}
	slices.Sort(released)
	return remediate.Report{Result: r.Result, Agent: r.Agent, Elapsed: r.Elapsed, Released: slices.Compact(released), SafeMode: r.SafeMode}
}
