package playbooks

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/printer"
	"github.com/goccy/go-yaml/token"
)

// An InputError is one mistake in the text of a playbook.
type InputError struct {
	Name         string
	Line, Column int    // from 1; 0 if the mistake is in the text as a whole
	Msg          string // what is wrong, and what would be right
	Excerpt      string // the lines around, with a mark; may be empty
}

func (e *InputError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.Name, e.Msg)
	}
	s := fmt.Sprintf("%s:%d:%d: %s", e.Name, e.Line, e.Column, e.Msg)
	if e.Excerpt != "" {
		s += "\n" + e.Excerpt
	}
	return s
}

const maxErrors = 20 // reported at once

// A decoder walks a YAML tree and collects every mistake with its place.
type decoder struct {
	name string
	errs []error
}

func (d *decoder) plain(format string, args ...any) error {
	return &InputError{Name: d.name, Msg: fmt.Sprintf(format, args...)}
}

// at returns an error that points to t.
func (d *decoder) at(t *token.Token, format string, args ...any) error {
	if t == nil || t.Position == nil {
		return d.plain(format, args...)
	}
	e := &InputError{Name: d.name, Line: t.Position.Line, Column: t.Position.Column}
	e.Msg = fmt.Sprintf(format, args...)
	e.Excerpt = excerpt(t)
	return e
}

// excerpt returns the source lines around t. The library's printer has panicked on odd
// tokens before; a mistake is then shown without its lines.
func excerpt(t *token.Token) (s string) {
	defer func() {
		if recover() != nil {
			s = ""
		}
	}()
	var p printer.Printer
	return strings.TrimRight(p.PrintErrorToken(t, false), "\n")
}

func (d *decoder) fail(n ast.Node, format string, args ...any) {
	if len(d.errs) == maxErrors {
		return
	}
	t := n.GetToken()
	if m, ok := n.(*ast.MappingNode); ok && !m.IsFlowStyle && len(m.Values) > 0 {
		t = m.Values[0].Key.GetToken() // the library points to the first colon
	}
	d.errs = append(d.errs, d.at(t, format, args...))
}

func (d *decoder) check(n ast.Node, err error) {
	if err != nil {
		d.fail(n, "%v", err)
	}
}

// mapping calls the field of each key with its value, and reports unknown, duplicate and
// missing keys.
func (d *decoder) mapping(n ast.Node, what string, fields map[string]func(ast.Node), required ...string) {
	m, ok := n.(*ast.MappingNode)
	if !ok {
		d.fail(n, "%s is a list of keys and values here, not %s", what, kindOf(n))
		return
	}
	known := strings.Join(slices.Sorted(maps.Keys(fields)), ", ")
	seen := map[string]bool{}
	for _, kv := range m.Values {
		key, ok := kv.Key.(*ast.StringNode)
		switch {
		case !ok:
			d.fail(kv.Key, "a key is a plain word here: %s", known)
		case seen[key.Value]:
			d.fail(kv.Key, "%q is there twice: remove one", key.Value)
		case fields[key.Value] == nil:
			d.fail(kv.Key, "%s has no %q: it may have %s", what, key.Value, known)
		default:
			seen[key.Value] = true
			fields[key.Value](kv.Value)
		}
	}
	for _, k := range required {
		if !seen[k] {
			d.fail(n, "%s lacks %q", what, k)
		}
	}
}

// list returns the items of a list of 1 to most.
func (d *decoder) list(n ast.Node, most int, what string) []ast.Node {
	s, ok := n.(*ast.SequenceNode)
	if !ok {
		d.fail(n, "%s are a list, each item with a dash, not %s", what, kindOf(n))
		return nil
	}
	if len(s.Values) == 0 || len(s.Values) > most {
		d.fail(n, "there are %d %s: 1 to %d are right", len(s.Values), what, most)
		return nil
	}
	return s.Values
}

// text returns a string. Values that YAML takes for something else must be quoted, so that
// "0123" is never read as a number.
func (d *decoder) text(n ast.Node, want string) string {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value
	case *ast.LiteralNode:
		return n.Value.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		d.fail(n, "YAML reads this as %s, and %s is wanted: put it in quotes", kindOf(n), want)
	default:
		d.fail(n, "%s is wanted here, not %s", want, kindOf(n))
	}
	return ""
}

func (d *decoder) integer(n ast.Node, least, most int) int {
	if i, ok := n.(*ast.IntegerNode); ok {
		if v, ok := i.Value.(uint64); ok && v >= uint64(least) && v <= uint64(most) {
			return int(v)
		}
	}
	d.fail(n, "a whole number from %d to %d is wanted here", least, most)
	return 0
}

func kindOf(n ast.Node) string {
	switch n.(type) {
	case *ast.AnchorNode:
		return "an anchor (playbooks have none: write the value)"
	case *ast.AliasNode, *ast.MergeKeyNode:
		return "an alias (playbooks have none: write the value)"
	case *ast.TagNode:
		return "a tag (playbooks have none: write the value)"
	case *ast.NullNode:
		return "nothing"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "keys and values"
	case *ast.SequenceNode:
		return "a list"
	case *ast.StringNode, *ast.LiteralNode:
		return "text"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "a number"
	case *ast.BoolNode:
		return "yes or no"
	}
	return "something else"
}
