package playbooks

import (
	"embed"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

//go:embed schema.json library/*.yaml
var embedded embed.FS

// Schema returns the JSON schema of playbooks, for editors and other programs.
func Schema() []byte {
	b, err := embedded.ReadFile("schema.json")
	if err != nil {
		panic(err) // it is compiled in
	}
	return b
}

// Embedded returns the names of the playbooks that the program brings along, sorted.
func Embedded() []string {
	files, err := fs.Glob(embedded, "library/*.yaml")
	if err != nil {
		panic(err) // the pattern is constant
	}
	var names []string
	for _, f := range files {
		names = append(names, strings.TrimSuffix(path.Base(f), ".yaml"))
	}
	return names
}

// Open reads an embedded playbook by its name, or else a file by its path.
func Open(nameOrPath string) (*Playbook, error) {
	for _, name := range Embedded() {
		if name == nameOrPath {
			src, err := embedded.ReadFile("library/" + name + ".yaml")
			if err != nil {
				return nil, err
			}
			return Parse(name, src)
		}
	}
	f, err := os.Open(nameOrPath)
	if os.IsNotExist(err) {
		return nil, fmt.Errorf("cannot find the playbook %q: it is neither a file nor one of %s",
			nameOrPath, strings.Join(Embedded(), ", "))
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the playbook: %w", err)
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, MaxSource+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read the playbook: %w", err)
	}
	return Parse(nameOrPath, src)
}
