package hivetest

import "fmt"

// System returns a SYSTEM hive with two control sets, of which the first is current, and in
// each the given services with their Start value.
func System(services map[string]uint32) []byte {
	root := Key{Name: "ROOT", Keys: []Key{{Name: "Select", Values: []Value{
		DWord("Current", 1), DWord("Default", 1), DWord("Failed", 0), DWord("LastKnownGood", 2)}}}}
	for set := 1; set <= 2; set++ {
		list := Key{Name: "Services"}
		for name, start := range services {
			list.Keys = append(list.Keys, Key{Name: name, Values: []Value{
				Text("ImagePath", `system32\drivers\`+name+`.sys`), DWord("Start", start), DWord("Type", 1), DWord("ErrorControl", 3)}})
		}
		root.Keys = append(root.Keys, Key{Name: fmt.Sprintf("ControlSet%03d", set), Keys: []Key{
			{Name: "Control", Values: []Value{Text("SystemStartOptions", " NOEXECUTE=OPTIN")}}, list}})
	}
	return Build(root)
}

// Entries of a boot store, as Windows names them, and the elements that matter.
const (
	BootManager = "{9dea862c-5cdd-4e70-acc1-f32b344d4795}"
	Loader      = "{7619dcc9-fafe-11d9-b411-000476eba25f}"
	OtherLoader = "{b2721d73-1db4-4c62-bf78-c548a880142d}"
	safeBoot    = "25000080"
)

// BCD returns a boot store with a boot manager and two loaders, of which those named start in
// Safe Mode with Networking.
func BCD(safe ...string) []byte {
	objects := Key{Name: "Objects"}
	for name, kind := range map[string]uint32{BootManager: 0x10100002, Loader: 0x10200003, OtherLoader: 0x10200003} {
		elements := Key{Name: "Elements", Keys: []Key{
			{Name: "12000004", Values: []Value{Text("Element", "Windows")}},
			{Name: "22000002", Values: []Value{Text("Element", `\Windows`)}},
			{Name: "250000c2", Values: []Value{Bytes("Element", u64(1))}},
			{Name: "26000022", Values: []Value{Bytes("Element", []byte{1})}},
		}}
		for _, s := range safe {
			if s == name {
				elements.Keys = append(elements.Keys, Key{Name: safeBoot, Values: []Value{Bytes("Element", u64(1))}})
			}
		}
		objects.Keys = append(objects.Keys, Key{Name: name, Keys: []Key{
			{Name: "Description", Values: []Value{DWord("Type", kind)}}, elements}})
	}
	return Build(Key{Name: "NewStoreRoot", Keys: []Key{objects,
		{Name: "Description", Values: []Value{Text("KeyName", "BCD00000000"), DWord("System", 1), DWord("TreatAsSystem", 1)}}}})
}
