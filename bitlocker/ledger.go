package bitlocker

// A Release is one key that went out: which, to whom, from where. It holds no digit of it.
type Release struct {
	Query
	Recipient
	Source string // the escrow that had it
}
