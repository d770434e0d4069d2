package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"unbrick/inventory/calendar"
	"unbrick/remediate"
)

// answers are what was said, by the name of the option. A list is joined by commas.
type answers map[string]string

func (a answers) has(key, value string) bool {
	return slices.Contains(strings.Split(a[key], ","), value)
}

// A question is one line at the terminal, and one option.
type question struct {
	key  string
	ask  string
	when func(answers) bool // nil: always
	// otherwise is the answer of an empty line and of --yes. Empty means that there is none,
	// and then the answer is needed unless blank is true.
	otherwise func(answers) string
	blank     bool
	choices   []string // of which it takes one, or with many several
	many      bool
	check     func(string) (string, error) // returns the answer as it is written down
}

// is makes the condition that an answer has one of some values.
func is(key string, values ...string) func(answers) bool {
	return func(a answers) bool {
		return slices.ContainsFunc(values, func(v string) bool { return a.has(key, v) })
	}
}

func always(v string) func(answers) string { return func(answers) string { return v } }

// from takes the answer of another question over where that one was about the same system.
func from(key string, condition func(answers) bool) func(answers) string {
	return func(a answers) string {
		if condition(a) {
			return a[key]
		}
		return ""
	}
}

// questions lists them all, in order.
func questions() []question {
	entra := is("source", "intune", "entra")
	return []question{
		{key: "source", ask: "Where are your hosts listed?", choices: initKinds(), otherwise: always("csv")},
		{key: "file", ask: "Which file?", when: is("source", "csv", "ansible"), otherwise: func(a answers) string {
			return map[string]string{"csv": "fleet.csv", "ansible": "inventory.yml"}[a["source"]]
		}},
		{key: "url", ask: "At which address is it?", when: is("source", "servicenow", "netbox", "snipeit", "glpi", "falcon"), check: checkURL,
			otherwise: onlyFor("falcon", "https://api.crowdstrike.com")},
		{key: "uri", ask: "At which address is the hypervisor, as libvirt writes it?", when: is("source", "libvirt"), otherwise: always("qemu+unix:///system")},
		{key: "dc", ask: "What is a domain controller called, as in its certificate?", when: is("source", "activedirectory")},
		{key: "tenant", ask: "Which tenant (id or domain)?", when: entra},
		{key: "account", ask: "As which user, or client id, does unbrick log in there?", when: is("source", "servicenow", "falcon", "activedirectory", "intune", "entra")},

		{key: "ways", ask: "Which ways into a host that does not boot are there? (redfish is the BMC)", choices: initWays(), many: true, otherwise: always("redfish")},
		{key: "redfish-user", ask: "As which user on the BMCs?", when: is("ways", "redfish"), otherwise: always("unbrick")},
		{key: "ipmi-user", ask: "As which user by IPMI?", when: is("ways", "ipmi"), otherwise: always("unbrick")},
		{key: "amt-user", ask: "As which user of AMT?", when: is("ways", "amt"), otherwise: always("admin")},
		{key: "winrm-user", ask: "As which user of Windows, by WinRM?", when: is("ways", "winrm"), otherwise: always("Administrator")},

		{key: "keys", ask: "Where are the BitLocker recovery keys?", choices: []string{"file", "activedirectory", "entra", "vault", "configmgr", "none"}, many: true, otherwise: always("file")},
		{key: "keys-file", ask: "Which file has them (CSV: host,key_id,recovery_key)?", when: is("keys", "file"), otherwise: always("keys.csv")},
		{key: "keys-dc", ask: "Which writable domain controller has them?", when: is("keys", "activedirectory"), otherwise: from("dc", is("source", "activedirectory"))},
		{key: "keys-tenant", ask: "Which tenant has them?", when: is("keys", "entra"), otherwise: from("tenant", entra)},
		{key: "keys-client", ask: "As which application (client id)?", when: is("keys", "entra"), otherwise: from("account", entra)},
		{key: "keys-vault", ask: "At which address is Vault?", when: is("keys", "vault"), check: checkURL},
		{key: "keys-server", ask: "Which server has Configuration Manager's database?", when: is("keys", "configmgr")},
		{key: "keys-database", ask: "What is the database called?", when: is("keys", "configmgr"), otherwise: always("CM_P01")},
		{key: "keys-user", ask: "As which user does unbrick read them?", when: is("keys", "activedirectory", "configmgr"), otherwise: from("account", is("source", "activedirectory"))},

		{key: "secrets", ask: "Where will the passwords be: in files of a folder secrets, or in the environment?", choices: []string{"file", "env"}, otherwise: always("file")},
		{key: "country", ask: "In which country are sites that do not say? (two letters; empty: every site says)", blank: true, check: checkCountry},
		{key: "timezone", ask: "In which time zone?", blank: true, otherwise: guessedZone, check: checkZone},
		{key: "address", ask: "By which address do hosts reach this machine? (empty: found out)", blank: true, otherwise: func(answers) string { return ownAddress() }, check: checkAddress},
	}
}

// onlyFor is a default for one kind of source alone.
func onlyFor(kind, v string) func(answers) string {
	return func(a answers) string {
		if a["source"] == kind {
			return v
		}
		return ""
	}
}

// initWays are the ways in that this version has, in the order of the ladder; restart and manual
// come by themselves.
func initWays() (ways []string) {
	all := config{Netboot: netbootConfig{Enabled: true}}
	for _, r := range remediate.DefaultLadder() {
		if all.serves(r.Way) && r.Way != "restart" && r.Way != remediate.Manual {
			ways = append(ways, r.Way)
		}
	}
	return append(ways, "ipmi")
}

