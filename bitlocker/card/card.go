// Package card draws the page that a person takes to a host that asks for its recovery key:
// the key as bar codes for a scanner and as numbered groups for the telephone, and what to do
// in plain words.
//
// A card is the key. Whoever draws one has released it: see [bitlocker.Broker.Release].
package card

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"unbrick/bitlocker"
	"unbrick/inventory/secret"
)

// A Card is what stands on the page of one host.
type Card struct {
	Host string
	Site string // may be empty
	ID   bitlocker.KeyID
	Key  bitlocker.Key

	Admin    string       // local administrator, if Password is there
	Password secret.Value // of Admin; zero if there is none

	Steps  []string // what to do once the disk is unlocked; may be empty
	Actor  string   // who had it drawn
	Reason string
	Made   time.Time
}

// check says why no card can be drawn.
func (c Card) check() error {
	if c.Key.IsZero() || c.ID.IsZero() || c.Host == "" {
		return errors.New("cannot draw a card without host, key and key id")
	}
	return nil
}

// shown is how many digits of the key id the recovery screen of older Windows has, and what
// people compare.
const shown = 8

// idParts returns the digits that are compared, and the rest.
func (c Card) idParts() (first, rest string) {
	id := c.ID.String()
	return id[:shown], id[shown:]
}

// groups returns the eight groups of six digits.
func (c Card) groups() []string { return strings.Split(c.Key.Reveal(), "-") }

// steps returns what to do, from the recovery screen to the end.
func (c Card) steps() []string {
	first, _ := c.idParts()
	all := []string{
		fmt.Sprintf("Compare: the blue screen must show a recovery key ID that begins with %s. If it shows another, stop and call: this key does not open that disk.", first),
		"With a scanner: set it to USB keyboard, country US, no suffix (no Enter, no Tab), 10 to 20 ms between characters, no ALT mode. Scan the square code. The screen puts in the hyphens by itself.",
		"If the scanner reads no square codes: scan bar 1 of 2, then bar 2 of 2, and touch no key between them.",
		"Without a scanner: type the eight groups in their order. If the digits do nothing, F1 to F9 are 1 to 9 and F10 is 0.",
		"Press Enter.",
	}
	all = append(all, c.Steps...)
	if c.hasPassword() {
		all = append(all, fmt.Sprintf("If Windows asks who you are: user .\\%s with the password on this page.", c.Admin))
	}
	return append(all, "Destroy this page when the host works. Whoever has it can open the disk until the key is replaced.")
}

func (c Card) hasPassword() bool { return c.Password.Reveal() != "" }

// origin says where the card comes from.
func (c Card) origin() string {
	return fmt.Sprintf("drawn %s for %s: %s", c.Made.UTC().Format("2006-01-02 15:04 UTC"), c.Actor, c.Reason)
}
