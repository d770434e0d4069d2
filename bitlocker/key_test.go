package bitlocker_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"unbrick/bitlocker"
)

// The two keys that Microsoft prints in its article on the recovery process.
const (
	sample  = "496298-461032-321464-595518-463221-173943-033616-139579"
	sample2 = "158422-038236-492536-574783-256300-205084-114356-069773"
)

func TestParseKey(t *testing.T) {
	wide := strings.NewReplacer("0", "０", "1", "１", "2", "２", "3", "３", "4", "４", "5", "５", "6", "６", "7", "７", "8", "８", "9", "９", "-", "－")
	arabic := strings.NewReplacer("0", "٠", "1", "١", "2", "٢", "3", "٣", "4", "٤", "5", "٥", "6", "٦", "7", "٧", "8", "٨", "9", "٩")
	persian := strings.NewReplacer("0", "۰", "1", "۱", "2", "۲", "3", "۳", "4", "۴", "5", "۵", "6", "۶", "7", "۷", "8", "۸", "9", "۹")
	for _, test := range []struct{ name, text string }{
		{"as printed", sample},
		{"digits alone", strings.ReplaceAll(sample, "-", "")},
		{"four rows of twelve", "496298461032 321464595518\n463221173943\t033616139579\r\n"},
		{"a line break inside a group", "496298-461032-321464-59\n5518-463221-173943-033616-139579"},
		{"spaces beside hyphens", strings.ReplaceAll(sample, "-", " - ")},
		{"no-break spaces", strings.ReplaceAll(sample, "-", "\u00a0")},
		{"narrow and figure spaces", strings.ReplaceAll(sample, "-", "\u202f\u2007")},
		{"no-break hyphens", strings.ReplaceAll(sample, "-", "\u2011")},
		{"en dashes", strings.ReplaceAll(sample, "-", "–")},
		{"horizontal bars", strings.ReplaceAll(sample, "-", "―")},
		{"minus signs", strings.ReplaceAll(sample, "-", "−")},
		{"soft hyphens", strings.ReplaceAll(sample, "-", "\u00ad")},
		{"direction marks of a Windows dialog", "\u200e" + sample + "\u200f\r\n"},
		{"byte order mark", "\ufeff" + sample},
		{"full width", wide.Replace(sample)},
		{"Arabic-Indic", arabic.Replace(sample)},
		{"Persian", persian.Replace(sample)},
		{"text mark of a spreadsheet", "'" + sample},
		{"text mark, typographic", " ’" + sample},
	} {
		t.Run(test.name, func(t *testing.T) {
			key, err := bitlocker.ParseKey(test.text)
			if err != nil {
				t.Fatal(err)
			}
			if key.Reveal() != sample {
				t.Error("it is another key afterwards")
			}
		})
	}
}

func TestParseKeyRefuses(t *testing.T) {
	replace := func(group int, with string) string {
		g := strings.Split(sample, "-")
		g[group-1] = with
		return strings.Join(g, "-")
	}
	const (
		multiple = "is not a multiple of 11 (mistyped or misread)"
		large    = "is too large for any key (mistyped or misread)"
		foreign  = "has a character that is neither a digit nor a separator"
		zeros    = "has lost its leading zeros, as spreadsheets do: export the column as text"
		science  = "was turned into scientific notation by a spreadsheet, its digits are lost: export the column as text"
		rounded  = "was rounded to 15 digits by a spreadsheet, the rest is lost: export the column as text"
	)
	for _, test := range []struct {
		name, text string
		group      int
		reason     string
	}{
		{"empty", "", 0, "is empty"},
		{"space", " \t\u00a0\r\n", 0, "is empty"},
		{"apostrophe alone", "'", 0, "is empty"},
		{"no digit", "---", 0, "has 0 digits, not 48"},
		{"words", "System.Object[]", 1, foreign},
		{"Graph reference sample", "123456-231453-445266-332113-454263-665454-114563-445642", 1, multiple},
		{"repair-bde sample", "111111-222222-333333-444444-555555-666666-777777-888888", 7, large},
		{"barcode project sample", replace(1, "002130"), 1, multiple},
		{"last group", replace(8, "139578"), 8, multiple},
		{"first too large", replace(3, "720896"), 3, large},
		{"largest", replace(3, "999999"), 3, large},
		{"letter O", replace(2, "46lO32"), 2, foreign},
		{"plus signs of a scanner", strings.ReplaceAll(sample, "-", "+"), 2, foreign},
		{"one digit left out", replace(4, "59551"), 4, "has 5 digits, not 6"},
		{"one digit twice", replace(4, "5955188"), 4, "has 7 digits, not 6"},
		{"one left out, one twice", strings.Replace(replace(4, "59551"), "173943", "1739433", 1), 4, "has 5 digits, not 6"},
		{"seven groups", sample[:48], 0, "has 42 digits, not 48"},
		{"nine groups", sample + "-139579", 0, "has 54 digits, not 48"},
		{"one left out, no hyphens", strings.ReplaceAll(sample, "-", "")[1:], 0, "has 47 digits, not 48"},
		{"group lost a zero", replace(7, "33616"), 7, zeros},
		{"group lost four zeros", replace(5, "22"), 5, zeros},
		{"number lost its zeros", strings.ReplaceAll(replace(1, "002134"), "-", "")[2:], 0, zeros},
		{"scientific", "4.96298E+47", 0, science},
		{"scientific, comma", "4,96298461032321E+47", 0, science},
		{"scientific, no fraction", "5e47", 0, science},
		{"scientific, text mark", "'4.96298E+47", 0, science},
		{"rounded, and every group checks", "496298461032321200" + strings.Repeat("0", 30), 0, rounded},
		{"zeros", "000000-000000-000000-000000-000000-000000-000000-000000", 0, "is all zeros: a placeholder"},
	} {
		t.Run(test.name, func(t *testing.T) {
			key, err := bitlocker.ParseKey(test.text)
			var bad *bitlocker.KeyError
			if !errors.As(err, &bad) {
				t.Fatalf("error %v, want a *KeyError", err)
			}
			if bad.Group != test.group || bad.Reason != test.reason {
				t.Errorf("group %d %s; want group %d %s", bad.Group, bad.Reason, test.group, test.reason)
			}
			if !key.IsZero() {
				t.Error("there is a key beside the error")
			}
		})
	}
}

