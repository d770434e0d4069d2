package playbooks

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// MaxSource is the size in bytes of the largest playbook that Parse reads.
const MaxSource = 64 << 10

const (
	maxSteps = 20
	maxTitle = 200
	maxWhy   = 4000
	maxDepth = 20 // of nested brackets; the YAML parser recurses, a playbook needs 5
)

// Parse reads a playbook from YAML, as schema.json describes it. The name stands for the
// source in errors. It is strict: unknown and duplicate keys, wrong types, anchors, aliases,
// tags and second documents are errors. What is wrong is reported at once, up to 20 mistakes;
// each is an *InputError.
func Parse(name string, src []byte) (*Playbook, error) {
	d := &decoder{name: name}
	root, err := d.document(src)
	if err != nil {
		return nil, err
	}
	pb := d.playbook(root)
	if len(d.errs) > 0 {
		return nil, errors.Join(d.errs...)
	}
	pb.source = bytes.Clone(src)
	return pb, nil
}

// Source returns what was parsed, byte for byte. It is nil for a Playbook that was not parsed.
func (p *Playbook) Source() []byte { return bytes.Clone(p.source) }

// document checks the text as a whole and returns its one top node.
func (d *decoder) document(src []byte) (ast.Node, error) {
	if len(src) > MaxSource {
		return nil, d.plain("%d bytes are more than a playbook may have (%d): is this the right file?", len(src), MaxSource)
	}
	if i := invalidText(src); i >= 0 {
		line := 1 + bytes.Count(src[:i], []byte("\n"))
		column := i - bytes.LastIndexByte(src[:i], '\n')
		return nil, &InputError{Name: d.name, Line: line, Column: column,
			Msg: "this is not UTF-8 text: save the file as UTF-8 without control characters"}
	}
	if deep(src) {
		return nil, d.plain("brackets are nested deeper than %d: is this the right file?", maxDepth)
	}
	file, err := parseYAML(bytes.TrimPrefix(src, []byte("\ufeff")))
	if err != nil {
		return nil, d.syntax(err)
	}
	var docs []ast.Node
	for _, doc := range file.Docs {
		if doc.Body != nil && doc.Body.Type() != ast.CommentType {
			docs = append(docs, doc.Body)
		}
	}
	switch len(docs) {
	case 0:
		return nil, d.plain("there is nothing in it: a playbook has name, title and steps")
	case 1:
		return docs[0], nil
	}
	d.fail(docs[1], "a second document begins here: put each playbook in a file of its own")
	return nil, d.errs[0]
}

// parseYAML turns a panic of the library into an error: the text comes from anywhere.
func parseYAML(src []byte) (f *ast.File, err error) {
	defer func() {
		if r := recover(); r != nil {
			f, err = nil, fmt.Errorf("this YAML cannot be read (%v)", r)
		}
	}()
	return parser.ParseBytes(src, 0)
}

// invalidText returns the offset of the first byte that no text has, or -1. Reports print
// titles on terminals, so control characters stay out.
func invalidText(src []byte) int {
	for i, r := range string(src) {
		if r == utf8.RuneError && !bytes.HasPrefix(src[i:], []byte("\uFFFD")) {
			return i
		}
		if r < ' ' && r != '\n' && r != '\r' && r != '\t' || r >= 0x7f && r < 0xa0 {
			return i
		}
	}
	return -1
}

// deep says that brackets, or lists within one line ("- - -"), are nested so deep that the
// YAML parser would recurse for long. Nesting by indentation ends by itself: MaxSource has
// room for some 350 levels.
func deep(src []byte) bool {
	depth := 0
	for line := range bytes.Lines(src) {
		if bytes.Count(line, []byte("- "))+bytes.Count(line, []byte("? ")) > 10*maxDepth {
			return true
		}
		for _, b := range line {
			switch b {
			case '[', '{':
				depth++
			case ']', '}':
				depth = max(depth-1, 0)
			}
			if depth > maxDepth {
				return true
			}
		}
	}
	return false
}

func (d *decoder) playbook(n ast.Node) *Playbook {
	pb := &Playbook{}
	d.mapping(n, "a playbook", map[string]func(ast.Node){
		"name": func(n ast.Node) {
			pb.Name = d.text(n, "a name such as crowdstrike-291")
			d.check(n, checkName(pb.Name))
		},
		"title": func(n ast.Node) {
			pb.Title = d.text(n, "one line of text")
			d.check(n, checkTitle(pb.Title))
		},
		"why": func(n ast.Node) {
			pb.Why = d.text(n, "text")
			if utf8.RuneCountInString(pb.Why) > maxWhy {
				d.fail(n, "why is longer than %d characters: leave the details to a link", maxWhy)
			}
		},
		"steps": func(n ast.Node) {
			for _, n := range d.list(n, maxSteps, "steps") {
				if s := d.step(n); s != nil {
					d.check(n, checkOrder(pb.Steps, s))
					pb.Steps = append(pb.Steps, s)
				}
			}
		},
	}, "name", "title", "steps")
	return pb
}

// checkOrder refuses a step that asks for a file which a step before it has removed by then.
func checkOrder(before []Step, s Step) error {
	r, ok := s.(*Registry)
	if !ok || r.With == nil {
		return nil
	}
	for _, b := range before {
		if rm, ok := b.(*Remove); ok && foldEqual(rm.Directory, r.With.Directory) && foldEqual(rm.Glob, r.With.Glob) {
			return errors.New("the file of with is removed by a step before this one: put this step first")
		}
	}
	return nil
}

// step decodes one step by the table of kinds. To add a kind is a row here, a case in
// schema.json and a file.
func (d *decoder) step(n ast.Node) (s Step) {
	kinds := map[string]func(ast.Node){
		"remove":   func(n ast.Node) { s = d.remove(n) },
		"registry": func(n ast.Node) { s = d.registry(n) },
		"hives":    func(n ast.Node) { s = d.hives(n) },
		"safeboot": func(n ast.Node) { s = d.safeboot(n) },
	}
	d.mapping(n, "a step", kinds)
	if m, ok := n.(*ast.MappingNode); ok && len(m.Values) != 1 {
		d.fail(n, "a step has one key, its kind: start the next step with a dash of its own")
	}
	return s
}

func checkName(s string) error {
	ok := len(s) > 0 && len(s) <= 63 && s[0] != '-'
	for _, r := range s {
		ok = ok && (r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-')
	}
	if !ok {
		return errors.New("a name has lower-case letters, digits and dashes, up to 63: crowdstrike-291")
	}
	return nil
}

func checkTitle(s string) error {
	if s == "" || utf8.RuneCountInString(s) > maxTitle || strings.ContainsAny(s, "\r\n\t") {
		return fmt.Errorf("a title is one line of up to %d characters", maxTitle)
	}
	return nil
}

// syntax turns an error of the YAML library into one of ours.
func (d *decoder) syntax(err error) error {
	var y yaml.Error
	if !errors.As(err, &y) || y.GetToken() == nil {
		return d.plain("%v", err)
	}
	return d.at(y.GetToken(), "%s", y.GetMessage())
}
