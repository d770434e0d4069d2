package inventory

import (
	"fmt"
	"net/netip"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/expr-lang/expr/ast"
)

// A checker looks at every part of an expression, children first: it refuses what could fail
// while the expression runs and what would never be true, and makes texts lower case.
type checker struct {
	text      string
	closed    map[string][]string
	asWritten map[*ast.StringNode]string
	needs     facts
	failed    *SelectorError // the first
}

// refuse notes what is wrong with a node.
func (c *checker) refuse(n ast.Node, format string, args ...any) {
	if c.failed == nil {
		c.failed = wrong(c.text, c.offset(n.Location().From), format, args...)
	}
}

// offset makes an offset in bytes of one in characters.
func (c *checker) offset(characters int) int {
	for i := range c.text {
		if characters == 0 {
			return i
		}
		characters--
	}
	return len(c.text)
}

// Visit implements ast.Visitor.
func (c *checker) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.IdentifierNode:
		c.name(n)
	case *ast.StringNode:
		if _, ok := c.asWritten[n]; !ok {
			c.asWritten[n], n.Value = n.Value, strings.ToLower(n.Value)
		}
	case *ast.ArrayNode:
		for _, e := range n.Nodes {
			if _, ok := e.(*ast.StringNode); !ok {
				c.refuse(e, "a list here is of texts alone")
			}
		}
	case *ast.BinaryNode:
		c.binary(node, n)
	case *ast.MemberNode:
		c.member(node, n)
	case *ast.CallNode:
		c.call(n)
	case *ast.BuiltinNode:
		c.builtin(node, n)
	case *ast.UnaryNode:
		if n.Operator == "+" || n.Operator == "-" {
			c.refuse(n, "%s cannot be used in a selector", n.Operator)
		}
	case *ast.NilNode:
		c.refuse(n, `nothing is ever nil here; what is not known is ""`)
	case *ast.IntegerNode, *ast.BoolNode, *ast.PredicateNode, *ast.PointerNode, *ast.ConstantNode:
	default:
		c.refuse(n, "this cannot be used in a selector; it takes conditions joined by &&, || and !")
	}
}

// name marks a field as needed. It may be written in any case.
func (c *checker) name(n *ast.IdentifierNode) {
	v := reflect.ValueOf(&c.needs).Elem()
	for f := range v.Type().Fields() {
		name := f.Tag.Get("expr")
		if name == "" || !strings.EqualFold(name, n.Value) {
			continue
		}
		n.Value = name
		switch at := v.FieldByIndex(f.Index); at.Interface().(type) {
		case string:
			at.SetString("x")
		case []string:
			at.Set(reflect.ValueOf([]string{}))
		case time.Time:
			at.Set(reflect.ValueOf(time.Unix(0, 0)))
		}
		return
	}
	if strings.EqualFold(n.Value, "labels") {
		return // member and binary make something else of it
	}
	if c.failed != nil {
		return
	}
	c.refuse(n, "no field %q%s", n.Value, meant(n.Value, append(SelectorFields(), functions...)))
	c.failed.There = fmt.Sprintf("the fields are %s and labels.NAME\n  the functions are %s", strings.Join(SelectorFields(), ", "), strings.Join(functions, ", "))
}

func isLabels(n ast.Node) bool {
	id, ok := n.(*ast.IdentifierNode)
	return ok && strings.EqualFold(id.Value, "labels")
}

// askLabel puts the value of a label in the place of a node.
func askLabel(at ast.Node, key ast.Node) ast.Node {
	n := &ast.CallNode{Callee: &ast.IdentifierNode{Value: "label"}, Arguments: []ast.Node{key}}
	n.SetLocation(at.Location())
	n.Callee.SetLocation(at.Location())
	n.SetType(reflect.TypeFor[string]())
	return n
}

// member is labels.x, and nothing else.
func (c *checker) member(node *ast.Node, n *ast.MemberNode) {
	key, ok := n.Property.(*ast.StringNode)
	if !ok || !isLabels(n.Node) {
		c.refuse(n.Property, `only labels have parts, as labels.owner or labels["asset tag"]; of a list write any(mac, # == "…")`)
		return
	}
	*node = askLabel(n, key)
}

