package playbooks

// Safeboot is the step that has Windows start normally again: it clears the Safe Mode flag in
// every boot entry of every boot store on a volume. Boot stores are on the EFI system partition
// (EFI/Microsoft/Boot/BCD) or on the system partition (Boot/BCD), seldom beside Windows; Root in
// its findings is the path of the store.
type Safeboot struct{}

func (*Safeboot) step() {}

// String says what the step looks for, on one line.
func (*Safeboot) String() string { return "safeboot: clear the Safe Mode flag of every boot entry" }

// Check implements [Step]; store is the path of a boot store.
func (s *Safeboot) Check(v Volume, store string) (Finding, error) {
	return Finding{Root: store, Step: s.String(), Verdict: Unreadable, Error: errUnfinished.Error()}, errUnfinished
}

// Apply implements [Step].
func (s *Safeboot) Apply(Volume, *Finding, Keeper) error { return errUnfinished }
