package inventory

import (
	"path"
	"slices"
	"strconv"
	"strings"
)

// The selectors of before: "site=SYD,MEL tier=critical name=SYD-*". They are translated.

// termFields are the fields that a term may name.
var termFields = []string{"name", "site", "country", "region", "tier", "group"}

// isTerms says whether a selector is of the old form: its first word has a single = after
// letters. No expression begins so.
func isTerms(s string) bool {
	s = strings.TrimLeft(s, " \t")
	i := strings.IndexFunc(s, func(r rune) bool { return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') })
	return i >= 0 && s[i] == '=' && !strings.HasPrefix(s[i:], "==")
}

// translate makes an expression of terms.
func translate(s string) (string, *SelectorError) {
	var terms []string
	for at := 0; at < len(s); {
		if s[at] == ' ' || s[at] == '\t' {
			at++
			continue
		}
		end := at
		for end < len(s) && s[end] != ' ' && s[end] != '\t' {
			end++
		}
		term, off, reason := translateTerm(s[at:end])
		if reason != "" {
			return "", wrong(s, at+off, "%s", reason)
		}
		terms = append(terms, term)
		at = end
	}
	return strings.Join(terms, " && "), nil
}

// translateTerm reads "field=value,value". A reason says what is wrong at offset off.
func translateTerm(s string) (term string, off int, reason string) {
	field, values, ok := strings.Cut(s, "=")
	if !ok {
		return "", 0, strconv.Quote(s) + ` has no =; write field=value, or an expression such as site == "SYD" && tier == "low"`
	}
	ours := strings.ToLower(field)
	if !slices.Contains(termFields, ours) {
		reason = "no field " + strconv.Quote(field) + "; in this form it is one of " + strings.Join(termFields, ", ")
		if slices.Contains(SelectorFields(), ours) {
			reason += "; write " + ours + ` == "…" for others`
		}
		return "", 0, reason
	}
	var plain, alternatives []string
	off = len(field) + 1
	for v := range strings.SplitSeq(values, ",") {
		if v == "" {
			return "", off, "a value is missing"
		}
		if _, err := path.Match(v, ""); err != nil {
			return "", off, strconv.Quote(v) + " is not a pattern: a [ is not closed"
		}
		if !strings.ContainsAny(v, `*?[\`) {
			if _, err := ParseTier(v); ours == "tier" && err != nil {
				return "", off, err.Error()
			}
			plain = append(plain, strconv.Quote(v))
		} else {
			alternatives = append(alternatives, "like("+ours+", "+strconv.Quote(v)+")")
		}
		off += len(v) + 1
	}
	if len(plain) > 0 {
		alternatives = append(alternatives, ours+" in ["+strings.Join(plain, ", ")+"]")
	}
	return "(" + strings.Join(alternatives, " || ") + ")", 0, ""
}
