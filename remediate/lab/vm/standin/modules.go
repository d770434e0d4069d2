//go:build linux

package main

import (
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// loadModules loads the named modules of the running kernel, each after those it depends on.
// A name that the kernel package does not have is passed over: it may be built in.
func loadModules(names ...string) error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err
	}
	dir := "/lib/modules/" + unix.ByteSliceToString(u.Release[:])
	b, err := os.ReadFile(dir + "/modules.dep")
	if err != nil {
		return fmt.Errorf("cannot read the list of modules: %w", err)
	}
	chains := map[string][]string{} // by module name: its file, then what it depends on
	for line := range strings.Lines(string(b)) {
		if file, needs, ok := strings.Cut(line, ":"); ok {
			chains[moduleName(file)] = append([]string{file}, strings.Fields(needs)...)
		}
	}
	for _, name := range names {
		chain := chains[name]
		for i := len(chain) - 1; i >= 0; i-- {
			if err := insert(path.Join(dir, chain[i])); err != nil {
				return fmt.Errorf("cannot load module %s: %w", chain[i], err)
			}
		}
	}
	return nil
}

// moduleName returns the name by which the kernel knows the module in file.
func moduleName(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// insert loads one module file; one that is loaded already is no error.
func insert(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && err != unix.EEXIST {
		return err
	}
	return nil
}
