package remediate

import (
	"fmt"
	"slices"
	"strings"

	"unbrick/playbooks"
)

// Removed returns the files that are gone and were seen to be gone. It is never nil.
func (r Report) Removed() []playbooks.File {
	gone := []playbooks.File{}
	for f := range r.files {
		if f.Removed {
			gone = append(gone, f)
		}
	}
	return gone
}

func (r Report) files(yield func(playbooks.File) bool) {
	for _, v := range r.Volumes {
		for _, find := range v.Findings {
			for _, f := range find.Files {
				if !yield(f) {
					return
				}
			}
		}
	}
}

// Proof says whether the report shows that the host has nothing faulty left and had
// something: a file removed, a value changed, a hive restored, or the good one found. If not,
// the error says what it shows instead. It is a *FinalError where every volume was read and has
// nothing of the incident: no other way into the host would find more. What is damaged beyond
// this way's means may not be for another. Where nobody read a volume, a person's word counts.
func (r Report) Proof() error {
	if r.DryRun {
		return fmt.Errorf("dry run: nothing was changed")
	}
	removed, left := 0, []string{}
	for f := range r.files {
		switch {
		case f.Removed:
			removed++
		case f.Faulty:
			left = append(left, f.Path)
		}
	}
	if len(left) > 0 {
		return fmt.Errorf("%d faulty files were not removed: %s", len(left), strings.Join(left, ", "))
	}
	if vs := r.Unchanged(); len(vs) > 0 {
		return fmt.Errorf("%d faulty values are as they were: %s", len(vs), vs[0])
	}
	if removed > 0 || len(r.Changed()) > 0 || r.has(playbooks.Good) {
		return nil
	}
	if len(r.Volumes) == 0 && r.Word != "" {
		return nil
	}
	if len(r.Volumes) == 0 {
		return fmt.Errorf("no volume with Windows was found")
	}
	if unread := r.unread(); len(unread) > 0 {
		return fmt.Errorf("nothing was removed, and not every volume was read: %s", strings.Join(unread, "; "))
	}
	return &FinalError{fmt.Errorf("nothing was found: %s", r.summary())}
}

func (r Report) has(v playbooks.Verdict) bool {
	return slices.ContainsFunc(r.Volumes, func(vol playbooks.VolumeResult) bool {
		return vol.Verdict == v ||
			slices.ContainsFunc(vol.Findings, func(f playbooks.Finding) bool { return f.Verdict == v && !f.Aside })
	})
}

// unread names the volumes that were not read, and why.
func (r Report) unread() []string {
	var names []string
	for _, v := range r.Volumes {
		if v.Error != "" || v.Verdict == playbooks.Locked || v.Verdict == playbooks.Unreadable {
			names = append(names, strings.TrimSpace(fmt.Sprintf("%s is %s %s", v.Volume, v.Verdict, v.Error)))
		}
	}
	return names
}

func (r Report) summary() string {
	var names []string
	for _, v := range r.Volumes {
		names = append(names, fmt.Sprintf("%s is %s", v.Volume, v.Verdict))
	}
	return strings.Join(names, "; ")
}
