package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// mayImport says which packages of the module each package may import, tests apart. A
// pattern that ends in /* covers what is one level below. A package without a row fails.
var mayImport = []struct {
	pkg     string
	imports []string
}{
	// Three roots that know nothing of each other.
	{"inventory", []string{"inventory/calendar"}},
	{"inventory/secret", nil},
	{"inventory/rest", []string{"inventory/secret"}},
	{"inventory/calendar", []string{"inventory"}},
	{"inventory/saved", []string{"inventory"}},
	{"inventory/sourcetest", []string{"inventory"}},
	{"inventory/source/*", []string{"inventory", "inventory/rest", "inventory/secret", "inventory/calendar"}},
	{"bitlocker", []string{"inventory/secret"}},
	{"bitlocker/keytest", []string{"bitlocker"}},
	{"bitlocker/fve", []string{"bitlocker"}},
	{"bitlocker/fve/fvetest", []string{"bitlocker", "bitlocker/fve"}},
	{"bitlocker/policy", []string{"bitlocker"}},
	{"bitlocker/card", []string{"bitlocker", "inventory/secret"}},
	{"bitlocker/rotation", []string{"bitlocker"}},
	{"bitlocker/laps", []string{"bitlocker", "inventory/secret"}},
	{"bitlocker/source/*", []string{"bitlocker", "bitlocker/laps", "inventory/secret"}},
	{"playbooks", []string{"playbooks/hive"}},
	{"playbooks/hive", nil},
	{"playbooks/*", []string{"playbooks"}},

	// The engine cannot name a key, so it cannot leak one.
	{"remediate", []string{"inventory", "playbooks"}},
	{"remediate/engine", []string{"inventory", "playbooks", "remediate", "remediate/probe", "remediate/schedule", "remediate/schedule/halt"}},
	{"remediate/schedule", []string{"inventory", "inventory/calendar", "remediate"}},
	{"remediate/schedule/*", []string{"inventory", "inventory/calendar", "remediate", "remediate/schedule", "remediate/schedule/forecast"}},
	{"remediate/probe", []string{"inventory", "remediate"}},
	{"remediate/probe/*", []string{"inventory", "inventory/rest", "inventory/secret", "remediate"}},
	{"remediate/tlspin", nil},
	{"remediate/swap", []string{"inventory", "remediate"}},
	{"remediate/swap/swaptest", []string{"inventory", "remediate", "remediate/driver/drivertest", "remediate/rescue", "remediate/swap"}},
	{"remediate/power", []string{"inventory", "remediate"}},
	{"remediate/power/powertest", []string{"inventory", "remediate", "remediate/power", "remediate/lab/testenv/faults"}},
	{"remediate/winrm", []string{"inventory/secret", "remediate/tlspin"}},
	{"remediate/winrm/winrmtest", []string{"remediate/lab/testenv/faults"}},
	{"remediate/netboot", nil},
	{"remediate/driver/drivertest", []string{"inventory", "playbooks", "remediate", "remediate/lab/testenv/faults"}},
	{"remediate/driver/*", []string{"inventory", "inventory/secret", "inventory/source/*", "playbooks", "remediate", "remediate/netboot", "remediate/power", "remediate/probe", "remediate/swap", "remediate/tlspin", "remediate/winrm"}},
	{"remediate/driver/*/*", []string{"remediate/lab/testenv/faults", "remediate/lab/testenv/selfsigned"}},

	// The one place where keys meet hosts.
	{"remediate/rescue", []string{"bitlocker", "inventory", "playbooks", "remediate", "remediate/rescue/wire"}},
	{"remediate/rescue/wire", []string{"playbooks"}},
	{"remediate/rescue/agent", []string{"bitlocker", "bitlocker/fve", "playbooks", "remediate/rescue/agent/keyless", "remediate/rescue/wire"}},
	{"remediate/rescue/agent/linux", []string{"bitlocker", "bitlocker/fve", "playbooks", "remediate/rescue/agent", "remediate/rescue/agent/keyless", "remediate/rescue/wire"}},
	{"remediate/rescue/agent/linux/ntfstest", []string{"remediate/lab/testenv"}},
	{"remediate/rescue/agent/keyless", []string{"bitlocker/fve"}},
	{"remediate/rescue/agent/windows", []string{"bitlocker", "bitlocker/fve", "playbooks", "playbooks/hive", "remediate/rescue/agent", "remediate/rescue/agent/keyless", "remediate/rescue/wire"}},
	{"remediate/rescue/image", []string{"remediate/rescue/wire"}},

	{"remediate/lab", []string{"*"}},
	{"remediate/lab/testenv", nil},
	{"remediate/lab/testenv/faults", nil},
	{"remediate/lab/testenv/selfsigned", nil},
	{"remediate/lab/testenv/ports", nil},
	{"remediate/lab/testenv/powershell", nil},
	{"remediate/lab/testenv/samba", []string{"remediate/lab/testenv"}},
	{"remediate/lab/vm", []string{"bitlocker/fve", "bitlocker/fve/fvetest", "remediate/rescue/image", "remediate/driver/redfish/redfishtest", "remediate/lab/testenv", "remediate/lab/testenv/ports"}},
	{"remediate/lab/vm/standin", []string{"bitlocker/fve", "playbooks/diskimage"}},

	{"cmd/unbrick", []string{"*"}},
	{"cmd/unbrick-agent", []string{"remediate/rescue/agent/linux", "remediate/rescue/agent/windows"}},
}

// TestArchitecture parses the imports of every file, tests apart. It does not ask the go
// command: a test that runs go list is cached although the packages changed.
func TestArchitecture(t *testing.T) {
	root := filepath.Join("..", "..")
	doc := map[string]bool{}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, filepath.Dir(name))
		pkg := filepath.ToSlash(rel)
		doc[pkg] = doc[pkg] || f.Doc != nil
		allowed, ok := allowedImports(pkg)
		if !ok {
			t.Errorf("package %s has no row in mayImport", pkg)
		}
		for _, im := range f.Imports {
			full, _ := strconv.Unquote(im.Path.Value)
			if full == "github.com/dbos-inc/dbos-transact-golang/dbos" && pkg != "remediate/engine" {
				t.Errorf("%s imports DBOS; only remediate/engine may", name)
			}
			ours, ok := strings.CutPrefix(full, "unbrick/")
			if ok && !slices.ContainsFunc(allowed, func(p string) bool { return p == "*" || matches(p, ours) }) {
				t.Errorf("%s: %s must not import %s", name, pkg, ours)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for pkg, has := range doc {
		if !has {
			t.Errorf("package %s has no package comment", pkg)
		}
	}
}

func allowedImports(pkg string) ([]string, bool) {
	for _, exact := range []bool{true, false} {
		for _, row := range mayImport {
			if exact && row.pkg == pkg || !exact && matches(row.pkg, pkg) {
				return row.imports, true
			}
		}
	}
	return nil, false
}

func matches(pattern, pkg string) bool {
	ok, _ := path.Match(pattern, pkg)
	return ok
}
