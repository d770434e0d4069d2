package windows

import (
	"strings"
	"testing"

	"unbrick/playbooks/hivetest"
)

const loader = hivetest.Loader

// element is one of an entry.
func element(name string, v hivetest.Value) hivetest.Key {
	return hivetest.Key{Name: name, Values: []hivetest.Value{v}}
}

// Flag is an element of bytes.
func Flag(name string, b ...byte) hivetest.Key { return element(name, hivetest.Bytes("Element", b)) }

// Network is the flag for Safe Mode with Networking.
func Network() hivetest.Key { return Flag(elementSafeboot, 1, 0, 0, 0, 0, 0, 0, 0) }

// Store builds a boot store with a default entry, and loaders with these elements.
func Store(byDefault string, loaders map[string][]hivetest.Key) []byte {
	entry := func(name string, kind uint32, elements ...hivetest.Key) hivetest.Key {
		return hivetest.Key{Name: name, Keys: []hivetest.Key{
			{Name: "Description", Values: []hivetest.Value{hivetest.DWord("Type", kind)}}, {Name: "Elements", Keys: elements}}}
	}
	objects := hivetest.Key{Name: "Objects", Keys: []hivetest.Key{entry(bootManager, 0x10100002, element(elementDefault, hivetest.Text("Element", byDefault)))}}
	for name, elements := range loaders {
		objects.Keys = append(objects.Keys, entry(name, osLoader, elements...))
	}
	return hivetest.Build(hivetest.Key{Name: "NewStoreRoot", Keys: []hivetest.Key{objects}})
}

func TestBootStore(t *testing.T) {
	pe := []hivetest.Key{Flag(elementWinPE, 1)}
	for name, c := range map[string]struct {
		store []byte
		fails string
	}{
		"one Windows":        {Store(loader, map[string][]hivetest.Key{loader: nil}), ""},
		"and its WinRE":      {Store(loader, map[string][]hivetest.Key{loader: {Flag(elementWinPE, 0)}, hivetest.OtherLoader: pe}), ""},
		"other spelling":     {Store(strings.ToUpper(loader), map[string][]hivetest.Key{loader: nil}), ""},
		"two Windows":        {Store(loader, map[string][]hivetest.Key{loader: nil, hivetest.OtherLoader: nil}), "starts 2 Windows"},
		"another by default": {Store(hivetest.OtherLoader, map[string][]hivetest.Key{loader: nil}), "by default " + hivetest.OtherLoader},
		"WinRE by default":   {Store(loader, map[string][]hivetest.Key{loader: pe}), "starts 0 Windows"},
		"no GUID":            {Store("{default}", map[string][]hivetest.Key{loader: nil}), "does not say"},
		"set already":        {Store(loader, map[string][]hivetest.Key{loader: {Network()}}), "not by unbrick"},
		"another shell":      {Store(loader, map[string][]hivetest.Key{loader: {Flag(elementShell, 1)}}), "BitLocker validates"},
		"odd flag":           {Store(loader, map[string][]hivetest.Key{loader: {Flag(elementSafeboot, 1)}}), "not a number"},
		"no boot store":      {hivetest.System(nil), "does not say"},
		"no hive":            {[]byte("regf"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := parseStore(c.store)
			if name == "no hive" {
				if err == nil {
					t.Error("was read")
				}
				return
			}
			var entry string
			if err == nil {
				entry, err = b.windows()
			}
			if err == nil {
				err = b.mayStartSafe(entry)
			}
			if c.fails == "" && (err != nil || !strings.EqualFold(entry, loader)) || c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)) {
				t.Errorf("%s, %v", entry, err)
			}
		})
	}
}
