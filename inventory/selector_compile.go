package inventory

import (
	"errors"
	"fmt"
	"strings"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
)

// The limits of an expression: of what it is made of, and of what it may use while it runs.
const (
	maxSelectorNodes  = 25_000
	maxSelectorMemory = 1_000_000 // elements of lists
)

// functions are what an expression may call, those of the language first.
var functions = []string{"any", "all", "none", "one", "count", "len", "lower", "trim", "date", "like", "subnet", "label"}

// compile makes a selector of an expression. A fault of the library is an error of the
// expression: no text may end a run.
func compile(s string) (sel *Selector, failed *SelectorError) {
	defer func() {
		if r := recover(); r != nil {
			sel, failed = nil, wrong(s, 0, "it cannot be read")
		}
	}()
	c := &checker{text: s, asWritten: map[*ast.StringNode]string{}, closed: closedFields()}
	options := []expr.Option{expr.Env(&facts{}), expr.AsBool(), expr.MaxNodes(maxSelectorNodes), expr.Patch(c), expr.DisableAllBuiltins()}
	for _, f := range functions[:9] {
		options = append(options, expr.EnableBuiltin(f))
	}
	program, err := expr.Compile(s, options...)
	if c.failed != nil {
		return nil, c.failed
	}
	if err != nil {
		return nil, c.translate(err)
	}
	return &Selector{program: program, needs: c.needs}, nil
}

// translate says an error of the library in our words, where it has none that help.
func (c *checker) translate(err error) *SelectorError {
	at, reason := 0, oneLine(err.Error())
	var e *file.Error
	if errors.As(err, &e) {
		at, reason = c.offset(e.From), oneLine(e.Message)
	}
	switch {
	case strings.HasPrefix(reason, `unexpected token Operator("=")`):
		reason = `values are compared by ==, as in site == "SYD"`
	case strings.HasPrefix(reason, "unexpected token EOF"):
		at, reason = len(c.text), "something is missing at the end"
	case strings.EqualFold(reason, "unknown name labels"):
		reason = `say which label: labels.owner == "finance", or "owner" in labels`
	case strings.Contains(reason, "exceeds maximum allowed nodes"):
		reason = fmt.Sprintf("it has more than %d parts; put the hosts into a file of their own", maxSelectorNodes)
	case strings.HasPrefix(reason, "expected bool, but got"):
		reason = strings.Replace(reason, "expected bool, but got", "it has to be true or false for a host, and is a", 1)
	}
	return wrong(c.text, at, "%s", reason)
}

func oneLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

// meant asks for the name that a slip of the fingers is nearest to, if there is one.
func meant(slip string, names []string) string {
	slip = strings.ToLower(slip)
	for _, n := range names {
		if near(slip, n) {
			return fmt.Sprintf("; is %s meant?", n)
		}
	}
	return ""
}

// near says whether two words differ by one letter that is missing, added or another one, or by
// two that changed places.
func near(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	switch len(b) - len(a) {
	case 0:
		swapped := i+1 < len(a) && a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:]
		return i == len(a) || a[i+1:] == b[i+1:] || swapped
	case 1:
		return a[i:] == b[i+1:]
	}
	return false
}
