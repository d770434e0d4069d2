package rescue

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"unbrick/playbooks"
	"unbrick/remediate"
	"unbrick/remediate/rescue/wire"
)

// maxReports is how many reports a stick may bring.
const maxReports = 10_000

// A StickReport is what a stick brought back of one stay on a host that no server reached.
type StickReport struct {
	wire.StickReport
	File   string   `json:"file"`             // where it was read
	By     string   `json:"by"`               // who carried the stick
	Copies []string `json:"copies,omitempty"` // where the removed files are, as copied to the stick and checked
	Lost   []string `json:"lost,omitempty"`   // hashes of removed files of which no good copy is there
}

// Result returns what the engine would have been told: see judge.
func (r StickReport) Result() (remediate.Report, error) {
	v := visit{Stick: r.Stick, By: r.By}
	return v.sign(public(r.Report, nil)), judge(r.Report)
}

// Read returns the reports in the data partition of a stick of ours, mounted at dir. Those
// that are not genuine, or cannot be read, are in the error, each with its name; the others
// are returned all the same. Genuine means written by somebody who had the stick.
func (s *Sticks) Read(ctx context.Context, dir string) (reports []StickReport, err error) {
	files, err := filepath.Glob(filepath.Join(dir, wire.StickReports, "*.json"))
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, wire.StickReports)); err != nil {
		return nil, fmt.Errorf("cannot read a stick in %s: %w; name the folder where its partition %s is mounted", dir, err, wire.StickVolume)
	}
	var errs []error
	for _, name := range files[:min(len(files), maxReports)] {
		r, err := s.readReport(ctx, dir, name)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
			continue
		}
		reports = append(reports, r)
	}
	return reports, errors.Join(errs...)
}

func (s *Sticks) readReport(ctx context.Context, dir, name string) (r StickReport, err error) {
	b, err := readSome(name, 2*maxReport)
	if err != nil {
		return r, err
	}
	r.File = name
	r.StickReport, err = wire.OpenStickReport(b, func(id string) (string, error) {
		st, err := s.find(ctx, id)
		if err != nil {
			return "", err
		}
		r.By = st.By
		token := s.token(id)
		if hashToken(token) != st.Hash {
			return "", errors.New("the stick was made with the key of another rescue server")
		}
		return token, nil
	})
	if err != nil {
		return r, err
	}
	// Who had the stick could write what they liked.
	plain, err := json.Marshal(r.Report)
	if err != nil {
		return r, err
	}
	var tree any
	if err := json.Unmarshal(plain, &tree); err != nil {
		return r, err
	}
	rep, kept, _ := read(tree)
	if kept == nil {
		return r, errors.New("this is not a report of a stick")
	}
	r.Report = rep
	r.findCopies(dir)
	return r, nil
}

// findCopies looks for the copies of the removed files.
func (r *StickReport) findCopies(dir string) {
	for _, f := range (playbooks.Result{Volumes: r.Report.Volumes}).Removed() {
		name := filepath.Join(dir, wire.StickQuarantine, filepath.Base(f.SHA256))
		b, err := readSome(name, 256<<20)
		if sum := sha256.Sum256(b); err != nil || hex.EncodeToString(sum[:]) != f.SHA256 {
			r.Lost = append(r.Lost, f.SHA256)
			continue
		}
		r.Copies = append(r.Copies, name)
	}
}

// readSome reads a file of at most limit bytes.
func readSome(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("it has more than %d bytes", limit)
	}
	return b, err
}
