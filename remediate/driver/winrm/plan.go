package winrm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"unbrick/playbooks"
	"unbrick/remediate"
	client "unbrick/remediate/winrm"
)

// A plan is a playbook as it is carried out on a Windows that runs.
type plan struct {
	pb       *playbooks.Playbook
	id       string // of the run, as a directory name
	removals []*playbooks.Remove
}

// compile fails where a step cannot be carried out: nothing is done then, and another way in
// may.
func compile(run string, pb *playbooks.Playbook) (*plan, error) {
	p := &plan{pb: pb, id: directoryName(run)}
	for _, s := range pb.Steps {
		switch s := s.(type) {
		case *playbooks.Remove:
			if err := s.Validate(); err != nil {
				return nil, err
			}
			p.removals = append(p.removals, s)
		case *playbooks.Safeboot, *playbooks.Hives:
		default:
			return nil, fmt.Errorf("playbook %s has a step that is not carried out on a Windows that runs: %s", pb.Name, s)
		}
	}
	return p, nil
}

// directoryName makes a name of the run that any file system and any shell takes, and that no
// other run has.
func directoryName(run string) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '-'
	}, run)
	if name == run && name != "" && len(name) <= 40 {
		return name
	}
	sum := sha256.Sum256([]byte(run))
	return name[:min(len(name), 30)] + "-" + hex.EncodeToString(sum[:4])
}

// A survey is what a host says of itself, in either form.
type survey struct {
	Root  string     `json:"root"` // C:\Windows
	Error string     `json:"error"`
	Steps []standing `json:"steps"` // one per removal
}

// A standing is how one removal stands.
type standing struct {
	There bool   `json:"there"` // the directory is
	Files []seen `json:"files"` // in place
	Kept  []seen `json:"kept"`  // moved away, now or before
}

// A seen is one file.
type seen struct {
	Path   string // in full, backslashes
	Size   int64
	Time   time.Time
	SHA256 string
	Head   []byte
}

// base is the name of the file where it is.
func (s seen) base() string { return s.Path[strings.LastIndexByte(s.Path, '\\')+1:] }

// name is the name that the file had in place: moved ones have a number in front.
func (s seen) name() string {
	if number, name, ok := strings.Cut(s.base(), "~"); ok && number != "" && strings.Trim(number, "0123456789") == "" {
		return name
	}
	return s.base()
}

// repair asks the host in one form, or in both if the first is not to be had.
func (p *plan) repair(ctx context.Context, s *client.Session, plain bool) (remediate.Report, error) {
	agent := "winrm, PowerShell"
	var sv *survey
	var err error
	if !plain {
		sv, err = p.powershell(ctx, s)
	}
	var none *noPowerShell
	if plain || errors.As(err, &none) {
		agent = "winrm, cmd"
		if sv, err = p.plain(ctx, s); err != nil && none != nil {
			err = fmt.Errorf("%w (%v)", err, none)
		}
	}
	if err == nil && sv.Error != "" {
		err = fmt.Errorf("cannot repair in place: %s", client.Complaint([]byte(sv.Error)))
	}
	if err != nil {
		return remediate.Report{Agent: agent}, err
	}
	findings, err := p.judge(sv)
	if err == nil {
		err = p.misplaced(sv)
	}
	if err == nil {
		findings, err = p.others(ctx, s, findings)
	}
	volume, _, _ := strings.Cut(sv.Root, `\`)
	r := remediate.Report{Agent: agent, Result: playbooks.Result{
		Playbook: p.pb.Name, Volumes: []playbooks.VolumeResult{playbooks.NewVolumeResult(volume, findings, err)},
	}}
	return r, err
}

// judge makes the findings of the removals. What was moved away counts as it was in place.
func (p *plan) judge(sv *survey) ([]playbooks.Finding, error) {
	if len(sv.Steps) != len(p.removals) {
		return nil, errors.New("cannot tell from the host's answer how it stands")
	}
	var findings []playbooks.Finding
	var errs []error
	for i, r := range p.removals {
		st := sv.Steps[i]
		root := strings.ReplaceAll(sv.Root[min(3, len(sv.Root)):], `\`, "/")
		var all []playbooks.Sighting
		where := map[string]string{}
		for _, f := range st.Files {
			all = append(all, sighting(root, r, f, false))
		}
		for _, f := range st.Kept {
			all = append(all, sighting(root, r, f, true))
			where[f.name()+f.SHA256] = f.Path
		}
		found, err := r.Judge(root, st.There, all)
		for j := range found.Files {
			f := &found.Files[j]
			if f.Removed {
				f.Why += "; moved to " + where[f.Path[strings.LastIndexByte(f.Path, '/')+1:]+f.SHA256]
			}
		}
		findings, errs = append(findings, found), append(errs, err)
	}
	return findings, errors.Join(errs...)
}

func sighting(root string, r *playbooks.Remove, f seen, moved bool) playbooks.Sighting {
	return playbooks.Sighting{Head: f.Head, File: playbooks.File{
		Path: root + "/" + r.Directory + "/" + f.name(), Size: f.Size, ModTime: f.Time, SHA256: f.SHA256, Removed: moved,
	}}
}

// misplaced fails if a file was moved that the playbook does not call faulty.
func (p *plan) misplaced(sv *survey) error {
	for i, r := range p.removals {
		for _, f := range p.wrong(sv, i, r) {
			return fmt.Errorf("%s was moved and is not faulty: move it back", f.Path)
		}
	}
	return nil
}

// wrong returns what was moved by step i and should not have been.
func (p *plan) wrong(sv *survey, i int, r *playbooks.Remove) []seen {
	var wrong []seen
	for _, f := range sv.Steps[i].Kept {
		found, err := r.Judge("Windows", true, []playbooks.Sighting{sighting("Windows", r, f, true)})
		if err != nil || len(found.Files) != 1 || !found.Files[0].Faulty {
			wrong = append(wrong, f)
		}
	}
	return wrong
}
