package rescue

import (
	_ "embed"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"text/template"
	"time"

	"unbrick/remediate/rescue/wire"
)

//go:embed helper_enrol.sh
var enrolScript string

// Script returns what makes a Linux machine with systemd the helper: a shell script, to be run as
// root. It fetches the agent from the rescue server, which it knows by its pin, exchanges the
// token, and starts the agent as a service. Where the machine has a credential that is good, and
// the same agent, it changes nothing, unless the credential is to be renewed. Run twice at the
// same time, one waits for the other. It writes what went wrong to standard error.
//
// The token is in it, and nothing else that is secret.
func (e Enrolment) Script(renew bool) (string, error) {
	pin, err := hex.DecodeString(e.Pin)
	if err != nil || strings.ContainsAny(e.URL, "\"'`$\\\n ") {
		return "", fmt.Errorf("%q is no URL that a script can hold", e.URL)
	}
	t, err := template.New("script").Parse(enrolScript)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	err = t.Execute(&b, map[string]any{
		"ID": e.ID, "Token": e.Token, "URL": e.URL, "Pin": e.Pin, "PinBase64": base64.StdEncoding.EncodeToString(pin),
		"Agent": e.Agent, "AgentPath": wire.EnrolAgentPath(e.ID), "Expires": e.Expires.UTC().Format(time.RFC3339), "Renew": renew,
	})
	return b.String(), err
}