func TestKey(t *testing.T) {
	key, err := bitlocker.ParseKey(sample)
	if err != nil {
		t.Fatal(err)
	}
	other, err := bitlocker.ParseKey(sample2)
	if err != nil {
		t.Fatal(err)
	}
	var none bitlocker.Key
	if !key.Equal(bitlocker.NewKey(key.Bytes())) || key.Equal(other) || key.Equal(none) || none.Equal(key) || !none.Equal(none) {
		t.Error("keys are equal when their bytes are, and only then")
	}
	// 496298 / 11 is 45118, 0xb03e: the first two bytes, low one first.
	if b := key.Bytes(); b[0] != 0x3e || b[1] != 0xb0 {
		t.Error("the bytes are not little-endian elevenths of the groups")
	}
	if !none.IsZero() || none.Reveal() != "" || none.Bytes() != [16]byte{} || !bitlocker.NewKey([16]byte{}).IsZero() {
		t.Error("the zero Key is a key")
	}
	b := key.Bytes()
	b[0]++
	if key.Reveal() != sample {
		t.Error("a key changes with the bytes it gave out")
	}
}

// The largest and smallest groups, and zeros in front, survive.
func TestRevealEdges(t *testing.T) {
	for _, text := range []string{
		"720885-720885-720885-720885-720885-720885-720885-720885",
		"000011-000000-000022-000000-000000-000000-000000-720885",
		"000000-000000-000000-000000-000000-000000-000000-000011",
	} {
		key, err := bitlocker.ParseKey(text)
		if err != nil {
			t.Error(err)
		} else if key.Reveal() != text {
			t.Errorf("%s comes out as another key", text)
		}
	}
}

// reasons matches every reason there is. The only numbers in them are limits and counts.
var reasons = regexp.MustCompile(`^(is empty|is not a multiple of 11 \(mistyped or misread\)|is too large for any key \(mistyped or misread\)|` +
	`has a character that is neither a digit nor a separator|is all zeros: a placeholder|has \d+ digits, not (6|48)|` +
	`(has lost its leading zeros, as spreadsheets do|was turned into scientific notation by a spreadsheet, its digits are lost|` +
	`was rounded to 15 digits by a spreadsheet, the rest is lost): export the column as text)$`)

// The laws: whatever parses is revealed as a text that gives an equal key; and the error for
// what does not parse depends on no digit, beyond how many there are and which group it is.
func FuzzParseKey(f *testing.F) {
	for _, s := range []string{sample, sample2, "'" + sample, strings.ReplaceAll(sample, "-", "\u2011"), "4.96298E+47", "٤٩٦２９８", "\u200e-", sample[:40]} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		key, err := bitlocker.ParseKey(s)
		if err != nil {
			var bad *bitlocker.KeyError
			if !errors.As(err, &bad) || bad.Group < 0 || bad.Group > 8 {
				t.Fatalf("error %v", err)
			}
			if !reasons.MatchString(bad.Reason) {
				t.Fatalf("reason %q is none of those that say nothing of the digits", bad.Reason)
			}
			return
		}
		again, err := bitlocker.ParseKey(key.Reveal())
		if err != nil || !again.Equal(key) {
			t.Fatalf("its own digits do not give the key again: %v", err)
		}
	})
}

func TestKeyID(t *testing.T) {
	const text = "4290B6C0-B17A-497A-8552-272CC30E80D4"
	for _, s := range []string{text, "{" + text + "}", strings.ToLower(text), " {" + strings.ToLower(text) + "}\n"} {
		id, err := bitlocker.ParseKeyID(s)
		if err != nil || id.String() != text || id.IsZero() {
			t.Errorf("%q: %v, %v", s, id, err)
		}
	}
	for _, s := range []string{"", "5290B6C0", "{" + text, strings.ReplaceAll(text, "-", ""), text + "-", "4290B6C0-B17A-497A-8552-272CC30E80DG",
		"4290B6C0B-17A-497A-8552-272CC30E80D4", sample} {
		if _, err := bitlocker.ParseKeyID(s); err == nil {
			t.Errorf("%q is taken for a key id", s)
		} else if s != "" && strings.Contains(err.Error(), s) {
			t.Errorf("the error repeats %q: it may be a key in the wrong column", s)
		}
	}
}
