package bitlocker

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// An Event is one line of the ledger: a release, or what stands about releases and the ledger
// itself. Exactly one of Release, Asked, Approved, Rotation and Cut is there.
type Event struct {
	Seq      int       `json:"seq"`
	Time     time.Time `json:"time"`
	*Release           // a key went out
	Asked    *Request  `json:"asked,omitempty"`    // a person asked for keys that need a second person
	Approved *Approval `json:"approved,omitempty"` // the second person agreed
	Rotation *Rotation `json:"rotation,omitempty"` // a protector whose key went out is being replaced
	Again    int       `json:"again,omitempty"`    // the record of the same release to the same recipient
	Cut      string    `json:"cut,omitempty"`      // what stood in the incomplete line that was cut off here
	Prev     string    `json:"prev"`               // hash of the line before; of the first, zeros
}

// maxCut is how much of an incomplete line is kept.
const maxCut = 4 << 10

// A line ends in the hash of all that stands before it in the line, so that any program can
// check it without knowing how the record was encoded.
const (
	hashKey = `,"hash":"`
	hashEnd = "\"}\n"
	hashLen = len(hashKey) + 2*sha256.Size + len(hashEnd)
)

// line encodes the record and returns its hash beside it.
func (r Event) line() (line []byte, hash string, err error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, "", fmt.Errorf("cannot encode the record: %w", err)
	}
	b = b[:len(b)-1] // without the brace
	hash = sum(b)
	return fmt.Appendf(b, "%s%s%s", hashKey, hash, hashEnd), hash, nil
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}
