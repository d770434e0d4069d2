package inventory_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"unbrick/inventory"
)

// sydney is a host with something in every field.
func sydney() inventory.Host {
	return inventory.Host{
		Name: "SYD-PC-01", Serial: "ABC123", UUID: "4c4c4544-0044-3510-8052-b4c04f4d3132", MAC: []string{"52:54:00:12:34:56", "52:54:00:12:34:57"},
		Address: "10.1.2.3:5986", Site: "New York", Country: "US", Region: "A/B", TimeZone: "America/New_York", Opens: "08:00", Technician: "Zoë",
		Tier: inventory.Critical, Group: "", Routes: []inventory.Route{{Driver: "redfish", Address: "x"}, {Driver: "winrm", Address: "y"}},
		Labels:    map[string]string{"Owner": "Finance & Co", "asset tag": "A 17", "model": "Latitude 7440", "manufacturer": "Dell Inc.", "affected": "likely"},
		From:      []inventory.Origin{{Source: "netbox", Seen: time.Date(2024, 7, 19, 4, 30, 0, 0, time.UTC)}, {Source: "falcon"}},
		Conflicts: []inventory.Conflict{{Field: "site"}},
	}
}

func TestSelector(t *testing.T) {
	h := sydney()
	for s, want := range map[string]bool{
		`site == "new york" && tier == "CRITICAL"`:                                true,
		`name == 'syd-pc-01'`:                                                     true,
		`name != "SYD-pc-01"`:                                                     false,
		`site in ["SYD", "NEW YORK"]`:                                             true,
		`site not in ["SYD", "NEW YORK"]`:                                         false,
		`tier in ["dependency", "critical"] and not false`:                        true,
		`name matches "^SYD-\\w+-\\d\\d$"`:                                        true,
		`name matches "^\\S+$" && !(name matches "^\\D+$")`:                       true,
		`name startsWith "Syd" && name endsWith "01"`:                             true,
		`name contains "pc"`:                                                      true,
		`like(name, "SYD-*")`:                                                     true,
		`like(name, "SYD-PC-0[2-9]")`:                                             false,
		`like(region, "a*") && region == "a/b"`:                                   true,
		`"RedFish" in ways`:                                                       true,
		`!("amt" in ways) && len(ways) == 2`:                                      true,
		`any(mac, # startsWith "52:54:00")`:                                       true,
		`all(mac, like(#, "52:54:*:56"))`:                                         false,
		`count(mac, # contains "5") == 2`:                                         true,
		`labels.owner == "finance & co"`:                                          true,
		`labels["ASSET TAG"] == "a 17"`:                                           true,
		`"owner" in labels && !("cost centre" in labels)`:                         true,
		`"OWNER" not in labels`:                                                   false,
		`labels.none == ""`:                                                       true,
		`label("Owner") matches "^fin"`:                                           true,
		`model contains "LATITUDE" && vendor startsWith "d"`:                      true,
		`affected == "likely" && state == "in-use"`:                               true,
		`os == "" && group == ""`:                                                 true,
		`seen >= date("2024-07-19T04:09:00Z")`:                                    true,
		`seen < date("2024-07-19")`:                                               false,
		`seen > date("2024-07-19 04:29")`:                                         true,
		`subnet(address, "10.1.0.0/16")`:                                          true,
		`subnet(address, "10.2.0.0/16")`:                                          false,
		`subnet(name, "10.2.0.0/16")`:                                             false,
		`"Falcon" in sources && "site" in conflicts`:                              true,
		`technician == "ZOË" && timezone == "america/new_york"`:                   true,
		`lower(name) == "syd-pc-01" && trim(opens) == "08:00"`:                    true,
		"// the first ones\nsite == \"New York\" /* and */ &&\n\tcountry == 'us'": true,
		`Name == "syd-pc-01" && "winrm" in WAYS && Labels.Owner contains "fin" && Seen > date("2024-01-01") && Tier != "low"`: true,
		`true`: true,
		`serial == "abc123" && uuid startsWith "4C4C"`: true,

		"name=SYD-PC-01": true, "name=syd-*": true, "name=syd": false, "name=a,b,syd-pc-0?": true,
		"site=new?york": true, "SITE=New*": true, "country=us tier=critical": true, "country=us tier=low": false,
		" tier=crit*,low  name=* ": true, "group=*": true, "group=x": false, "region=a*": true, "region=a/b": true,
		"name=[r-t]yd-pc-01": true,
	} {
		sel, err := inventory.ParseSelector(s)
		if err != nil {
			t.Errorf("%s: %v", s, err)
		} else if sel.Match(h) != want {
			t.Errorf("%s: %v, want %v", s, !want, want)
		}
	}
}

