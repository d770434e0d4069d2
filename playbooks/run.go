package playbooks

import "errors"

// Check finds out how every Windows installation on v stands, and changes nothing. It
// returns one Finding for each installation and step; none if v holds no Windows. An error
// does not stop the others: the findings are those that could be made.
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
	for _, root := range roots {
		for _, s := range p.Steps {
			f, err := s.Check(v, root)
			if err == nil {
				err = then(s, &f)
			}
			findings = append(findings, f)
			errs = append(errs, err)
		}
	}
	return findings, errors.Join(errs...)
}