// binary checks an operator by what stands beside it.
func (c *checker) binary(node *ast.Node, n *ast.BinaryNode) {
	left, right := n.Left.Type().Kind(), n.Right.Type().Kind()
	switch n.Operator {
	case "&&", "||", "and", "or", "contains", "startsWith", "endsWith":
	case "==", "!=":
		if (left == reflect.Slice) != (right == reflect.Slice) {
			c.refuse(n, `one side is a list: write "redfish" in ways, or tier in ["low", "normal"]`)
		}
		c.values(n.Left, n.Right)
		c.values(n.Right, n.Left)
	case "in":
		if isLabels(n.Right) {
			b := &ast.BinaryNode{Operator: "!=", Left: askLabel(n.Right, n.Left), Right: &ast.StringNode{}}
			b.Right.SetLocation(n.Location())
			b.SetType(reflect.TypeFor[bool]())
			ast.Patch(node, b)
			return
		}
		c.values(n.Left, n.Right)
		c.values(n.Right, n.Left)
	case "<", "<=", ">", ">=":
		if left == reflect.String || right == reflect.String {
			c.refuse(n, `texts have no order; name those that are meant: tier in ["dependency", "critical"]`)
		}
	case "matches":
		pattern, ok := n.Right.(*ast.StringNode)
		if !ok {
			c.refuse(n.Right, "a pattern has to stand here as a text")
			return
		}
		pattern.Value = "(?i)" + c.asWritten[pattern]
		if _, err := regexp.Compile(c.asWritten[pattern]); err != nil {
			c.refuse(pattern, "%v", err)
		}
	default:
		c.refuse(n, "%s cannot be used in a selector", n.Operator)
	}
}

// values refuses texts beside a field that never has them.
func (c *checker) values(field, beside ast.Node) {
	id, ok := field.(*ast.IdentifierNode)
	if !ok {
		return
	}
	known, ok := c.closed[id.Value]
	if !ok {
		return
	}
	texts := []ast.Node{beside}
	if list, ok := beside.(*ast.ArrayNode); ok {
		texts = list.Nodes
	}
	for _, t := range texts {
		if s, ok := t.(*ast.StringNode); ok && !slices.Contains(known, s.Value) {
			c.refuse(s, "no %s is called %q; it is one of %s", strings.TrimSuffix(id.Value, "s"), c.asWritten[s], listed(known))
		}
	}
}

func listed(values []string) string {
	shown := slices.Clone(values)
	for i, v := range shown {
		if v == "" {
			shown[i] = `""`
		}
	}
	return strings.Join(shown, ", ")
}

// call checks the patterns of our functions.
func (c *checker) call(n *ast.CallNode) {
	callee, ok := n.Callee.(*ast.IdentifierNode)
	if !ok || callee.Value == "label" || len(n.Arguments) != 2 {
		return
	}
	pattern, ok := n.Arguments[1].(*ast.StringNode)
	if !ok {
		c.refuse(n.Arguments[1], "a pattern has to stand here as a text")
		return
	}
	switch callee.Value {
	case "like":
		if _, err := path.Match(pattern.Value, ""); err != nil {
			c.refuse(pattern, "%q is not a pattern: a [ is not closed", c.asWritten[pattern])
		}
	case "subnet":
		if _, err := netip.ParsePrefix(pattern.Value); err != nil {
			c.refuse(pattern, "%q is not a network; write 10.1.0.0/16", c.asWritten[pattern])
		}
	}
}

// builtin makes a time of date("…").
func (c *checker) builtin(node *ast.Node, n *ast.BuiltinNode) {
	if n.Name != "date" {
		return
	}
	var text *ast.StringNode
	if len(n.Arguments) == 1 {
		text, _ = n.Arguments[0].(*ast.StringNode)
	}
	if text != nil {
		for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02 15:04", time.DateOnly} {
			if at, err := time.Parse(layout, c.asWritten[text]); err == nil {
				constant := &ast.ConstantNode{Value: at}
				constant.SetType(reflect.TypeFor[time.Time]())
				ast.Patch(node, constant)
				return
			}
		}
	}
	c.refuse(n, `date takes one time as a text: date("2024-07-19T04:09:00Z"), or date("2024-07-19") for 00:00 UTC`)
}
