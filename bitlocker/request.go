package bitlocker

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
)

// A Request asks for keys that one person alone may not have. It is written on the ledger, and
// whoever approves it approves its hash, so that nothing in it can be exchanged afterwards.
type Request struct {
	Actor   string  `json:"actor"`
	Claims  string  `json:"claims,omitempty"`
	Purpose string  `json:"purpose"`
	Reason  string  `json:"reason"`
	Keys    []Query `json:"keys"`
	Why     string  `json:"why"`   // it needs a second person
	Nonce   string  `json:"nonce"` // makes the same wish a new request the next time
}

// NewNonce returns the nonce of a new request.
func NewNonce() string { return rand.Text() }

// Hash identifies the request: hex of the SHA-256 of its JSON.
func (r Request) Hash() string {
	b, _ := json.Marshal(r) // strings and ids alone: it cannot fail
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// An Approval is the word of a second person for exactly one request.
type Approval struct {
	Request string `json:"request"` // its hash
	Actor   string `json:"actor"`
	Claims  string `json:"claims,omitempty"`
}
