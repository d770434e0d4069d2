package inventory

import (
	"fmt"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/expr-lang/expr/vm"
)

// SameName says whether two names are one host's: Windows compares them without case.
func SameName(a, b string) bool { return strings.EqualFold(a, b) }

// A Selector picks hosts by an expression of yes or no, in the language of expr-lang.org:
//
//	site == "SYD" && tier in ["dependency", "critical"]
//	name matches "^SYD-" && !("redfish" in ways)
//	like(name, "SYD-*") && labels.owner contains "finance"
//	seen >= date("2024-07-19T04:09:00Z") && subnet(address, "10.1.0.0/16")
//
// Case never matters, in any comparison, nor in the names of fields and labels: Windows compares
// names so, and the systems that hosts are read from write them as they like. A host is seen
// in lower case, and texts of the expression become lower case when it is read; this leaves
// the operators as they are. For the same reason texts have no order: < is for numbers and times.
//
// The fields are those of fleet.csv; [SelectorFields] lists them. State is "in-use" where
// [Host.State] is empty; seen is the year 1 where no source says; what no source says of
// another field is "", and so is a label that the host does not have.
//
// Three things that mean nothing are refused when the selector is read, since they would pick
// no host, or by ! every host: a field that does not exist, a tier, state, likelihood or way
// in that does not exist, and a pattern that is none.
//
// The form of before is read too: terms "field=value,value" of name, site, country, region,
// tier and group, joined by spaces, where values may be patterns as like has them. It is told
// by its first word: no expression begins with a word and a single = right after it.
//
// A Selector may be used by several goroutines at once.
type Selector struct {
	program *vm.Program
	needs   facts // the fields it asks for
	pool    sync.Pool
}

// maxSelector is the longest selector in bytes: room for the names of 10,000 hosts.
const maxSelector = 256 << 10

// A SelectorError is what is wrong with a selector, and where.
type SelectorError struct {
	Text   string
	Line   int // 1-based
	Column int // 1-based, in characters; one past the last of the line if something is missing there
	Reason string
	There  string // what there is instead, if that is long
}

// Error says what is wrong and where, and marks the place in its line.
func (e *SelectorError) Error() string {
	line := []rune(strings.Split(e.Text, "\n")[e.Line-1])
	before := line[:e.Column-1]
	const width = 60 // of a long line as much as fits on a terminal
	from := max(0, len(before)-width)
	shown := line[from:min(len(line), len(before)+width)]
	mark := strings.Repeat(" ", len(before)-from) + "^"
	text := fmt.Sprintf("cannot read selector: line %d, column %d: %s\n    %s\n    %s", e.Line, e.Column, e.Reason, tidyLine(shown), mark)
	if e.There != "" {
		text += "\n  " + e.There
	}
	return text
}

// tidyLine returns a line in which every character takes one place.
func tidyLine(line []rune) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, string(line))
}

// wrong returns an error at an offset in bytes.
func wrong(text string, at int, format string, args ...any) *SelectorError {
	at = min(max(at, 0), len(text))
	before := text[:at]
	start := strings.LastIndexByte(before, '\n') + 1
	return &SelectorError{Text: text, Line: strings.Count(before, "\n") + 1,
		Column: utf8.RuneCountInString(before[start:]) + 1, Reason: fmt.Sprintf(format, args...)}
}

// ParseSelector reads a selector. The error is a *SelectorError.
func ParseSelector(s string) (*Selector, error) {
	if len(s) > maxSelector {
		return nil, wrong("", 0, "it is longer than %d KiB; put the hosts into a file of their own", maxSelector>>10)
	}
	if !utf8.ValidString(s) {
		at := 0
		for r, n := utf8.DecodeRuneInString(s); r != utf8.RuneError || n > 1; r, n = utf8.DecodeRuneInString(s[at:]) {
			at += n
		}
		return nil, wrong(strings.ToValidUTF8(s, "?"), at, "a character that is not UTF-8")
	}
	if strings.TrimSpace(s) == "" {
		return nil, wrong(s, 0, `it selects nothing; write a condition, such as site == "SYD"`)
	}
	source := s
	if isTerms(s) {
		var err *SelectorError
		if source, err = translate(s); err != nil {
			return nil, err
		}
	}
	sel, err := compile(source)
	if err != nil {
		if source != s { // the terms were checked: only their number is left
			err = wrong(s, 0, "%s", err.Reason)
		}
		return nil, err
	}
	return sel, nil
}

// Match says whether the selector picks h.
func (s *Selector) Match(h Host) bool {
	m, ok := s.pool.Get().(*matcher)
	if !ok {
		m = newMatcher()
	}
	m.facts.fill(&s.needs, &h)
	picked, err := m.vm.Run(s.program, &m.facts)
	m.facts.labels = nil
	s.pool.Put(m)
	// What can go wrong while an expression runs is refused when it is read.
	yes, _ := picked.(bool)
	return yes && err == nil
}
