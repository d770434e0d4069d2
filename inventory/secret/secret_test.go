package secret_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"unbrick/inventory/secret"
)

const canary = "hunter2-canary"

type exported struct{ Password secret.Value }

type unexported struct{ password secret.Value }

type login struct {
	User string
	secret.Value
}

// holders are the ways in which a Value ends up in something that is printed.
func holders() map[string]any {
	v := secret.New(canary)
	return map[string]any{
		"itself": v, "pointer": &v, "exported field": exported{v}, "unexported field": unexported{v},
		"pointer to unexported": &unexported{v}, "embedded": login{"root", v}, "slice": []secret.Value{v},
		"map": map[string]secret.Value{"k": v}, "map of structs": map[string]*unexported{"k": {v}},
		"array in interface": [1]any{unexported{v}}, "deep": struct{ a any }{[]any{map[string]any{"k": &unexported{v}}}},
		"in an error":        fmt.Errorf("cannot log in with %v", v),
		"joined errors":      errors.Join(fmt.Errorf("%s", v), fmt.Errorf("%+v", unexported{v})),
		"channel of structs": func() any { c := make(chan unexported, 1); c <- unexported{v}; return c }(),
	}
}

func leaks(t *testing.T, how, text string) {
	t.Helper()
	// The verb %x prints hex, %q quotes: look for these forms too.
	for _, form := range []string{canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary), fmt.Sprintf("% x", canary), fmt.Sprint([]byte(canary))} {
		if strings.Contains(text, form) {
			t.Errorf("%s shows the secret: %s", how, text)
		}
	}
}

func TestNothingPrintsIt(t *testing.T) {
	for name, h := range holders() {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%#x", "%d", "%o", "%b", "%c", "%U", "%e", "%g", "%t", "%p", "%T", "%w", "%10.3v", "%z"} {
			leaks(t, name+" by "+verb, fmt.Sprintf(verb, h))
		}
		leaks(t, name+" by Sprint", fmt.Sprint(h)+fmt.Sprintln(h))
		leaks(t, name+" by panic", fmt.Sprint(recovered(h)))
	}
}

func recovered(v any) (r any) {
	defer func() { r = recover() }()
	panic(v)
}

func TestNothingLogsIt(t *testing.T) {
	var b bytes.Buffer
	for name, h := range holders() {
		for _, handler := range []slog.Handler{
			slog.NewTextHandler(&b, nil), slog.NewJSONHandler(&b, nil),
		} {
			b.Reset()
			log := slog.New(handler).With("with", h)
			log.WithGroup("g").Info("m", "attr", h, slog.Any("any", h), slog.Group("group", "in", h))
			leaks(t, name+" by slog", b.String())
		}
	}
}

func TestNothingEncodesIt(t *testing.T) {
	for name, h := range holders() {
		if b, err := json.Marshal(h); err == nil {
			leaks(t, name+" by json", string(b))
		}
		if b, err := xml.Marshal(h); err == nil {
			leaks(t, name+" by xml", string(b))
		}
		var b bytes.Buffer
		if err := gob.NewEncoder(&b).Encode(h); err == nil {
			leaks(t, name+" by gob", b.String())
		}
	}
	b, err := json.Marshal(exported{secret.New(canary)})
	if want := `{"Password":"[secret]"}`; err != nil || string(b) != want {
		t.Errorf("got %s, %v, want %s", b, err, want)
	}
}

func TestReveal(t *testing.T) {
	if got := secret.New(canary).Reveal(); got != canary {
		t.Errorf("got %q", got)
	}
	if got := (secret.Value{}).Reveal(); got != "" {
		t.Errorf("the zero Value is empty, got %q", got)
	}
}

func TestResolve(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) secret.Ref {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return secret.Ref("file:" + path)
	}
	t.Setenv("UNBRICK_TEST_SECRET", canary)
	for name, ref := range map[string]secret.Ref{
		"file": file("plain", canary), "file of an editor": file("editor", "\ufeff"+canary+"\r\n"),
		"env": "env:UNBRICK_TEST_SECRET", "exec": secret.Ref("exec:cat " + filepath.Join(dir, "plain")),
	} {
		if v, err := ref.Resolve(t.Context()); err != nil || v.Reveal() != canary {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, tc := range map[string]struct {
		ref  secret.Ref
		want string
	}{
		"the secret itself": {canary, "not a reference to a secret"},
		"unknown kind":      {"http:" + canary, "not a reference to a secret"},
		"nothing":           {"env:", "not a reference"},
		"blank command":     {"exec:  ", "not a reference"},
		"unset":             {"env:UNBRICK_TEST_UNSET", "secret env:UNBRICK_TEST_UNSET is empty"},
		"no file":           {secret.Ref("file:" + filepath.Join(dir, "none")), "cannot read secret: open"},
		"empty file":        {file("empty", "\n"), "is empty"},
		"UTF-16":            {file("utf16", "\xff\xfeh\x00u\x00"), "is UTF-16 or binary"},
		"failing command":   {secret.Ref("exec:cat " + filepath.Join(dir, "none")), "cannot read secret from cat: exit status 1"},
		"no command":        {"exec:unbrick-no-such-command x", "cannot read secret from unbrick-no-such-command"},
	} {
		v, err := tc.ref.Resolve(t.Context())
		if err == nil || !strings.Contains(err.Error(), tc.want) || v.Reveal() != "" {
			t.Errorf("%s: got %v, want %s", name, err, tc.want)
		}
		leaks(t, name, fmt.Sprint(err))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := secret.Ref("exec:cat " + filepath.Join(dir, "plain")).Resolve(ctx); err == nil {
		t.Error("a command outlives its context")
	}
}
