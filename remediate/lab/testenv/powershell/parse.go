//go:build cgo

package powershell

import (
	grammar "github.com/alexaandru/go-sitter-forest/powershell"
	sitter "github.com/tree-sitter/go-tree-sitter"
)

// Checks says whether [Check] can do its work: the grammar is C.
const Checks = true

// Check returns an [Error] for the first place where script is no PowerShell.
func Check(script string) error {
	p := sitter.NewParser()
	defer p.Close()
	if err := p.SetLanguage(sitter.NewLanguage(grammar.GetLanguage())); err != nil {
		return err // the grammar is of another age than the library: go.mod has both
	}
	tree := p.Parse([]byte(script), nil)
	defer tree.Close()
	if n := wrong(tree.RootNode()); n != nil {
		at, near := n.StartPosition(), script[n.StartByte():n.EndByte()]
		return &Error{int(at.Row) + 1, int(at.Column) + 1, near[:min(len(near), 60)]}
	}
	return nil
}

// wrong returns the first node of what is no PowerShell; nil if all is.
func wrong(n *sitter.Node) *sitter.Node {
	if n.IsError() || n.IsMissing() {
		return n
	}
	for i := range n.ChildCount() {
		if w := wrong(n.Child(i)); w != nil {
			return w
		}
	}
	return nil
}