func TestSelectorNothingKnown(t *testing.T) {
	for _, s := range []string{
		`state == "in-use" && tier == "normal" && affected == ""`, `seen < date("2024-01-01")`, `address == "pc1" && name == address`,
		`len(mac) == 0 && len(ways) == 0 && none(sources, true)`, `!("owner" in labels) && labels.owner == ""`,
	} {
		sel, err := inventory.ParseSelector(s)
		if err != nil || !sel.Match(inventory.Host{Name: "PC1", Tier: inventory.Normal}) {
			t.Errorf("%s does not pick a host of which only the name is known: %v", s, err)
		}
	}
	retired, err := inventory.ParseSelector(`state == "retired"`)
	if err != nil || !retired.Match(inventory.Host{State: inventory.Retired}) || retired.Match(inventory.Host{}) {
		t.Errorf("retired: %v", err)
	}
}

func TestSelectorErrors(t *testing.T) {
	for s, want := range map[string]string{
		"":                                  `line 1, column 1: it selects nothing`,
		"   ":                               `line 1, column 1: it selects nothing`,
		"SYD":                               `line 1, column 1: no field "SYD"`,
		`site == "SYD" && stie == "MEL"`:    `line 1, column 18: no field "stie"; is site meant?`,
		"site == \"ä\" &&\n stie == \"x\"":  `line 2, column 2: no field "stie"`,
		`site == "ä" && stie == "MEL"`:      `line 1, column 16: no field "stie"`,
		`grup == "x"`:                       `no field "grup"; is group meant?`,
		`colour == "x"`:                     "colour == \"x\"\n    ^\n  the fields are name, serial",
		`site = "SYD"`:                      `line 1, column 6: values are compared by ==`,
		`site == "SYD" &&`:                  `line 1, column 17: something is missing at the end`,
		`site == "SYD`:                      `line 1, column 13: literal not terminated`,
		`(site == "SYD"`:                    `line 1, column 15: something is missing at the end`,
		`name`:                              `line 1, column 1: it has to be true or false for a host, and is a string`,
		`tier == "critcal"`:                 `line 1, column 9: no tier is called "critcal"; it is one of dependency, critical, normal, low`,
		`"Urgent" != tier`:                  `line 1, column 1: no tier is called "Urgent"`,
		`state in ["retired", "gone"]`:      `line 1, column 22: no state is called "gone"; it is one of in-use`,
		`!("redfsh" in ways)`:               `line 1, column 3: no way is called "redfsh"`,
		`ways == "redfish"`:                 `one side is a list: write "redfish" in ways`,
		`tier <= "critical"`:                `texts have no order`,
		`name matches "["`:                  `line 1, column 14: error parsing regexp`,
		`name matches site`:                 `line 1, column 14: a pattern has to stand here`,
		`like(name, "[a")`:                  `line 1, column 12: "[a" is not a pattern`,
		`like(name, site)`:                  `line 1, column 12: a pattern has to stand here`,
		`like(name)`:                        `not enough arguments to call like`,
		`subnet(address, "10.1")`:           `line 1, column 17: "10.1" is not a network`,
		`seen > date("yesterday")`:          `date takes one time as a text`,
		`seen > now()`:                      `line 1, column 8: no field "now"`,
		`seen == ""`:                        `mismatched types time.Time and string`,
		`upper(name) == "A"`:                `no field "upper"`,
		`mac[0] == "x"`:                     `line 1, column 5: only labels have parts`,
		`name.x == "x"`:                     `only labels have parts`,
		`labels == "x"`:                     `say which label: labels.owner`,
		`group == nil`:                      `line 1, column 10: nothing is ever nil here`,
		`len(mac) + 1 == 2`:                 `+ cannot be used in a selector`,
		`let x = 1; true`:                   `this cannot be used in a selector`,
		`name in [site]`:                    `a list here is of texts alone`,
		`true; false`:                       `this cannot be used in a selector`,
		`$env.name == "x"`:                  `no field "$env"`,
		"site == \"a\xff\"":                 `line 1, column 11: a character that is not UTF-8`,
		strings.Repeat(" ", 256<<10) + "x":  `longer than 256 KiB`,
		strings.Repeat("!", 30000) + "true": `more than 25000 parts`,

		"site=SYD  stie=MEL":        `line 1, column 11: no field "stie"; in this form it is one of name, site`,
		"site=SYD serial=1":         `write serial == "…" for others`,
		"site=A,,B":                 `column 8: a value is missing`,
		"site=":                     `column 6: a value is missing`,
		"name=a tier=low,high":      `column 17: no tier "high"`,
		"name=[a":                   `column 6: "[a" is not a pattern`,
		"=x":                        `column 1: no field ""`,
		"site=SYD && tier=critical": `column 10: "&&" has no =`,
	} {
		_, err := inventory.ParseSelector(s)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: got %v, want %s", s, err, want)
		}
	}
}

func TestSelectorMarks(t *testing.T) {
	_, err := inventory.ParseSelector("country == \"AU\" &&\n\tstie == \"SYD\"")
	const want = "\n     stie == \"SYD\"\n     ^\n  the fields are name, "
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v\nwant in it %s", err, want)
	}
	_, err = inventory.ParseSelector(`name in ["` + strings.Repeat(`x", "`, 500) + `"] && nome == "x"`)
	if err == nil || len(err.Error()) > 1200 || !strings.Contains(err.Error(), "nome") {
		t.Errorf("a long line is shown as %v", err)
	}
}

