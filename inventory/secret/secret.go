// Package secret says where a secret is without holding it, and holds one without showing it.
//
// A [Ref] is what configuration files and databases may contain. A [Value] is what it
// resolves to: it refuses to print, log or encode itself, and gives its text only to
// [Value.Reveal], a name one can search for.
package secret

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"time"
)

// A Ref names the place of a secret: "file:/etc/unbrick/bmc", "env:BMC_PASSWORD" or
// "exec:pass show bmc". It is not secret itself.
type Ref string

// execTimeout is how long an exec: reference may take; a vault that hangs must not hang a run.
const execTimeout = 30 * time.Second

// Check says whether the reference is of a known form, without reading anything.
func (r Ref) Check() error {
	kind, rest, ok := strings.Cut(string(r), ":")
	if ok && strings.TrimSpace(rest) != "" && (kind == "file" || kind == "env" || kind == "exec") {
		return nil
	}
	// The text is not repeated: it may be a password that somebody wrote in the wrong place.
	return errors.New("not a reference to a secret; write file:PATH, env:NAME or exec:COMMAND, never the secret itself")
}

// Resolve reads the secret, without the newline that ends it and the byte order mark that
// Windows editors put in front. An empty secret is an error.
func (r Ref) Resolve(ctx context.Context) (Value, error) {
	if err := r.Check(); err != nil {
		return Value{}, err
	}
	kind, rest, _ := strings.Cut(string(r), ":")
	var text string
	switch kind {
	case "file":
		b, err := os.ReadFile(rest)
		if err != nil {
			return Value{}, fmt.Errorf("cannot read secret: %w", err)
		}
		text = string(b)
	case "env":
		text = os.Getenv(rest)
	case "exec":
		ctx, cancel := context.WithTimeout(ctx, execTimeout)
		defer cancel()
		args := strings.Fields(rest)
		out, err := exec.CommandContext(ctx, args[0], args[1:]...).Output()
		if err != nil {
			return Value{}, fmt.Errorf("cannot read secret from %s: %v", args[0], err)
		}
		text = string(out)
	}
	if strings.IndexByte(text, 0) >= 0 { // what PowerShell's > writes
		return Value{}, fmt.Errorf("secret %s is UTF-16 or binary; write it as plain UTF-8", r)
	}
	text = strings.TrimRight(strings.TrimPrefix(text, "\ufeff"), "\r\n")
	if text == "" {
		return Value{}, fmt.Errorf("secret %s is empty", r)
	}
	return New(text), nil
}

// A Value is a secret in memory. The zero Value is empty.
//
// The text sits behind a function because fmt and slog print the unexported fields of a
// struct that holds a Value without asking its methods.
type Value struct{ reveal func() string }

// New returns a Value that holds text.
func New(text string) Value { return Value{func() string { return text }} }

// Reveal returns the text.
func (v Value) Reveal() string {
	if v.reveal == nil {
		return ""
	}
	return v.reveal()
}

const redacted = "[secret]"

// Format prints a placeholder, whatever the verb.
func (v Value) Format(s fmt.State, _ rune) { fmt.Fprint(s, redacted) }

// String returns a placeholder.
func (v Value) String() string { return redacted }

// LogValue logs a placeholder.
func (v Value) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText writes a placeholder; encoding/json uses it too.
func (v Value) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// A Login is a user name and the place of its password.
type Login struct {
	User     string `json:"user" yaml:"user"`
	Password Ref    `json:"password" yaml:"password"`
}
