package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"unbrick/remediate/rescue/wire"
)

// A Manifest says what an image holds, and lets anyone check it. The licences of GRUB, kernel
// and ntfs-3g ask for their sources to be offered: package and version name them.
type Manifest struct {
	Profile        Profile           `json:"profile"`
	Agent          string            `json:"agent"`         // version
	Kernel         string            `json:"kernel"`        // release, as uname says it, or the WinPE
	ConfigOffset   int64             `json:"config_offset"` // in the ISO, bytes
	ConfigSize     int64             `json:"config_size"`
	Built          time.Time         `json:"built"` // of Linux: the time of all files in it, the same for every build
	Packages       map[string]string `json:"packages"`
	MissingModules []string          `json:"missing_modules,omitempty"` // wanted by the profile, unknown to the kernel
	Warnings       []string          `json:"warnings,omitempty"`        // what hosts cannot be repaired with it
	Files          []File            `json:"files"`
}

// A File is one file of an image.
type File struct {
	Path   string `json:"path"` // in the image's folder, slashes
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// complete names the packages, measures what is in the folder and writes the manifest there.
func (m *Manifest) complete(ctx context.Context, dir string) error {
	if err := m.addPackages(ctx); err != nil {
		return err
	}
	if err := m.measure(dir); err != nil {
		return err
	}
	return m.write(dir)
}

// measure says what is in the folder, and where in the ISO the configuration goes.
func (m *Manifest) measure(dir string) error {
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		sum, err := hashFile(name)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		m.Files = append(m.Files, File{filepath.ToSlash(rel), info.Size(), sum})
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot measure the image: %w", err)
	}
	m.ConfigOffset, err = findPlace(filepath.Join(dir, ISOName))
	m.ConfigSize = wire.ConfigSize
	return err
}

func (m *Manifest) write(dir string) error {
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, ManifestName), append(b, '\n'), 0o644)
}

// place returns the place for the configuration as a base image has it.
func place() []byte {
	p := []byte(wire.Placeholder)
	return append(p, bytes.Repeat([]byte(" "), wire.ConfigSize-len(p))...)
}

// findPlace returns the offset of the only place for the configuration in a file: the words
// followed by spaces, since an agent that is not compressed knows the words too.
func findPlace(name string) (int64, error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	head := place()[:len(wire.Placeholder)+64]
	found, count := int64(0), 0
	buf := make([]byte, 1<<20)
	for off := int64(0); ; off += int64(len(buf) - len(head) + 1) {
		n, err := f.ReadAt(buf, off)
		if i := bytes.Index(buf[:n], head); i >= 0 {
			found, count = off+int64(i), count+bytes.Count(buf[:n], head)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return 0, err
		}
	}
	if count != 1 {
		return 0, fmt.Errorf("the ISO has %d places for the configuration, not 1", count)
	}
	return found, nil
}

// addPackages asks dpkg which packages the files came from that this machine lent.
func (m *Manifest) addPackages(ctx context.Context) error {
	used, err := programs(NTFSTools())
	if err != nil {
		return err
	}
	paths := []string{shim, mokManager, grubCD, grubNet, biosCD, biosHybrid, ipxeBIOS}
	for _, p := range used {
		paths = append(paths, p)
	}
	for _, p := range paths {
		name, err := owner(ctx, p)
		if err != nil {
			return err
		}
		version, err := runIn(ctx, "", "dpkg-query", "--show", "--showformat=${Version}", name)
		if err != nil {
			return err
		}
		m.Packages[name] = string(version)
	}
	return nil
}

// owner returns the package of a file. dpkg knows a file by the path it was shipped with,
// which may lack the /usr that it is found under, or have it.
func owner(ctx context.Context, file string) (string, error) {
	var out []byte
	var err error
	for _, p := range []string{file, strings.TrimPrefix(file, "/usr"), "/usr" + file} {
		if out, err = runIn(ctx, "", "dpkg-query", "--search", p); err == nil {
			name, _, _ := strings.Cut(string(out), ":")
			return name, nil
		}
	}
	return "", fmt.Errorf("%s is of no Debian package: the manifest could not name it: %w", file, err)
}

// An Image is an image to serve: the ISO, and where in it the configuration of a host goes.
type Image struct {
	io.ReaderAt
	Size         int64
	ConfigOffset int64
	Manifest     Manifest

	file *os.File
}

// Close closes the ISO.
func (i *Image) Close() error { return i.file.Close() }

// errHint ends every complaint about an image folder.
var errHint = errors.New("build it with: unbrick image build --out DIR")

// Open opens the image in a folder and checks it against its manifest: the size of every
// file, and the SHA-256 of the ISO.
func Open(dir string) (*Image, error) {
	i, err := open(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot use the rescue image in %s: %w\n%w", dir, err, errHint)
	}
	return i, nil
}

func open(dir string) (*Image, error) {
	b, err := os.ReadFile(filepath.Join(dir, ManifestName))
	if err != nil {
		return nil, err
	}
	var m Manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("its manifest is damaged: %w", err)
	}
	var iso *File
	for n, f := range m.Files {
		if !filepath.IsLocal(filepath.FromSlash(f.Path)) {
			return nil, fmt.Errorf("its manifest names %q, which is not in the folder", f.Path)
		}
		info, err := os.Stat(filepath.Join(dir, filepath.FromSlash(f.Path)))
		if err != nil {
			return nil, err
		}
		if info.Size() != f.Size {
			return nil, fmt.Errorf("%s has %d bytes, not %d", f.Path, info.Size(), f.Size)
		}
		if f.Path == ISOName {
			iso = &m.Files[n]
		}
	}
	if iso == nil {
		return nil, fmt.Errorf("its manifest names no %s", ISOName)
	}
	name := filepath.Join(dir, ISOName)
	sum, err := hashFile(name)
	if err != nil {
		return nil, err
	}
	if sum != iso.SHA256 {
		return nil, fmt.Errorf("%s is damaged: its SHA-256 is %s, not %s", ISOName, sum, iso.SHA256)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	i := &Image{ReaderAt: f, Size: iso.Size, ConfigOffset: m.ConfigOffset, Manifest: m, file: f}
	if err := i.checkPlace(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return i, nil
}

// checkPlace checks that the configuration's place is where the manifest says, with room for
// all of it: what is written there must not hit anything else.
func (i *Image) checkPlace() error {
	if i.Manifest.ConfigSize != wire.ConfigSize {
		return fmt.Errorf("it has room for %d bytes of configuration, not %d: it is of another release", i.Manifest.ConfigSize, wire.ConfigSize)
	}
	place := make([]byte, wire.ConfigSize)
	if _, err := i.ReadAt(place, i.ConfigOffset); err != nil {
		return fmt.Errorf("cannot read its place for the configuration: %w", err)
	}
	if string(bytes.TrimRight(place, " ")) != wire.Placeholder {
		return errors.New("its manifest is wrong about the place for the configuration")
	}
	return nil
}
