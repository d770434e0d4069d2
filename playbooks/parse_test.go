package playbooks_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"unbrick/playbooks"
)

const sound = `name: incident-1
title: An incident
steps:
  - remove:
      directory: System32/drivers/Acme
      glob: acme*.sys
      header: AA BB 01
      written:
        from: 2024-07-19T04:09:00Z
        until: 2024-07-19T05:27:00Z
`

// change returns sound with one text replaced, or appended if old is empty.
func change(t testing.TB, old, with string) string {
	t.Helper()
	if old != "" && !strings.Contains(sound, old) {
		t.Fatalf("%q is not in the playbook", old)
	}
	if old == "" {
		return sound + with
	}
	return strings.Replace(sound, old, with, 1)
}

func TestParse(t *testing.T) {
	pb, err := playbooks.Parse("p", []byte(change(t, "", "      sha256: ["+strings.Repeat("Ab", 32)+"]\n      max: 3\nwhy: |\n  It\n  happened.\n")))
	if err != nil {
		t.Fatal(err)
	}
	want := &playbooks.Remove{
		Directory: "System32/drivers/Acme",
		Glob:      "acme*.sys",
		Header:    []byte{0xaa, 0xbb, 1},
		Written: playbooks.Window{From: time.Date(2024, 7, 19, 4, 9, 0, 0, time.UTC),
			Until: time.Date(2024, 7, 19, 5, 27, 0, 0, time.UTC)},
		SHA256: []string{strings.Repeat("ab", 32)},
		Max:    3,
	}
	if len(pb.Steps) != 1 || !reflect.DeepEqual(pb.Steps[0], want) {
		t.Errorf("%+v", pb.Steps[0])
	}
	if pb.Name != "incident-1" || pb.Title != "An incident" || pb.Why != "It\nhappened.\n" {
		t.Errorf("%+v", pb)
	}
}

