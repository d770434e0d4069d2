package bitlocker

import (
	"fmt"
	"log/slog"
)

// A Key is a recovery key: 128 bits that a person sees as 48 digits. It does not print, log
// or encode itself; only [Key.Reveal] gives the digits.
//
// The bytes sit behind a function because fmt and slog print the unexported fields of a
// struct that holds a Key without asking its methods.
type Key struct{ bytes func() [16]byte }

const redacted = "[recovery key]"

// Format prints a placeholder, whatever the verb.
func (k Key) Format(s fmt.State, _ rune) { fmt.Fprint(s, redacted) }

// LogValue logs a placeholder.
func (k Key) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText writes a placeholder; encoding/json uses it too.
func (k Key) MarshalText() ([]byte, error) { return []byte(redacted), nil }
