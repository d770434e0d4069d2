package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"unbrick/bitlocker"
)

// A Terminal is where a person sits. It shows nothing by itself of what is typed.
type Terminal interface {
	io.Writer
	// Typed waits for the next key. Its error is that ctx ended, or that nobody can type.
	Typed(ctx context.Context) (byte, error)
}

// A recovery key as a person types it.
const (
	blocks     = 8
	blockSize  = 6
	blockLimit = 11 * 65536 // and a multiple of 11
)

// What the keys of a keyboard send.
const (
	keyInterrupt = 3 // Ctrl-C
	keyBackspace = 8
	keyEnter     = '\r'
	keyNewline   = '\n'
	keyDelete    = 127
)

// silence of a typist: a scanner sends on after a block that was misread.
const silence = 300 * time.Millisecond

// errNoKey is the answer of a person who has none.
var errNoKey = errors.New("the person at the host has no key for it")

// A typist asks a person for recovery keys. It shows a star for every digit: what is on the
// console may be recorded.
type typist struct {
	term    Terminal
	silence time.Duration // how long nothing comes before what comes next is meant as an answer
}

// key asks for a recovery key of a volume, whose protectors have these ids. Each block is
// checked as it is typed. Enter alone, before the first digit, means that there is no key.
func (t *typist) key(ctx context.Context, volume string, ids []string) (bitlocker.Key, error) {
	if err := t.drain(ctx); err != nil {
		return bitlocker.Key{}, err
	}
	t.say("\n%s is locked. The card to use has a key id that begins with %s.\n", volume, strings.Join(begins(ids), " or "))
	t.say("Type the 48 digits, or scan them. Every digit shows as *. Backspace corrects, Ctrl-C begins again.\nEnter alone: there is no such card.\n")
	for {
		key, err := t.blocks(ctx)
		if !errors.Is(err, errAgain) {
			return key, err
		}
	}
}

// begins returns what of the ids stands large on a card.
func begins(ids []string) (out []string) {
	for _, id := range ids {
		out = append(out, id[:min(8, len(id))])
	}
	return out
}

// errAgain means that the person begins again.
var errAgain = errors.New("begin again")

// blocks reads the eight blocks, and Enter.
func (t *typist) blocks(ctx context.Context) (bitlocker.Key, error) {
	digits := make([]byte, 0, blocks*blockSize)
	defer clear(digits[:cap(digits)])
	for len(digits) < cap(digits) {
		n := len(digits) / blockSize
		t.say("  block %d of %d: ", n+1, blocks)
		block, err := t.block(ctx, n == 0)
		if err != nil {
			return bitlocker.Key{}, err
		}
		if !adds(block) {
			t.say(" is not right: type this block again\n")
			if err := t.drain(ctx); err != nil {
				return bitlocker.Key{}, err
			}
			continue
		}
		digits = append(digits, block...)
		t.say(" ok\n")
	}
	key, err := bitlocker.ParseKey(string(digits))
	if err != nil { // a placeholder, all of whose blocks add up
		t.say("That is no recovery key. Begin again.\n")
		return key, errAgain
	}
	t.say("Press Enter to unlock.\n")
	return key, t.enter(ctx)
}

// block reads six digits and shows stars.
func (t *typist) block(ctx context.Context, first bool) ([]byte, error) {
	var b []byte
	for len(b) < blockSize {
		c, err := t.term.Typed(ctx)
		switch {
		case err != nil:
			return nil, err
		case c >= '0' && c <= '9':
			b = append(b, c)
			t.say("*")
		case (c == keyBackspace || c == keyDelete) && len(b) > 0:
			b = b[:len(b)-1]
			t.say("\b \b")
		case c == keyInterrupt:
			t.say("\nFrom the first block:\n")
			return nil, errAgain
		case (c == keyEnter || c == keyNewline) && first && len(b) == 0:
			t.say("no key\n")
			return nil, errNoKey
		}
	}
	return b, nil
}

// adds says whether six digits can be a block of a key.
func adds(block []byte) bool {
	n := 0
	for _, d := range block {
		n = 10*n + int(d-'0')
	}
	return n%11 == 0 && n < blockLimit
}

// enter waits for Enter, or for the person to begin again.
func (t *typist) enter(ctx context.Context) error {
	for {
		c, err := t.term.Typed(ctx)
		switch {
		case err != nil:
			return err
		case c == keyInterrupt:
			t.say("From the first block:\n")
			return errAgain
		case c == keyEnter || c == keyNewline:
			return nil
		}
	}
}

// drain forgets what was typed so far: an Enter too many must not be an answer.
func (t *typist) drain(ctx context.Context) error {
	for ctx.Err() == nil {
		quiet, cancel := context.WithTimeout(ctx, t.silence)
		_, err := t.term.Typed(quiet)
		ended := quiet.Err() != nil
		cancel()
		if err != nil {
			if ended && ctx.Err() == nil {
				return nil
			}
			return err
		}
	}
	return context.Cause(ctx)
}

func (t *typist) say(format string, args ...any) {
	// A console that takes nothing must not hold up a repair.
	_, _ = fmt.Fprint(t.term, strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "\r\n"))
}
