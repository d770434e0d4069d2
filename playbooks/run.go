package playbooks

import (
	"errors"
	"slices"
)

// Check finds out how every Windows installation and boot store on v stands, and changes
// nothing. It returns one Finding for each and step; none if v holds neither. An error does
// not stop the others: the findings are those that could be made.
func (p *Playbook) Check(v Volume) ([]Finding, error) {
	return p.each(v, func(Step, *Finding) error { return nil })
}

// Apply checks, and makes right what is faulty; what goes, goes to keep first. Twice is the
// same as once. An error in one installation does not stop the others, and what could not be
// looked at is left alone. Each Finding says how the installation stood before, and its files
// which of them are gone.
func (p *Playbook) Apply(v Volume, keep Keeper) ([]Finding, error) {
	return p.each(v, func(s Step, f *Finding) error { return s.Apply(v, f, keep) })
}

func (p *Playbook) each(v Volume, then func(Step, *Finding) error) ([]Finding, error) {
	roots, err := Roots(v)
	errs := []error{err}
	var findings []Finding
	one := func(s Step, root string) {
		f, err := s.Check(v, root)
		f.Aside = aside(s) && slices.ContainsFunc(p.Steps, func(s Step) bool { return !aside(s) })
		if err == nil {
			err = then(s, &f)
		}
		findings = append(findings, f)
		errs = append(errs, err)
	}
	for _, root := range roots {
		for _, s := range p.Steps {
			if _, ok := s.(placed); !ok {
				one(s, root)
			}
		}
	}
	for _, s := range p.Steps {
		if pl, ok := s.(placed); ok {
			places, err := pl.places(v)
			errs = append(errs, err)
			for _, place := range places {
				one(s, place)
			}
		}
	}
	return findings, errors.Join(errs...)
}

// A placed step is not about installations of Windows but about places that it finds itself.
type placed interface {
	places(v Volume) ([]string, error)
}

// aside says that a step puts right what crashes and helpers leave behind.
func aside(s Step) bool {
	switch s.(type) {
	case *Hives, *Safeboot:
		return true
	}
	return false
}

// NeedsBoot says that the playbook has a step for the volumes that Windows is started from,
// besides those that it is on.
func (p *Playbook) NeedsBoot() bool {
	return slices.ContainsFunc(p.Steps, func(s Step) bool { _, ok := s.(placed); return ok })
}
