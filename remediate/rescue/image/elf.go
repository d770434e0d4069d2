package image

import (
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
)

// libraryDirs are where Debian's loader looks without being told; the first is where
// libraries go in the image.
var libraryDirs = []string{"/usr/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu", "/usr/lib", "/lib"}

// programs returns what the named programs need in an image: paths there (no leading slash)
// to files here. Libraries are found by following the ELF needed entries, and the loader by
// the program's own word.
func programs(names []string) (map[string]string, error) {
	files := map[string]string{}
	for _, name := range names {
		p, err := find(name)
		if err != nil {
			return nil, err
		}
		files["usr/bin/"+filepath.Base(name)] = p
		if err := addNeeded(p, files); err != nil {
			return nil, err
		}
	}
	return files, nil
}

func addNeeded(file string, files map[string]string) error {
	f, err := elf.Open(file)
	if err != nil {
		return fmt.Errorf("cannot read the program %s: %w", file, err)
	}
	defer f.Close()
	if loader := interpreter(f); loader != "" {
		files["usr/lib64/"+filepath.Base(loader)] = loader
	}
	libs, err := f.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("cannot see which libraries %s needs: %w", file, err)
	}
	for _, lib := range libs {
		to := libraryDirs[0][1:] + "/" + lib
		if _, ok := files[to]; ok || files["usr/lib64/"+lib] != "" {
			continue
		}
		from, err := findLibrary(lib)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		files[to] = from
		if err := addNeeded(from, files); err != nil {
			return err
		}
	}
	return nil
}

func findLibrary(name string) (string, error) {
	for _, dir := range libraryDirs {
		p := filepath.Join(dir, name)
		if _, err := os.Stat(p); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("cannot find the library %s", name)
}

// interpreter returns the path of the loader that a program asks for; a library and a static
// program have none.
func interpreter(f *elf.File) string {
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		b := make([]byte, p.Filesz)
		if n, err := p.ReadAt(b, 0); err == nil && n > 0 {
			return string(b[:n-1]) // ends in NUL
		}
	}
	return ""
}
