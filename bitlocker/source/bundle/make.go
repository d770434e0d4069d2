package bundle

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"filippo.io/age"

	"unbrick/bitlocker"
)

// A Plan says for whom a bundle is made. First and Second are age recipients ("age1…"). One
// identity of each opens the bundle; so two or more in each are wise, and none may be in both.
type Plan struct {
	Site          string
	Made, Expires time.Time
	First, Second []string
	Signer        ed25519.PrivateKey
}

// A line is one row as the body has it.
type line struct {
	ID   bitlocker.KeyID `json:"id"`
	Host string          `json:"host,omitempty"`
	Key  string          `json:"key"`
}

const magic = "unbrick-bundle/1\n"

// Make writes a bundle of these keys. It refuses a key without an id, and an id with two keys:
// whoever opens the bundle has nobody to ask.
func Make(w io.Writer, p Plan, rows []Row) (Header, error) {
	header, body, err := p.seal(rows)
	if err != nil {
		return Header{}, fmt.Errorf("cannot make a bundle: %w", err)
	}
	text, err := json.Marshal(header)
	if err != nil {
		return Header{}, fmt.Errorf("cannot make a bundle: %w", err)
	}
	head := magic + string(text) + "\n"
	signature := base64.StdEncoding.EncodeToString(ed25519.Sign(p.Signer, []byte(head)))
	if _, err := io.Copy(w, io.MultiReader(strings.NewReader(head+signature+"\n"), bytes.NewReader(body))); err != nil {
		return Header{}, fmt.Errorf("cannot write the bundle: %w", err)
	}
	return header, nil
}

// Check says what is wrong with the plan, before any key is asked for.
func (p Plan) Check() error {
	switch {
	case len(p.Signer) != ed25519.PrivateKeySize:
		return errors.New("there is no key to sign it with")
	case p.Site == "":
		return errors.New("it is of no site: a bundle of all sites would open all of them")
	case !p.Expires.After(p.Made):
		return errors.New("it would expire before it is made")
	}
	_, _, err := p.recipients()
	return err
}

// seal checks everything, and returns the header and the encrypted body.
func (p Plan) seal(rows []Row) (header Header, body []byte, err error) {
	if err := p.Check(); err != nil {
		return header, nil, err
	}
	if len(rows) == 0 {
		return header, nil, errors.New("there are no keys to put in it")
	}
	first, second, err := p.recipients()
	if err != nil {
		return header, nil, err
	}
	header = Header{Site: p.Site, Made: p.Made.UTC(), Expires: p.Expires.UTC(), Keys: len(rows), From: map[string]int{}}
	rows = slices.SortedStableFunc(slices.Values(rows), func(a, b Row) int {
		return cmp.Or(bytes.Compare(a.ID[:], b.ID[:]), cmp.Compare(a.Host, b.Host))
	})
	if err := checkRows(rows); err != nil {
		return header, nil, err
	}
	for _, r := range rows {
		if r.From != "" {
			header.From[r.From]++
		}
	}
	var out bytes.Buffer
	if err := encrypt(&out, first, second, rows); err != nil {
		return header, nil, err
	}
	sum := sha256.Sum256(out.Bytes())
	header.SHA256 = hex.EncodeToString(sum[:])
	return header, out.Bytes(), nil
}

// checkRows refuses rows that nobody could use. They are sorted by id.
func checkRows(rows []Row) error {
	for i, r := range rows {
		switch {
		case r.ID.IsZero():
			return fmt.Errorf("a key of host %q has no id", r.Host)
		case r.Key.IsZero():
			return fmt.Errorf("id %s has no key", r.ID)
		case i > 0 && rows[i-1].ID == r.ID && !rows[i-1].Key.Equal(r.Key):
			return fmt.Errorf("id %s has two different keys: correct the wrong escrow first", r.ID)
		}
	}
	return nil
}

// recipients parses both lists and makes sure that nobody is in both: one person could open
// the bundle alone.
func (p Plan) recipients() (first, second []age.Recipient, err error) {
	seen := map[string]string{}
	parse := func(which string, list []string) (all []age.Recipient) {
		for _, text := range list {
			text = strings.TrimSpace(text)
			r, parseErr := age.ParseRecipients(strings.NewReader(text))
			if parseErr != nil || len(r) != 1 {
				err = errors.Join(err, fmt.Errorf("one of the %s persons is no age recipient (age1…)", which))
				continue
			}
			if other, ok := seen[text]; ok && other != which {
				err = errors.Join(err, fmt.Errorf("recipient %s is among the first and the second persons, and could open the bundle alone", text))
			}
			seen[text] = which
			all = append(all, r...)
		}
		if len(list) == 0 {
			err = errors.Join(err, fmt.Errorf("there are no %s persons: a bundle is opened by two", which))
		}
		return all
	}
	first, second = parse("first", p.First), parse("second", p.Second)
	return first, second, err
}

// encrypt writes the rows for the second persons, and that for the first.
func encrypt(w io.Writer, first, second []age.Recipient, rows []Row) error {
	outer, err := age.Encrypt(w, first...)
	if err != nil {
		return fmt.Errorf("cannot encrypt to the first persons: %w", err)
	}
	inner, err := age.Encrypt(outer, second...)
	if err != nil {
		return fmt.Errorf("cannot encrypt to the second persons: %w", err)
	}
	enc := json.NewEncoder(inner)
	for _, r := range rows {
		if err := enc.Encode(line{r.ID, r.Host, r.Key.Reveal()}); err != nil {
			return fmt.Errorf("cannot encrypt id %s", r.ID)
		}
	}
	return errors.Join(inner.Close(), outer.Close())
}