// All ways in which a text is wrong. Each error says where, shows the line, and what to do.
// Where the schema can tell, it must refuse too.
func TestParseRefuses(t *testing.T) {
	const window = "      written:\n        from: 2024-07-19T04:09:00Z\n        until: 2024-07-19T05:27:00Z\n"
	schema := schemaOf(t)
	for _, c := range []struct {
		name, src, at, want string
		schema              bool // the schema refuses it as well
	}{
		{"unknown key", change(t, "title:", "titel:"), "2:1", `a playbook has no "titel": it may have name, steps, title, why`, true},
		{"unknown key in a step", change(t, "glob:", "globs:"), "6:7", `remove has no "globs"`, true},
		{"unknown kind of step", change(t, "remove:", "overwrite:"), "4:5", `a step has no "overwrite": it may have hives, registry, remove, safeboot`, true},
		{"duplicate key", change(t, "", "title: again\n"), "", "already defined", false},
		{"duplicate key in a step", change(t, "", "      glob: other*.sys\n"), "", "already defined", false},
		{"two kinds in a step", change(t, "", "    other: {}\n"), "11:5", "a step has one key", true},
		{"missing name", change(t, "name: incident-1\n", ""), "1:1", `a playbook lacks "name"`, true},
		{"missing steps", "name: a\ntitle: b\n", "", `lacks "steps"`, true},
		{"no step", "name: a\ntitle: b\nsteps: []\n", "3:8", "there are 0 steps", true},
		{"steps of another type", "name: a\ntitle: b\nsteps: remove\n", "3:8", "steps are a list", true},
		{"a list", "- name: a\n", "", "a playbook is a list of keys and values here, not a list", true},
		{"nothing", "# nothing\n", "", "there is nothing in it", false},
		{"two documents", sound + "---\n" + sound, "", "a second document begins here", false},
		{"anchor", change(t, "glob: acme", "glob: &a acme"), "6:13", "an anchor (playbooks have none: write the value)", false},
		{"alias", "name: &a x\ntitle: *a\nsteps: []\n", "", "playbooks have none", false},
		{"merge", change(t, "      glob", "      <<: {max: 3}\n      glob"), "", "a key is a plain word here", false},
		{"tag", change(t, "glob: acme", "glob: !!str acme"), "6:13", "a tag (playbooks have none", false},
		{"not YAML", "name: [\n", "", "", false},
		{"tab", change(t, "      glob", "\tglob"), "", "", false},
		{"control character", change(t, "An incident", "\x1b[2J"), "2:8", "not UTF-8 text", false},
		{"not UTF-8", change(t, "An incident", "caf\xe9"), "2:11", "not UTF-8 text", false},
		{"too large", change(t, "", "# "+strings.Repeat("x", playbooks.MaxSource)), "", "bytes are more than a playbook may have", false},
		{"nested", "name: " + strings.Repeat("[", 1000), "", "brackets are nested deeper", false},
		{"bad name", change(t, "incident-1", "Incident 1"), "1:7", "lower-case letters", true},
		{"number for a name", change(t, "incident-1", "291"), "1:7", "YAML reads this as a number, and a name such as crowdstrike-291 is wanted: put it in quotes", true},
		{"title of two lines", change(t, "An incident", `"a\nb"`), "2:8", "one line", true},
		{"long title", change(t, "An incident", strings.Repeat("x", 201)), "2:8", "up to 200 characters", true},

		{"directory missing", change(t, "      directory: System32/drivers/Acme\n", ""), "", `remove lacks "directory"`, true},
		{"directory upwards", change(t, "System32/drivers/Acme", "System32/../../Users"), "5:18", `an element ".."`, false},
		{"absolute directory", change(t, "System32/", "/System32/"), "5:18", "leave out the first slash", true},
		{"drive letter", change(t, "System32/drivers/Acme", `C:/Windows/System32/drivers/Acme`), "5:18", "leave out the drive", true},
		{"backslashes", change(t, "System32/drivers/Acme", `System32\drivers\Acme`), "5:18", "write slashes: System32/drivers/Acme", true},
		{"variable", change(t, "System32/drivers/Acme", `"%SystemRoot%/System32"`), "5:18", "leave out %SystemRoot%", true},
		{"with Windows", change(t, "System32/drivers/Acme", `windows/System32/drivers`), "5:18", `leave out "windows"`, false},
		{"the root", change(t, "System32/drivers/Acme", `.`), "5:18", "may not be the Windows directory itself", false},
		{"empty directory", change(t, "System32/drivers/Acme", `""`), "5:18", "may not be the Windows directory itself", true},
		{"wildcard in the directory", change(t, "System32/drivers/Acme", "System32/*/Acme"), "5:18", "without wildcards", true},
		{"double slash", change(t, "System32/drivers", "System32//drivers"), "5:18", `an element ""`, true},
		{"element that ends in a dot", change(t, "drivers/Acme", "drivers./Acme"), "5:18", "no such name exists in Windows", false},
		{"letters beyond ASCII", change(t, "drivers/Acme", "driverſ/Acme"), "5:18", "which no playbook may have there", true},

		{"glob of everything", change(t, "acme*.sys", "'*'"), "6:13", "matches nearly everything", false},
		{"glob of all extensions", change(t, "acme*.sys", "'*.*'"), "6:13", "matches nearly everything", false},
		{"glob of one extension", change(t, "acme*.sys", "'??*.sys'"), "6:13", "matches nearly everything", false},
		{"glob of two letters", change(t, "acme*.sys", "ac*.sys"), "6:13", "matches nearly everything", false},
		{"glob with a folder", change(t, "acme*.sys", "drivers/acme*.sys"), "6:13", "the folders go into directory", true},
		{"glob with classes", change(t, "acme*.sys", "acme[0-9].sys"), "6:13", "it may have letters, digits, * and ?", true},
		{"empty glob", change(t, "acme*.sys", "''"), "6:13", "the glob is empty", true},

		{"by name alone", change(t, window, ""), "", "never removed by its name alone", true},
		{"by name and header alone", change(t, window, "      max: 2\n"), "", "never removed by its name alone", true},
		{"odd header", change(t, "AA BB 01", "AA B"), "7:15", "two hexadecimal digits each", true},
		{"header in words", change(t, "AA BB 01", "MZ"), "7:15", "two hexadecimal digits each", true},
		{"header split inside a byte", change(t, "AA BB 01", "A ABB 01"), "7:15", "two hexadecimal digits each", true},
		{"header that YAML takes for a number", change(t, "AA BB 01", "0123"), "7:15", "put it in quotes", true},
		{"long header", change(t, "AA BB 01", strings.Repeat("AA", 65)), "7:15", "1 to 64 bytes", true},
		{"window without end", change(t, "        until: 2024-07-19T05:27:00Z\n", ""), "", `written lacks "until"`, true},
		{"window backwards", change(t, "until: 2024-07-19T05", "until: 2024-07-19T03"), "", "swap from and until", false},
		{"empty window", change(t, "until: 2024-07-19T05:27", "until: 2024-07-19T04:09"), "", "swap from and until", false},
		{"local time", change(t, "04:09:00Z", "04:09:00"), "9:15", "a time is written in UTC", true},
		{"time with an offset", change(t, "04:09:00Z", "14:09:00+10:00"), "9:15", "a time is written in UTC", true},
		{"time with a fraction", change(t, "04:09:00Z", "04:09:00.5Z"), "9:15", "a time is written in UTC", true},
		{"no such day", change(t, "2024-07-19T04", "2024-02-30T04"), "9:15", "a time is written in UTC", false},
		{"epoch", change(t, "2024-07-19T04:09:00Z", "1721362140"), "9:15", "put it in quotes", true},
		{"short hash", change(t, "", "      sha256: [abcd]\n"), "11:16", "64 hexadecimal digits", true},
		{"no hash", change(t, "", "      sha256: []\n"), "11:15", "there are 0 sha256", true},
		{"hash that is no list", change(t, "", "      sha256: "+strings.Repeat("ab", 32)+"\n"), "11:15", "sha256 are a list", true},
		{"max of nothing", change(t, "", "      max: 0\n"), "11:12", "a whole number from 1 to 100", true},
		{"max beyond reason", change(t, "", "      max: 500\n"), "11:12", "a whole number from 1 to 100", true},
		{"max of another type", change(t, "", "      max: many\n"), "11:12", "a whole number from 1 to 100", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			pb, err := playbooks.Parse("p.yaml", []byte(c.src))
			var in *playbooks.InputError
			if err == nil || pb != nil || !errors.As(err, &in) {
				t.Fatalf("accepted, or an error without a place: %v", err)
			}
			if !strings.HasPrefix(err.Error(), "p.yaml:"+c.at) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got\n%v\nwant %q at %s", err, c.want, c.at)
			}
			if c.at != "" && !strings.Contains(in.Excerpt, ">") && !strings.Contains(c.want, "UTF-8") {
				t.Errorf("no line is shown: %v", err)
			}
			if refused := validate(t, schema, c.src) != nil; c.schema && !refused {
				t.Error("the schema accepts it")
			}
		})
	}
}

