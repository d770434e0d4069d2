package hyperv

import (
	"slices"
	"strings"
	"testing"
)

// Whatever a text is, the literal made of it ends where it ends: taken apart as PowerShell
// does, with every character that it takes for a single quote, it gives the text again.
func FuzzQuote(f *testing.F) {
	for _, text := range []string{"", "a", "O'Neil's", "x'; Stop-Computer; '", "\u2019; Stop-Computer; \u2018", "$(Stop-Computer)`n", "a\r\nb", "\u201a\u201b''"} {
		f.Add(text)
	}
	const quotes = "'\u2018\u2019\u201a\u201b"
	f.Fuzz(func(t *testing.T, text string) {
		if strings.ToValidUTF8(text, "") != text {
			return // PowerShell gets UTF-8 alone
		}
		runes := []rune(quote(text))
		var got []rune
		i := 1
		for ; i < len(runes); i++ {
			if strings.ContainsRune(quotes, runes[i]) {
				if i+1 == len(runes) || !strings.ContainsRune(quotes, runes[i+1]) {
					break // the end
				}
				i++
			}
			got = append(got, runes[i])
		}
		if i != len(runes)-1 || string(got) != text {
			t.Errorf("%q became %q, which is %q and ends at %d of %d", text, string(runes), string(got), i, len(runes))
		}
	})
}

func TestParseAddress(t *testing.T) {
	for text, want := range map[string]address{
		"hv1/WS-0001":                   {"hv1", "WS-0001", ""},
		"hv1.corp:5985/Web%2FServer 1x": {"hv1.corp:5985", "Web/Server 1x", ""},
		"hv1/WS-0001?disk=scsi:0:12":    {"hv1", "WS-0001", "SCSI:0:12"},
	} {
		got, err := parseAddress(text)
		if strings.Contains(text, "%2F") { // no name of a virtual machine that a path could be
			if err == nil {
				t.Errorf("%s: %+v", text, got)
			}
			continue
		}
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"": "no address", "hv1": "no address", "hv1/": "no address", "/WS": "no address", "hv1/a/b": "no address", "https://hv1/a": "no address",
		"root@hv1/a": "no address", "hv1/a?disk=SCSI:0:64": "no place", "hv1/a?disk=IDE:2:0": "no place",
	} {
		if _, err := parseAddress(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestReorder(t *testing.T) {
	e := func(text string) (all []entry) {
		for _, c := range text {
			all = append(all, entry{"Drive", string(c)})
		}
		return all
	}
	for _, c := range []struct {
		is, was string
		want    []int
	}{
		{"abc", "abc", nil}, {"bca", "abc", []int{2, 0, 1}}, {"ab", "abc", nil}, {"ba", "abc", []int{1, 0}}, {"bdca", "abc", []int{3, 0, 2, 1}}, {"", "abc", nil}, {"abcd", "abc", nil},
	} {
		if got := reorder(e(c.is), e(c.was)); !slices.Equal(got, c.want) {
			t.Errorf("%s was %s: %v, want %v", c.is, c.was, got, c.want)
		}
	}
}
