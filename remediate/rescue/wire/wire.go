// Package wire holds every message between the fixer (the agent) and the rescue server, as
// JSON over HTTPS with a pinned certificate.
//
// The conversation, always begun by the agent, with its token as bearer:
//
//	POST /v1/hello       Hello      → Job         who am I, and what am I to do
//	POST /v1/keys        KeyRequest → KeyAnswer   only what the playbook's volumes need
//	PUT  /v1/quarantine/{sha256}    content       before a file is removed
//	POST /v1/report      Report     → 204         the end: the agent stops
//
// The agent on a stick or a helper, which has no token of any host, first asks for one: see
// StickPath and HelperPath.
//
// After hello the agent shows in SessionHeader that it is the one that said hello: the token
// alone may have been read off the wire when a BMC fetched the image.
//
// 409 means "not now": the server is not yet at the point where it may answer, and the agent
// asks again, as it does after 5xx. Every other 4xx is final. Errors are plain text.
package wire

import (
	"crypto/sha256"
	"encoding/hex"
	"time"

	"unbrick/playbooks"
)

// Version of the protocol. The server refuses an agent of another one.
const Version = 1

// A Config is what the image of one host carries: the only thing in it that differs.
type Config struct {
	URL   string `json:"url"`   // of the rescue server: https://10.1.2.3:8443
	Pin   string `json:"pin"`   // SHA-256 of the server's SubjectPublicKeyInfo, hex
	Token string `json:"token"` // one-time, this host and attempt only; of a stick, its own

	Stick  *Stick  `json:"stick,omitempty"`  // nil: the image is of one host
	Helper *Helper `json:"helper,omitempty"` // nil: and of no helper
}

// ConfigSize is the size in bytes of the place in an image that holds the Config: JSON, then
// spaces.
const ConfigSize = 64 << 10

// Placeholder begins the place in a base image where the Config goes.
const Placeholder = `{"unbrick":"the configuration of one host goes here"}`

// An Identity is what a host says of itself. Anyone can forge it: it selects and never
// authenticates.
type Identity struct {
	UUID    string   `json:"uuid,omitempty"`
	Serial  string   `json:"serial,omitempty"`
	Vendor  string   `json:"vendor,omitempty"`
	Product string   `json:"product,omitempty"`
	MAC     []string `json:"mac,omitempty"`
}

// A Hello is the agent's first message.
type Hello struct {
	Version   int      `json:"version"`
	Agent     string   `json:"agent"` // version of the program
	Identity  Identity `json:"identity"`
	PublicKey []byte   `json:"public_key"` // HPKE DHKEM(X25519), fresh for this boot
}

// A Job is what the agent is to do.
type Job struct {
	Host     string    `json:"host"`     // for its console
	Playbook []byte    `json:"playbook"` // YAML
	DryRun   bool      `json:"dry_run,omitempty"`
	Deadline time.Time `json:"deadline"` // stop and report before
	// Budget is the time left until Deadline when the server answered. The agent goes by
	// this: the clock of a host keeps local time as a rule, or none since its battery died.
	Budget time.Duration `json:"budget"`
	Allow  Allow         `json:"allow"`
}

// Allow holds what an operator has to say yes to, because it loses data or leaves a host in
// another state than it was found in.
type Allow struct {
	// Hibernated allows the saved session of a hibernated Windows to be dropped.
	Hibernated bool `json:"hibernated,omitempty"`
	// DropJournal allows the journal of an NTFS volume to be dropped when it cannot be
	// replayed. Windows then runs chkdsk.
	DropJournal bool `json:"drop_journal,omitempty"`
	// SafeMode allows a locked Windows that its TPM alone would open to be started in Safe Mode
	// with Networking, instead of asking for its key. It is repaired there by another way
	// (WinRM), which has to clear the setting; the agent clears it if the host comes back.
	SafeMode bool `json:"safe_mode,omitempty"`
}

// A KeyRequest names the protectors of the locked volumes.
type KeyRequest struct {
	Protectors []string `json:"protectors"`
	// Salts holds the salt of those protectors, by id, for which the agent needs no more than
	// the stretched key.
	Salts map[string][]byte `json:"salts,omitempty"`
}

// A KeyAnswer holds the keys that were found, by protector id as it was asked for. Each is
// sealed to the agent's public key: the encapsulated key followed by the ciphertext.
type KeyAnswer struct {
	Sealed map[string][]byte `json:"sealed"`
	Denied map[string]string `json:"denied,omitempty"` // why not, by protector id
}

// SessionHeader carries Session in every request after hello.
const SessionHeader = "Unbrick-Session"

// Session shows that a request comes from the agent with this public key: nobody but the
// agent and the server has seen the key.
func Session(publicKey []byte) string {
	sum := sha256.Sum256(append([]byte("unbrick session "), publicKey...))
	return hex.EncodeToString(sum[:])
}

// FileHeader names, in a PUT to quarantine, the file that the content comes from: volume and
// path, percent-encoded as in a URL path. Optional; for the person who looks for it later.
const FileHeader = "Unbrick-File"

// StretchedInfo is the HPKE info of a stretched key: bitlocker.Stretched.Bytes, not digits.
func StretchedInfo(protector string) []byte { return []byte("unbrick stretched key " + protector) }

// SealInfo is the HPKE info that binds a sealed key to its protector.
func SealInfo(protector string) []byte { return []byte("unbrick recovery key " + protector) }

// A Report ends the conversation.
type Report struct {
	playbooks.Result
	Agent    string        `json:"agent"`
	Elapsed  time.Duration `json:"elapsed"`
	Released []string      `json:"released,omitempty"`
	Error    string        `json:"error,omitempty"` // why the agent could not do the job at all
	// Unanswered holds the protectors whose keys could not be asked for, and the locked
	// volumes whose protectors the agent cannot tell: whether there is a key, nobody knows.
	Unanswered []string `json:"unanswered,omitempty"`
	// SafeMode says that Windows will start in Safe Mode, because an agent set it so.
	SafeMode bool     `json:"safe_mode,omitempty"`
	Log      []string `json:"log,omitempty"` // its phases, a line each
}
