package agent_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"time"

	"unbrick/bitlocker"
	"unbrick/bitlocker/keytest"
	"unbrick/remediate/rescue/agent"
)

// A person types a text, and nothing while the agent waits for silence.
type person struct {
	types string
	sees  strings.Builder
}

var errLeft = errors.New("the person left")

func (p *person) Typed(ctx context.Context) (byte, error) {
	if _, drains := ctx.Deadline(); drains {
		<-ctx.Done()
		return 0, ctx.Err()
	}
	if p.types == "" {
		return 0, errLeft
	}
	c := p.types[0]
	p.types = p.types[1:]
	return c, nil
}

func (p *person) Write(b []byte) (int, error) { return p.sees.Write(b) }

const protector = "4290B6C0-B17A-497A-8552-272CC30E80D4"

var tooMuch = regexp.MustCompile(`\d{6}`)

func TestTypedKey(t *testing.T) {
	key := keytest.NewKey(rand.NewPCG(1, 2))
	digits := strings.ReplaceAll(key.Reveal(), "-", "")
	wrong := string('0' + (digits[11]-'0'+1)%10)
	for name, tt := range map[string]struct {
		types string
		err   error
		sees  string
	}{
		"by a scanner":           {digits + "\r", nil, "block 8 of 8: ****** ok"},
		"with hyphens":           {key.Reveal() + "\n", nil, "Press Enter"},
		"a typing mistake":       {digits[:11] + wrong + digits[6:] + "\r", nil, "block 2 of 8: ****** is not right"},
		"corrected at once":      {"9\b" + digits[:3] + "9\x7f" + digits[3:] + "\r", nil, "\b \b"},
		"begun again":            {digits[:20] + "\x03" + digits + "\r", nil, "From the first block"},
		"begun again at the end": {digits + "\x03" + digits + "\r", nil, "From the first block"},
		"Enter in between":       {digits[:8] + "\r" + digits[8:] + "\r", nil, "block 8"},
		"no card":                {"\r", agent.ErrNoKey, "no key"},
		"a placeholder":          {strings.Repeat("0", 48) + digits + "\r", nil, "That is no recovery key"},
		"left":                   {digits, errLeft, "Press Enter"},
	} {
		t.Run(name, func(t *testing.T) {
			p := &person{types: tt.types}
			got, err := agent.AskKey(t.Context(), p, time.Millisecond, protector)
			if !errors.Is(err, tt.err) || tt.err == nil && !got.Equal(key) {
				t.Errorf("key %t, %v", got.Equal(key), err)
			}
			saw := p.sees.String()
			if !strings.Contains(saw, tt.sees) || !strings.Contains(saw, "begins with 4290B6C0.") {
				t.Errorf("the person sees\n%s\nwant %q", saw, tt.sees)
			}
			if keytest.Leaks(key, saw) || tooMuch.MatchString(saw) {
				t.Error("digits of the key are shown")
			}
		})
	}
}

// A flood is a terminal on which somebody leans on Enter until nobody listens, and then types.
type flood struct {
	person
	enters int
}

func (f *flood) Typed(ctx context.Context) (byte, error) {
	if _, drains := ctx.Deadline(); drains && f.enters > 0 {
		f.enters--
		return '\r', nil
	}
	return f.person.Typed(ctx)
}

func TestTypedAhead(t *testing.T) {
	key := keytest.NewKey(rand.NewPCG(1, 2))
	f := &flood{person{types: key.Reveal() + "\r"}, 100}
	if got, err := agent.AskKey(t.Context(), f, time.Millisecond, protector); err != nil || !got.Equal(key) || f.enters != 0 {
		t.Errorf("%v, %d presses of Enter left", err, f.enters)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := agent.AskKey(ctx, f, time.Millisecond, protector); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
}

// FuzzTypedKey: whatever is typed, no block of digits is shown, and what is taken for a key is
// one.
func FuzzTypedKey(f *testing.F) {
	digits := keytest.NewKey(rand.NewPCG(1, 2)).Reveal()
	for _, s := range []string{digits + "\r", "\r", "\x03", strings.Repeat("0", 60), digits[:30] + "\b\x7f" + digits, "12345612\r"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, types string) {
		p := &person{types: types}
		key, err := agent.AskKey(t.Context(), p, time.Nanosecond, protector)
		if err == nil {
			if again, err := bitlocker.ParseKey(key.Reveal()); err != nil || !again.Equal(key) {
				t.Error("what was taken is no key")
			}
		}
		if tooMuch.MatchString(p.sees.String()) {
			t.Error("digits are shown")
		}
	})
}
