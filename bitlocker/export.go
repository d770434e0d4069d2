package bitlocker

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// An Exporter writes ledger records for a log system, a line each.
type Exporter struct {
	W      io.Writer
	Format string // json, cef, or syslog: CEF behind the header of RFC 5424

	// Salt, if there is one, replaces the ids of keys: the same id has the same pseudonym
	// under the same salt, and nobody without the salt can tell which it is.
	Salt []byte
}

// Check says whether the format is known.
func (x Exporter) Check() error {
	switch x.Format {
	case "json", "cef", "syslog":
		return nil
	}
	return fmt.Errorf("no format %q; it is json, cef or syslog", x.Format)
}

// Write writes one record; hash is that of its line on the ledger. It is made for [ReadLedger].
func (x Exporter) Write(e Event, hash string) error {
	var line []byte
	var err error
	switch x.Format {
	case "json":
		line, err = x.json(e, hash)
	case "cef":
		line = []byte(x.cef(e, hash))
	case "syslog": // facility 13 is the audit log, severity 5 a notice
		line = fmt.Appendf(nil, "<109>1 %s - unbrick - %s - %s", e.Time.UTC().Format("2006-01-02T15:04:05.000000Z"), class(e), x.cef(e, hash))
	default:
		err = x.Check()
	}
	if err != nil {
		return err
	}
	_, err = x.W.Write(append(line, '\n'))
	return err
}

// id returns the id of a key, or its pseudonym.
func (x Exporter) id(id string) string {
	if len(x.Salt) == 0 {
		return id
	}
	h := hmac.New(sha256.New, x.Salt)
	h.Write([]byte(id))
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// keyID is id for what may be of no key.
func (x Exporter) keyID(id KeyID) string {
	if id.IsZero() {
		return ""
	}
	return x.id(id.String())
}

// json is the record as on the ledger, with its hash.
func (x Exporter) json(e Event, hash string) ([]byte, error) {
	b, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, err
	}
	m["hash"] = hash
	m["event"] = class(e)
	if len(x.Salt) > 0 {
		x.hide(m)
	}
	return json.Marshal(m)
}

// hide replaces every id in m. Half a line that a crash cut off may end in one.
func (x Exporter) hide(m map[string]any) {
	if id, ok := m["key_id"].(string); ok {
		m["key_id"] = x.id(id)
	}
	if cut, ok := m["cut"].(string); ok {
		m["cut"] = fmt.Sprintf("%d bytes", len(cut))
	}
	if r, ok := m["rotation"].(map[string]any); ok {
		x.hide(r)
		if id, ok := r["new"].(string); ok {
			r["new"] = x.id(id)
		}
		known, _ := r["known"].([]any)
		for i, id := range known {
			known[i] = x.id(fmt.Sprint(id))
		}
	}
	if asked, ok := m["asked"].(map[string]any); ok {
		keys, _ := asked["keys"].([]any)
		for _, k := range keys {
			if q, ok := k.(map[string]any); ok {
				x.hide(q)
			}
		}
	}
}

// class names what happened.
func class(e Event) string {
	switch {
	case e.Release != nil && e.Withheld:
		return "withheld"
	case e.Release != nil:
		return "release"
	case e.Asked != nil:
		return "asked"
	case e.Approved != nil:
		return "approved"
	case e.Rotation != nil:
		return "rotation"
	}
	return "cut"
}

// cef is the record in ArcSight's Common Event Format, version 0. Severity is from 0 to 10.
func (x Exporter) cef(e Event, hash string) string {
	severity, name := 3, "recovery key released to a program"
	ext := []string{"rt", strconv.FormatInt(e.Time.UnixMilli(), 10), "externalId", strconv.Itoa(e.Seq), "cs2", hash}
	switch kind := class(e); kind {
	case "release", "withheld":
		if e.Person {
			severity, name = 6, "recovery key shown to a person"
		}
		if kind == "withheld" {
			severity, name = 7, "recovery key withheld: escrows disagree"
		}
		if e.Account != "" {
			severity, name = 6, "password of a local account given out"
		}
		ext = append(ext, "suser", e.Actor, "dhost", e.Host, "act", e.Purpose, "reason", e.Reason,
			"duser", e.Account, "cs1", x.keyID(e.ID), "cs3", e.Run, "cs4", e.Address, "cs5", e.Release.Request, "cs6", e.Release.Source)
	case "asked":
		severity, name = 7, "recovery keys asked for that need a second person"
		ext = append(ext, "suser", e.Asked.Actor, "act", e.Asked.Purpose, "reason", e.Asked.Reason, "cs5", e.Asked.Hash(),
			"cn1", strconv.Itoa(len(e.Asked.Keys)))
	case "approved":
		severity, name = 7, "request for recovery keys approved"
		ext = append(ext, "suser", e.Approved.Actor, "cs5", e.Approved.Request)
	case "rotation":
		severity, name = 3, "replacement of a recovery key: "+string(e.Rotation.Step)
		ext = append(ext, "suser", e.Rotation.By, "dhost", e.Rotation.Host, "act", string(e.Rotation.Step), "cs1", x.keyID(e.Rotation.ID))
	case "cut":
		severity, name = 5, "incomplete record cut off after a crash"
	}
	return fmt.Sprintf("CEF:0|unbrick|unbrick|1|%s|%s|%d|%s", class(e), name, severity, extension(ext))
}

// label says what a numbered field of CEF means here.
func label(field string) string {
	switch field {
	case "cs1":
		return "keyId"
	case "cs2":
		return "ledgerHash"
	case "cs3":
		return "run"
	case "cs4":
		return "address"
	case "cs5":
		return "request"
	case "cs6":
		return "escrow"
	case "cn1":
		return "keys"
	}
	return ""
}

// extension joins names and values; those without a value are left out.
func extension(pairs []string) string {
	escape := strings.NewReplacer(`\`, `\\`, `=`, `\=`, "\n", `\n`, "\r", `\r`)
	var out []string
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			continue
		}
		if l := label(pairs[i]); l != "" {
			out = append(out, pairs[i]+"Label="+l)
		}
		out = append(out, pairs[i]+"="+escape.Replace(pairs[i+1]))
	}
	return strings.Join(out, " ")
}