// TestSelectorTogether: one selector, many goroutines, hosts that differ.
func TestSelectorTogether(t *testing.T) {
	sel, err := inventory.ParseSelector(`site == "a" && "redfish" in ways && labels.owner == "x"`)
	if err != nil {
		t.Fatal(err)
	}
	yes := inventory.Host{Site: "A", Routes: []inventory.Route{{Driver: "redfish"}}, Labels: map[string]string{"owner": "X"}}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 2000 {
				if !sel.Match(yes) || sel.Match(inventory.Host{Site: "A"}) || sel.Match(inventory.Host{}) {
					t.Error("a host was taken for another one")
					return
				}
			}
		})
	}
	wg.Wait()
}

// FuzzSelector: no text panics; an error's place is inside the text; a selector that can be
// read picks exactly the hosts that its negation does not pick, so that its evaluation never fails.
func FuzzSelector(f *testing.F) {
	for _, s := range []string{
		`site == "SYD" && tier in ["critical", "low"]`, `any(mac, # matches "^5") || labels.x == "y"`, "site=SYD,MEL tier=critical", `like(name, "[a-z]*")`,
		`seen > date("2024-07-19") and subnet(address, "::/0")`, "stie == 1 \n\t\xff", `"ä" not in labels ? true : false`, `name | like("x")`,
	} {
		f.Add(s)
	}
	hosts := []inventory.Host{{}, sydney()}
	f.Fuzz(func(t *testing.T, s string) {
		sel, err := inventory.ParseSelector(s)
		if err != nil {
			var e *inventory.SelectorError
			if !errors.As(err, &e) {
				t.Fatalf("%q: %T", s, err)
			}
			lines := strings.Split(e.Text, "\n")
			if e.Line < 1 || e.Line > len(lines) || e.Column < 1 || e.Column > utf8.RuneCountInString(lines[e.Line-1])+1 {
				t.Fatalf("%q: the error is at line %d, column %d, which is not in it", s, e.Line, e.Column)
			}
			return
		}
		not, err := inventory.ParseSelector("!(" + s + "\n)")
		if err != nil {
			return // terms
		}
		for _, h := range hosts {
			if sel.Match(h) == not.Match(h) {
				t.Fatalf("%q and its negation both say %v of %q", s, sel.Match(h), h.Name)
			}
		}
	})
}

// FuzzSelectorTerms: what the old form accepts picks the same hosts as it did, and what it
// refused is refused.
func FuzzSelectorTerms(f *testing.F) {
	f.Add("site=SYD,MEL tier=critical", "SYD", "New York")
	f.Add("name=[a-z]*,\\* group=x", "*", "x")
	f.Add("region=a/* country=?", "a/b/c", "u")
	f.Fuzz(func(t *testing.T, s, a, b string) {
		first, _, _ := strings.Cut(strings.TrimLeft(s, " \t"), "=")
		old, ok := parseOld(s)
		sel, err := inventory.ParseSelector(s)
		if strings.Trim(first, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" || !strings.Contains(s, "=") || strings.Contains(s, "==") ||
			!utf8.ValidString(s) || !utf8.ValidString(a+b) || len(s) > 10000 {
			return
		}
		if ok != (err == nil) {
			t.Fatalf("%q: read before: %v, now: %v", s, ok, err)
		}
		for _, h := range []inventory.Host{{}, sydney(), {Name: a, Site: b}, {Name: b, Region: a, Country: b, Group: a, Tier: inventory.Low}} {
			if ok && old.Match(h) != sel.Match(h) {
				t.Fatalf("%q picks %+v: before %v, now %v", s, h, old.Match(h), sel.Match(h))
			}
		}
	})
}

// BenchmarkSelector is a match, a million hosts in one round of each form.
func BenchmarkSelector(b *testing.B) {
	hosts := make([]inventory.Host, 1000)
	for i := range hosts {
		hosts[i] = inventory.Host{Name: fmt.Sprintf("SYD-PC-%04d", i), Site: []string{"SYD", "MEL", "AKL"}[i%3], Tier: inventory.Tier(i % 4),
			Routes: []inventory.Route{{Driver: "redfish"}}, Labels: map[string]string{"owner": "Finance"}}
	}
	million := func(b *testing.B, match func(inventory.Host) bool) {
		for b.Loop() {
			n := 0
			for i := range 1_000_000 {
				if match(hosts[i%len(hosts)]) {
					n++
				}
			}
			if n == 0 || n == 1_000_000 {
				b.Fatal("the selector tells nothing apart")
			}
		}
	}
	const terms = "site=SYD,MEL tier=critical"
	old, _ := parseOld(terms)
	b.Run("before/"+terms, func(b *testing.B) { million(b, old.Match) })
	for _, s := range []string{terms, `site in ["SYD", "MEL"] && tier == "critical"`, `like(name, "SYD-PC-00*")`, `name matches "^SYD-PC-00"`,
		`"redfish" in ways && site == "SYD"`, `labels.owner == "finance" && tier == "low"`} {
		sel, err := inventory.ParseSelector(s)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(s, func(b *testing.B) { million(b, sel.Match) })
	}
}