func TestParseReportsAllMistakes(t *testing.T) {
	src := strings.NewReplacer("acme*.sys", "'*'", "System32/", "/System32/", "AA BB 01", "XX").Replace(sound)
	_, err := playbooks.Parse("p.yaml", []byte(src))
	for _, at := range []string{"p.yaml:5:18: ", "p.yaml:6:13: ", "p.yaml:7:15: "} {
		if err == nil || !strings.Contains(err.Error(), at) {
			t.Errorf("%s is not in\n%v", at, err)
		}
	}
}

// What Windows editors make of a file is read as it is.
func TestParseAccepts(t *testing.T) {
	for name, src := range map[string]string{
		"CRLF":               strings.ReplaceAll(sound, "\n", "\r\n"),
		"BOM":                "\ufeff" + sound,
		"header in one":      change(t, "AA BB 01", "aabb01"),
		"header of digits":   change(t, "AA BB 01", "'0123'"),
		"hash and no window": change(t, sound[strings.Index(sound, "      written"):], "      sha256:\n        - "+strings.Repeat("0a", 32)+"\n"),
		"no end of line":     strings.TrimSuffix(sound, "\n"),
		"comments":           "# one\n---\n# two\n" + sound + "# three\n",
		"JSON": `{"name":"a","title":"b","steps":[{"remove":{"directory":"System32","glob":"acme.sys",
			"written":{"from":"2024-07-19T04:09:00Z","until":"2024-07-19T05:27:00Z"}}}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			pb, err := playbooks.Parse("p", []byte(src))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(pb.Source(), []byte(src)) {
				t.Error("the source is not what was parsed")
			}
		})
	}
}

func schemaOf(t testing.TB) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(playbooks.Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("playbook.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("playbook.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// validate reads YAML as an editor does, and validates it.
func validate(t testing.TB, s *jsonschema.Schema, src string) error {
	t.Helper()
	var v any
	if err := yaml.Unmarshal([]byte(strings.TrimPrefix(src, "\ufeff")), &v); err != nil {
		return err
	}
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(doc)
}

func TestLibrary(t *testing.T) {
	schema := schemaOf(t)
	if len(playbooks.Embedded()) == 0 {
		t.Fatal("no playbook is embedded")
	}
	for _, name := range playbooks.Embedded() {
		pb, err := playbooks.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if pb.Name != name {
			t.Errorf("%s calls itself %s", name, pb.Name)
		}
		if err := validate(t, schema, string(pb.Source())); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOpen(t *testing.T) {
	name := filepath.Join(t.TempDir(), "mine.yaml")
	if err := os.WriteFile(name, []byte(sound), 0o600); err != nil {
		t.Fatal(err)
	}
	pb, err := playbooks.Open(name)
	if err != nil || pb.Name != "incident-1" {
		t.Error(err)
	}
	_, err = playbooks.Open("crowdstrike-292")
	if err == nil || !strings.Contains(err.Error(), "neither a file nor one of crowdstrike-291") {
		t.Error(err)
	}
	if _, err := playbooks.Open(t.TempDir()); err == nil {
		t.Error("a directory is no playbook")
	}
	if _, err := playbooks.Open("/dev/zero"); err == nil {
		t.Error("/dev/zero is no playbook")
	}
}

// Laws: Parse never panics; what it accepts, the schema accepts; its Source, parsed again, is
// the same playbook; and every step of it is valid on its own.
func FuzzParse(f *testing.F) {
	f.Add([]byte(sound))
	f.Add([]byte(change(f, "AA BB 01", "'00'")))
	f.Add([]byte("name: a\ntitle: b\nsteps:\n- remove: {directory: a, glob: abc*, sha256: [" + strings.Repeat("0", 64) + "]}\n"))
	for _, s := range []string{soundRegistry, "name: a\ntitle: b\nsteps: [{hives: {names: [SAM], replay: dirty}}, {safeboot: {}}]\n"} {
		f.Add([]byte(s))
	}
	f.Add([]byte("a: &a [*a]\n? {x: y}\n: - - -\n"))
	schema := schemaOf(f)
	f.Fuzz(func(t *testing.T, src []byte) {
		pb, err := playbooks.Parse("p", src)
		if err != nil {
			if pb != nil || err.Error() == "" {
				t.Error("an error and a playbook, or an empty error")
			}
			return
		}
		again, err := playbooks.Parse("p", pb.Source())
		if err != nil || !reflect.DeepEqual(pb, again) {
			t.Errorf("parsed again it is %+v, %v", again, err)
		}
		if err := validate(t, schema, string(src)); err != nil {
			t.Errorf("the schema refuses what Parse accepts: %v\n%s", err, src)
		}
		for _, s := range pb.Steps {
			if v, ok := s.(interface{ Validate() error }); ok && v.Validate() != nil {
				t.Error(v.Validate())
			}
		}
	})
}
