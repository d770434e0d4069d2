package ansible

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/goccy/go-yaml"
)

// readINI reads the INI form: [group], [group:children], [group:vars], and lines of a name with
// variables behind it.
func (b *book) readINI(text string) {
	section, kind, n := "ungrouped", "", 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		if line[0] == '[' {
			name, rest, ok := strings.Cut(line[1:], "]")
			name, k, _ := strings.Cut(name, ":")
			rest = strings.TrimSpace(rest)
			if !ok || name == "" || rest != "" && rest[0] != '#' || k != "" && k != "children" && k != "vars" && k != "hosts" {
				b.refuse(n, line, "not a section; write [group], [group:children] or [group:vars]")
				kind = "skip" // whose lines these are, nobody knows
				continue
			}
			section, kind = name, k
			b.group(section)
			continue
		}
		switch kind {
		case "skip":
			b.refuse(n, firstWord(line), "below a section that cannot be read")
		case "children":
			child := firstWord(line)
			b.group(section).children = append(b.group(section).children, child)
			b.group(child)
		case "vars":
			key, value, ok := strings.Cut(line, "=")
			if !ok {
				b.refuse(n, firstWord(line), "not a variable; write name=value")
				continue
			}
			b.group(section).vars[strings.TrimSpace(key)] = plain(strings.TrimSpace(value))
		default:
			b.hostLine(section, line, n)
		}
	}
}

func firstWord(line string) string {
	word, _, _ := strings.Cut(line, " ")
	return word
}

// hostLine reads "pc[01:50]:5986 ansible_host=10.0.0.1 note='a b' # comment".
func (b *book) hostLine(section, line string, n int) {
	words, err := split(line)
	if err != nil {
		b.refuse(n, firstWord(line), err.Error())
		return
	}
	vars := map[string]string{}
	for _, w := range words[1:] {
		key, value, ok := strings.Cut(w, "=")
		if !ok {
			b.refuse(n, words[0], "behind the name only name=value may stand")
			return
		}
		vars[key] = value
	}
	name := words[0]
	tail := name[strings.LastIndex(name, "]")+1:]
	if strings.Count(tail, ":") == 1 { // more of them are an IPv6 address
		i := strings.LastIndex(name, ":")
		name, vars["ansible_port"] = name[:i], name[i+1:]
	}
	b.host(section, name, vars, n)
}

// split takes a line apart at spaces, as a shell does, up to a comment.
func split(line string) (words []string, err error) {
	var word strings.Builder
	quote, inside := rune(0), false
	flush := func() {
		if inside {
			words = append(words, word.String())
		}
		word.Reset()
		inside = false
	}
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '"' || r == '\''):
			quote, inside = r, true
		case quote == 0 && unicode.IsSpace(r):
			flush()
		case quote == 0 && r == '#' && !inside:
			return words, nil
		default:
			word.WriteRune(r)
			inside = true
		}
	}
	flush()
	if quote != 0 {
		return nil, errors.New("a quote is not closed")
	}
	if len(words) == 0 {
		return nil, errors.New("no name")
	}
	return words, nil
}

// plain takes the quotes away from a value.
func plain(v string) string {
	if len(v) >= 2 && (v[0] == '"' || v[0] == '\'') && v[len(v)-1] == v[0] {
		return v[1 : len(v)-1]
	}
	return v
}

// readYAML reads the YAML form: groups with hosts, vars and children.
func (b *book) readYAML(text []byte) error {
	var top yaml.MapSlice
	if yaml.UnmarshalWithOptions(text, &top, yaml.UseOrderedMap()) != nil { // its words would quote the file
		return errors.New("it is not YAML as an inventory has it: groups with hosts, vars and children")
	}
	for _, item := range top {
		if err := b.yamlGroup(fmt.Sprint(item.Key), item.Value, 0); err != nil {
			return err
		}
	}
	return nil
}

// yamlGroup reads one group.
func (b *book) yamlGroup(name string, value any, depth int) error {
	g := b.group(name)
	if value == nil {
		return nil
	}
	body, ok := value.(yaml.MapSlice)
	if !ok || depth > 50 {
		return fmt.Errorf("group %.60q has neither hosts nor vars nor children", name)
	}
	for _, item := range body {
		inner, ok := item.Value.(yaml.MapSlice)
		if !ok && item.Value != nil {
			return fmt.Errorf("%v of group %.60q is not a mapping", item.Key, name)
		}
		for _, one := range inner {
			key := fmt.Sprint(one.Key)
			switch item.Key {
			case "vars":
				g.vars[key] = scalar(one.Value)
			case "children":
				g.children = append(g.children, key)
				if err := b.yamlGroup(key, one.Value, depth+1); err != nil {
					return err
				}
			case "hosts":
				vars := map[string]string{}
				of, _ := one.Value.(yaml.MapSlice)
				for _, v := range of {
					vars[fmt.Sprint(v.Key)] = scalar(v.Value)
				}
				b.host(name, key, vars, 0)
			}
		}
	}
	return nil
}

// scalar returns a value that is one text or number, and nothing of any other.
func scalar(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case bool, int, int64, uint64, float64:
		return fmt.Sprint(v)
	}
	return ""
}