// questionFlags makes an option of each question.
func questionFlags() (flags []cli.Flag) {
	for _, q := range questions() {
		text := q.ask
		if len(q.choices) > 0 {
			text += " " + strings.Join(q.choices, ", ")
		}
		flags = append(flags, &cli.StringFlag{Name: q.key, Usage: text})
	}
	return flags
}

// An interview asks the questions.
type interview struct {
	c     *cli.Context
	lines *bufio.Scanner
	typed bool // by a person, whose terminal shows the answers
}

func newInterview(c *cli.Context) *interview {
	var in io.Reader = os.Stdin
	if c.App.Reader != nil {
		in = c.App.Reader
	}
	f, ok := in.(*os.File)
	return &interview{c, bufio.NewScanner(in), ok && term.IsTerminal(int(f.Fd()))}
}

// all returns the answers.
func (i *interview) all() (answers, error) {
	a := answers{}
	for _, q := range questions() {
		if q.when != nil && !q.when(a) {
			if i.c.IsSet(q.key) {
				return nil, usage("see unbrick init --help", "--%s does not belong to the other answers", q.key)
			}
			continue
		}
		if err := i.one(q, a); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// one gets the answer to a question: from its option, from its default, or from the person.
func (i *interview) one(q question, a answers) (err error) {
	otherwise := ""
	if q.otherwise != nil {
		otherwise = q.otherwise(a)
	}
	given := i.c.IsSet(q.key)
	if given || i.c.Bool("yes") {
		v := otherwise
		if given {
			v = i.c.String(q.key)
		}
		a[q.key], err = q.answer(v)
		return hinted(err, "give --"+q.key+"; see unbrick init --help")
	}
	for {
		i.prompt(q, otherwise)
		if !i.lines.Scan() {
			return usage("nothing was written; --yes takes the defaults", "the answers end before the questions do")
		}
		v := cmp.Or(strings.TrimSpace(i.lines.Text()), otherwise)
		a[q.key], err = q.answer(v)
		if !i.typed {
			say(i.c, "%s", a[q.key]) // nothing of what is refused: it may be a secret
		}
		if err == nil {
			return nil
		}
		say(i.c, "  %v", err)
	}
}

func (i *interview) prompt(q question, otherwise string) {
	text := q.ask
	if len(q.choices) > 0 {
		text += "\n  " + strings.Join(q.choices, ", ")
		if q.many {
			text += " (several by commas)"
		}
	}
	if otherwise != "" {
		text += " [" + otherwise + "]"
	}
	fmt.Fprint(i.c.App.ErrWriter, text+" ")
}

// answer checks an answer and returns it as it is written down.
func (q question) answer(v string) (string, error) {
	v = strings.TrimSpace(v)
	switch {
	case v == "" && q.blank:
		return "", nil
	case v == "":
		return "", fmt.Errorf("%s is needed", q.key)
	case len(v) > 500 || strings.ContainsFunc(v, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "", fmt.Errorf("%s is one short line", q.key)
	case len(q.choices) > 0:
		return q.choose(v)
	case holdsLogin(v):
		return "", errors.New("an address without a login in it: secrets are not asked for here")
	case q.check != nil:
		return q.check(v)
	}
	return v, nil
}

// choose takes one of the choices, or several.
func (q question) choose(v string) (string, error) {
	words := []string{v}
	if q.many {
		words = strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ' ' })
	}
	var chosen []string
	for _, w := range words {
		w = strings.ToLower(w)
		if !slices.Contains(q.choices, w) {
			return "", fmt.Errorf("%q is none of %s", w, strings.Join(q.choices, ", "))
		}
		if !slices.Contains(chosen, w) {
			chosen = append(chosen, w)
		}
	}
	if len(chosen) > 1 && slices.Contains(chosen, "none") || len(chosen) == 0 {
		return "", fmt.Errorf("either none, or some of %s", strings.Join(q.choices, ", "))
	}
	return strings.Join(chosen, ","), nil
}

func checkURL(v string) (string, error) {
	u, err := url.Parse(v)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Scheme != "https" && !(u.Scheme == "http" && net.ParseIP(u.Hostname()).IsLoopback()) {
		return "", errors.New("an address as https://HOST, without a user or a query")
	}
	return v, nil
}

func checkCountry(v string) (string, error) { return calendar.ParseCountry(v) }

func checkZone(v string) (string, error) { return calendar.New().Check("timezone", v) }

func checkAddress(v string) (string, error) {
	if strings.ContainsAny(v, "/: ") && net.ParseIP(v) == nil {
		return "", errors.New("a name or an IP address, without a port")
	}
	return v, nil
}

// guessedZone is this machine's time zone where a country was given. UTC is that of servers, and
// no guess for where people work.
func guessedZone(a answers) string {
	if zone := localZone(); a["country"] != "" && !strings.HasSuffix(zone, "UTC") {
		return zone
	}
	return ""
}

// localZone returns the IANA name of this machine's time zone, empty if it has none.
func localZone() string {
	name := time.Local.String()
	if name == "Local" {
		link, _ := os.Readlink("/etc/localtime")
		_, name, _ = strings.Cut(link, "zoneinfo/")
	}
	if _, err := checkZone(name); err != nil {
		return ""
	}
	return name
}

// ownAddress returns the first address of this machine that others can reach it by, empty if
// there is none.
func ownAddress() string {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return ""
	}
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
			return n.IP.String()
		}
	}
	return ""
}
