package bitlocker_test

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	htmltemplate "html/template"
	"log"
	"log/slog"
	"strings"
	"testing"
	"text/template"

	"unbrick/bitlocker"
	"unbrick/bitlocker/keytest"
)

// Holders of a secret, as careless code would write them.
type (
	exported[T any]   struct{ Key T }
	unexported[T any] struct{ key T }
	nested[T any]     struct{ In exported[unexported[T]] }
	embedded[T any]   struct {
		*exported[T]
		hidden *unexported[T]
	}
	failure[T any] struct{ Key T }
)

func (f failure[T]) Error() string { return fmt.Sprintf("cannot unlock with %v", f.Key) }

// ways prints v in all the ways that the standard library offers, inside all the holders, and
// returns what came out, by way and holder.
func ways[T any](v T) map[string]string {
	out := map[string]string{}
	holders := map[string]any{
		"itself": v, "pointer": &v, "exported": exported[T]{v}, "unexported": unexported[T]{v},
		"pointer to exported": &exported[T]{v}, "pointer to unexported": &unexported[T]{v},
		"nested": nested[T]{exported[unexported[T]]{unexported[T]{v}}}, "embedded": embedded[T]{&exported[T]{v}, &unexported[T]{v}},
		"slice": []T{v}, "array": [1]T{v}, "map": map[string]T{"k": v}, "map of holders": map[string]any{"k": unexported[T]{v}},
		"interface": []any{v}, "error": failure[T]{v},
	}
	for holder, h := range holders {
		keep := func(way, text string) { out[way+" of "+holder] = text }
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%X", "%o", "%b", "%c", "%U", "%e", "%t", "%p", "%w", "%50v", "%.3s", "% x", "%[1]*[1]d"} {
			keep(verb, fmt.Sprintf(verb, h))
		}
		keep("Sprint", fmt.Sprint(h))
		keep("Errorf", fmt.Errorf("wrapped: %w; %v", errors.Join(failure[T]{v}, fmt.Errorf("%v", h)), h).Error())
		keep("panic", recovered(func() { panic(h) }))
		encodings(h, keep)
		loggers(h, keep)
	}
	return out
}

// encodings writes h with every encoder. An encoder may refuse: its error counts as output.
func encodings(h any, keep func(way, text string)) {
	var b bytes.Buffer
	result := func(err error) string { defer b.Reset(); return fmt.Sprintf("%s %v", b.String(), err) }
	keep("JSON", result(json.NewEncoder(&b).Encode(h)))
	keep("XML", recovered(func() { panic(result(xml.NewEncoder(&b).Encode(h))) }))
	keep("gob", recovered(func() { panic(result(gob.NewEncoder(&b).Encode(h))) }))
	keep("template", result(template.Must(template.New("").Parse(`{{.}} {{printf "%d %#v" . .}} {{html .}} {{js .}}`)).Execute(&b, h)))
	keep("HTML template", result(htmltemplate.Must(htmltemplate.New("").Parse(`<p a="{{.}}">{{.}}</p><script>x = {{.}}</script>`)).Execute(&b, h)))
}

// loggers writes h to every logger, as attribute, in a group and among the arguments.
func loggers(h any, keep func(way, text string)) {
	var b bytes.Buffer
	for way, handler := range map[string]slog.Handler{"slog text": slog.NewTextHandler(&b, nil), "slog JSON": slog.NewJSONHandler(&b, nil)} {
		l := slog.New(handler).With("with", h)
		l.Info(fmt.Sprint(h), "attr", h, slog.Group("g", "in", h), slog.Any("any", []any{h}), "err", fmt.Errorf("e: %v", h))
		keep(way, b.String())
		b.Reset()
	}
	log.New(&b, "", 0).Println(h)
	keep("log", b.String())
}

func recovered(f func()) (text string) {
	defer func() { text = fmt.Sprint(recover()) }()
	f()
	return ""
}

func TestKeyNeverPrints(t *testing.T) {
	key, err := bitlocker.ParseKey(sample)
	if err != nil {
		t.Fatal(err)
	}
	all := ways(key)
	for way, text := range all {
		if keytest.Leaks(key, text) {
			t.Errorf("%s shows the key", way)
		}
	}
	if len(all) < 38 {
		t.Errorf("only %d ways were tried", len(all))
	}
	if got := fmt.Sprintf("%v %d %#v", key, key, exported[bitlocker.Key]{key}); !strings.HasPrefix(got, "[recovery key] [recovery key] ") {
		t.Errorf("it prints as %s, which does not say what was hidden", got)
	}
	if _, err := json.Marshal(exported[bitlocker.Key]{key}); err != nil {
		t.Errorf("a struct with a key cannot be encoded: %v", err)
	}
}

// The forms that people write first do leak, so the eye that looks for leaks is open.
func TestLeaksAreSeen(t *testing.T) {
	key, err := bitlocker.ParseKey(sample)
	if err != nil {
		t.Fatal(err)
	}
	count := func(all map[string]string) (n int) {
		for _, text := range all {
			if keytest.Leaks(key, text) {
				n++
			}
		}
		return n
	}
	if n := count(ways(key.Reveal())); n < 100 {
		t.Errorf("a plain string leaks in %d ways only", n)
	}
	if n := count(ways(key.Bytes())); n < 50 {
		t.Errorf("plain bytes leak in %d ways only", n)
	}
}
