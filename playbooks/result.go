package playbooks

import "slices"

// Overall reduces verdicts to one. What is to be done comes first, then what is not known,
// then what is known to be well:
//
//	both         any faulty and any good one, or any both
//	faulty       any faulty
//	damaged      nothing that could be put right was seen, and something that could not
//	locked       nothing faulty was seen, and somewhere nobody could look for want of a key
//	unreadable   the same, for want of a readable file system
//	good         any good
//	clean        any clean
//	absent       all absent, or none given: there is no Windows
func Overall(vs ...Verdict) Verdict {
	has := func(v Verdict) bool { return slices.Contains(vs, v) }
	if has(Faulty) && has(Good) {
		return Both
	}
	for _, v := range []Verdict{Both, Faulty, Damaged, Locked, Unreadable, Good, Clean} {
		if has(v) {
			return v
		}
	}
	return Absent
}

// NewVolumeResult sums up what Check or Apply returned for one volume. With an error and
// nothing faulty the verdict is unreadable: what was not seen may be faulty. What a finding
// that is Aside found well does not count.
func NewVolumeResult(volume string, findings []Finding, err error) VolumeResult {
	r := VolumeResult{Volume: volume, Findings: findings}
	var vs []Verdict
	for _, f := range findings {
		if !f.Aside || f.Verdict.Affected() || f.Verdict == Damaged || f.Verdict == Unreadable {
			vs = append(vs, f.Verdict)
		}
	}
	if err != nil {
		r.Error = err.Error()
		vs = append(vs, Unreadable)
	}
	r.Verdict = Overall(vs...)
	return r
}

// Verdict is the Overall of the volumes, as they were found: removing a file does not change
// it.
func (r Result) Verdict() Verdict {
	var vs []Verdict
	for _, v := range r.Volumes {
		vs = append(vs, v.Verdict)
	}
	return Overall(vs...)
}

// Affected says that faulty files were found, removed by now or not.
func (r Result) Affected() bool { return r.Verdict().Affected() }

// Removed returns the files that are gone, and were seen to be gone.
func (r Result) Removed() []File {
	return r.files(func(f File) bool { return f.Removed })
}

// Left returns the faulty files that are still there. After Apply it is empty, or something
// went wrong.
func (r Result) Left() []File {
	return r.files(func(f File) bool { return f.Faulty && !f.Removed })
}

// Changed returns the values that were changed, and were seen to be.
func (r Result) Changed() []Value {
	return r.values(func(v Value) bool { return v.Changed })
}

// Unchanged returns the faulty values that are as they were. After Apply it is empty, or
// something went wrong.
func (r Result) Unchanged() []Value {
	return r.values(func(v Value) bool { return v.Faulty && !v.Changed })
}

func (r Result) values(want func(Value) bool) []Value {
	var values []Value
	for _, v := range r.Volumes {
		for _, f := range v.Findings {
			for _, value := range f.Values {
				if want(value) {
					values = append(values, value)
				}
			}
		}
	}
	return values
}

func (r Result) files(want func(File) bool) []File {
	var files []File
	for _, v := range r.Volumes {
		for _, f := range v.Findings {
			for _, file := range f.Files {
				if want(file) {
					files = append(files, file)
				}
			}
		}
	}
	return files
}
