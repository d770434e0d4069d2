// Package powershell reads scripts by a grammar that nobody here wrote: tree-sitter's. It tells
// a script that no PowerShell would take, not what one does.
package powershell

import "fmt"

// An Error says where a script is no PowerShell, from 1.
type Error struct {
	Line, Column int
	Near         string // what stands there
}

// Error implements error.
func (e *Error) Error() string {
	return fmt.Sprintf("no PowerShell at line %d, column %d: %q", e.Line, e.Column, e.Near)
}
