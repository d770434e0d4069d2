package winrm

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf16"
)

// bootstrap reads a script, in base64, from standard input and runs it. So a script may be of
// any length, stands in no command line, and keeps its letters whatever the code page is.
// -InputFormat is not given: the default reads text from a pipe.
const bootstrap = `$ErrorActionPreference='Stop';$ProgressPreference='SilentlyContinue'
try{[Console]::OutputEncoding=New-Object Text.UTF8Encoding($false)}catch{}
try{$t=-join @($input);if(-not $t){throw 'no script came'}
& ([ScriptBlock]::Create([Text.Encoding]::UTF8.GetString([Convert]::FromBase64String($t))))
}catch{[Console]::Error.WriteLine([string]$_);exit 1}`

// PowerShellLine is the command line that runs a script that comes through standard input, as
// [ScriptInput] encodes it.
func PowerShellLine() string {
	var b []byte
	for _, u := range utf16.Encode([]rune(bootstrap)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return "powershell.exe -NoLogo -NoProfile -NonInteractive -OutputFormat Text -EncodedCommand " +
		base64.StdEncoding.EncodeToString(b)
}

// ScriptInput encodes a script for [PowerShellLine], in lines that no console breaks.
func ScriptInput(script string) []byte {
	const width = 1000
	text := base64.StdEncoding.EncodeToString([]byte(script))
	var b bytes.Buffer
	for len(text) > 0 {
		n := min(len(text), width)
		b.WriteString(text[:n] + "\r\n")
		text = text[n:]
	}
	return b.Bytes()
}

// PowerShell runs a script by Windows PowerShell. The script may contain secrets: it travels
// as standard input. An exit code that is not 0 is no error.
func (s *Session) PowerShell(ctx context.Context, script string) (Result, error) {
	r, err := s.Run(ctx, PowerShellLine(), ScriptInput(script))
	r.Stdout = bytes.TrimPrefix(r.Stdout, []byte("\ufeff"))
	return r, err
}

// A Runner runs PowerShell on hosts by name, one session each. It is a rotation.Runner.
type Runner struct {
	// Options returns how to reach a host.
	Options func(ctx context.Context, host string) (Options, error)
}

// String names the way.
func (Runner) String() string { return "winrm" }

// Run runs a script on a host and returns what it printed. A script that fails is an error,
// which says how but repeats nothing of the script or of what it printed to standard output.
func (r Runner) Run(ctx context.Context, host, script string) (stdout string, err error) {
	o, err := r.Options(ctx, host)
	if err != nil {
		return "", err
	}
	s, err := Dial(ctx, o)
	if err != nil {
		return "", err
	}
	defer s.Close()
	res, err := s.PowerShell(ctx, script)
	if err != nil {
		return "", err
	}
	if res.Code != 0 {
		return "", fmt.Errorf("the script on %s failed with code %d: %s", host, res.Code, Complaint(res.Stderr))
	}
	return strings.TrimSpace(string(res.Stdout)), nil
}

// Complaint makes what a command wrote to standard error fit for an error: one line, not
// endless, and without what could be a part of a recovery key.
func Complaint(stderr []byte) string {
	text := oneLine(string(stderr), 300)
	if text == "" {
		return "it does not say why"
	}
	return keyLike.ReplaceAllString(text, "[digits]")
}
