package wire

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"time"
)

// A Stick makes an image one that a person carries from host to host: it holds no token of any
// host, and no recovery key. The token beside it in Config is the stick's own.
type Stick struct {
	ID    string    `json:"id"`    // eight hex digits: what people call it
	By    string    `json:"by"`    // who carries it
	Sites []string  `json:"sites"` // where it is good
	Until time.Time `json:"until"` // for how long; the server's clock decides

	// What it needs where no server is in reach: a person types the recovery key.
	Offline  bool          `json:"offline,omitempty"` // do not even look for the server
	Patience time.Duration `json:"patience"`          // how long to look for it
	Playbook []byte        `json:"playbook"`          // YAML
	Allow    Allow         `json:"allow"`
}

// An Admission lets the agent on a stick in as that of one host: with the token it goes on
// with hello.
type Admission struct {
	Host  string `json:"host"`
	Token string `json:"token"`
}

// StickPath is where the agent on a stick asks whose host it is on. The message is a Hello,
// the answer an Admission; 409 and 5xx mean what they mean everywhere.
func StickPath(id string) string { return "/v1/sticks/" + id }

// What the data partition of a stick is known by, and what is in it.
const (
	StickVolume     = "UNBRICK-USB" // label; the serial number of the volume is the stick's id
	StickReports    = "reports"     // a file for each stay on a host
	StickQuarantine = "quarantine"  // copies of removed files, named by their SHA-256
)

// A StickReport is what the agent leaves on its stick when no server is in reach.
type StickReport struct {
	Stick    string    `json:"stick"` // id
	Identity Identity  `json:"identity"`
	At       time.Time `json:"at"` // by the clock of the host, which may be wrong
	Report   Report    `json:"report"`
}

// sealed is a StickReport on the stick. The code is made from the compact form of the report,
// so that a program that formats the file anew does not spoil it.
type sealed struct {
	Report json.RawMessage `json:"report"`
	HMAC   []byte          `json:"hmac"`
}

// Seal encodes the report with a code that only somebody with the stick's token can make.
func (r StickReport) Seal(token string) ([]byte, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	return json.MarshalIndent(sealed{b, stickCode(token, b)}, "", "  ")
}

// ErrForged means that a report on a stick was not made by the agent on that stick, or was
// changed since.
var ErrForged = errors.New("the report does not bear the code of its stick: it was made or changed by somebody else")

// OpenStickReport reads what Seal wrote, and returns ErrForged if the token is another one.
// Nobody but the holder of the token is kept from writing such a report: that includes whoever
// has had the stick.
func OpenStickReport(b []byte, token func(stick string) (string, error)) (StickReport, error) {
	var s sealed
	var r StickReport
	if err := json.Unmarshal(b, &s); err != nil {
		return r, errors.New("this is not a report of a stick")
	}
	var plain bytes.Buffer
	if err := json.Compact(&plain, s.Report); err != nil {
		return r, errors.New("this is not a report of a stick")
	}
	if err := json.Unmarshal(plain.Bytes(), &r); err != nil {
		return r, errors.New("this is not a report of a stick")
	}
	t, err := token(r.Stick)
	if err != nil {
		return r, err
	}
	if !hmac.Equal(s.HMAC, stickCode(t, plain.Bytes())) {
		return StickReport{}, ErrForged
	}
	return r, nil
}

func stickCode(token string, report []byte) []byte {
	mac := hmac.New(sha256.New, []byte("unbrick stick report 1\x00"+token))
	mac.Write(report)
	return mac.Sum(nil)
}
