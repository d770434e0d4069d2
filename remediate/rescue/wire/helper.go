package wire

import "time"

// A Helper makes a configuration that of a helper: a host that the disks of others are hung on,
// to be repaired there. The token beside it in Config is the helper's own; it has none of any
// host until the server lends it one.
type Helper struct {
	ID    string    `json:"id"`   // eight hex digits
	Name  string    `json:"name"` // as the platform calls it: of the domain, the instance, the VM
	Until time.Time `json:"until"`
}

// HelperPath is where the agent on a helper asks, again and again, which of the disks that it
// sees it is to repair, and for whom. The message is a HelperCall, the answer a HelperAnswer;
// 409 and 5xx mean what they mean everywhere.
func HelperPath(id string) string { return "/v1/helpers/" + id }

// EnrolPath is where the agent on a machine that is to be a helper asks for its Config, with the
// token of its enrolment as bearer. The message is an Enrol, the answer a Config. Below it, at
// EnrolAgentPath, who has the token gets the agent itself.
func EnrolPath(id string) string { return "/v1/enrol/" + id }

// EnrolAgentPath is where the program is that enrols.
func EnrolAgentPath(id string) string { return EnrolPath(id) + "/agent" }

// An Enrol asks for the credential of a helper. The token may have been read by others, in the
// history of what brought it; so it is good once.
type Enrol struct {
	Version int    `json:"version"`
	Agent   string `json:"agent"`
	// Secret is random, and made for this one asking: it shows that the same process asks again,
	// whose answer was lost.
	Secret []byte `json:"secret"`
}

// A HelperCall says which disks a helper has. Its own go unsaid.
type HelperCall struct {
	Version int          `json:"version"`
	Agent   string       `json:"agent"`
	Disks   []HelperDisk `json:"disks"`
}

// A HelperDisk is a disk that was hung on the helper.
type HelperDisk struct {
	// Mark is what it is known by: its serial number, which stays with it wherever it shows,
	// or, on a platform that sets none, its place on the controller.
	Mark string `json:"mark"`
	Busy bool   `json:"busy,omitempty"` // the agent is at work on it, or has it open
}

// A HelperAnswer says what to do with them. A disk that is not in it is let alone.
type HelperAnswer struct {
	Loans []Loan        `json:"loans,omitempty"`
	Stop  []string      `json:"stop,omitempty"`  // marks: let go of these at once
	Again time.Duration `json:"again,omitempty"` // when to ask the next time
}

// A Loan lets the agent on the helper go on as that of one host, on one disk: with the token it
// says hello, and says nothing of the helper it is on.
type Loan struct {
	Mark  string `json:"mark"`
	Host  string `json:"host"`
	Token string `json:"token"`
}
