package bundle

import (
	"bufio"
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

// An Opening says whom to trust and who is there.
type Opening struct {
	Signer        ed25519.PublicKey // from the configuration, never from the bundle
	First, Second []age.Identity    // of the two persons
	Now           time.Time
	Expired       bool // open it even if it has expired
}

// A TamperedError says that a bundle is not what its signer made.
type TamperedError struct{ Reason string }

func (e *TamperedError) Error() string {
	return "it cannot be trusted: " + e.Reason + "; take another copy"
}

// An ExpiredError says that a bundle is older than it was meant to get.
type ExpiredError struct {
	Site          string
	Made, Expires time.Time
}

func (e *ExpiredError) Error() string {
	return fmt.Sprintf("the bundle of site %s expired on %s; it was made on %s, and keys may have changed since: take a newer one",
		e.Site, e.Expires.Format(time.RFC3339), e.Made.Format(time.RFC3339))
}

// A PersonError says whose identity is missing.
type PersonError struct {
	Person string // "first" or "second"
}

func (e *PersonError) Error() string {
	return fmt.Sprintf("it takes two persons, and no identity given for the %s one opens it", e.Person)
}

// skew is how far clocks may be apart.
const skew = 10 * time.Minute

func (o Opening) inTime(h Header) error {
	switch {
	case o.Now.IsZero():
		return errors.New("without the time nobody knows whether it has expired")
	case o.Now.Add(skew).Before(h.Made):
		return fmt.Errorf("it was made on %s, which is in the future: the clock of this host or that of its maker is wrong", h.Made.Format(time.RFC3339))
	case o.Now.After(h.Expires) && !o.Expired:
		return &ExpiredError{h.Site, h.Made, h.Expires}
	}
	return nil
}

// Inspect reads a bundle's header and checks that it and the body are what the signer made.
// It needs no identity.
func Inspect(r io.Reader, signer ed25519.PublicKey) (Header, error) {
	header, _, err := verify(r, signer)
	if err != nil {
		return Header{}, fmt.Errorf("cannot read bundle: %w", err)
	}
	return header, nil
}

// The longest header and body that are read.
const (
	maxHead = 64 << 10
	maxBody = 1 << 30
)

// verify reads all of a bundle and returns it if it is what the signer made.
func verify(r io.Reader, signer ed25519.PublicKey) (header Header, body []byte, err error) {
	if len(signer) != ed25519.PublicKeySize {
		return header, nil, errors.New("without the public key of its signer nobody knows who made it")
	}
	in := bufio.NewReaderSize(r, maxHead)
	var lines [3]string
	for i := range lines {
		text, err := in.ReadSlice('\n')
		if err != nil || i == 0 && string(text) != magic {
			return header, nil, errors.New("this is no bundle, or only the beginning of one")
		}
		lines[i] = string(text)
	}
	text := strings.TrimSuffix(lines[2], "\n")
	signature, err := base64.StdEncoding.DecodeString(text)
	if err != nil || base64.StdEncoding.EncodeToString(signature) != text || !ed25519.Verify(signer, []byte(lines[0]+lines[1]), signature) {
		return header, nil, &TamperedError{"its header was changed, or somebody else has signed it"}
	}
	if json.Unmarshal([]byte(lines[1]), &header) != nil {
		return header, nil, errors.New("its header is of a version that this program does not know")
	}
	if body, err = io.ReadAll(io.LimitReader(in, maxBody)); err != nil {
		return header, nil, err
	}
	if sum := sha256.Sum256(body); hex.EncodeToString(sum[:]) != header.SHA256 {
		return header, nil, &TamperedError{"its body was changed or cut off"}
	}
	return header, body, nil
}

// decrypt returns the rows of a body that was verified.
func (o Opening) decrypt(body io.Reader, want int) ([]Row, error) {
	middle, err := layer(body, "first", o.First)
	if err != nil {
		return nil, err
	}
	plain, err := layer(middle, "second", o.Second)
	if err != nil {
		return nil, err
	}
	var rows []Row
	for dec := json.NewDecoder(plain); ; {
		var l line
		err := dec.Decode(&l)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil { // its words could be those of a key
			return nil, fmt.Errorf("row %d cannot be read", len(rows)+1)
		}
		key, err := bitlocker.ParseKey(l.Key)
		if err != nil {
			return nil, fmt.Errorf("row %d: %w", len(rows)+1, err)
		}
		rows = append(rows, Row{ID: l.ID, Host: l.Host, Key: key})
	}
	if len(rows) != want {
		return nil, fmt.Errorf("it has %d keys, and its header says %d", len(rows), want)
	}
	slices.SortStableFunc(rows, func(a, b Row) int { return cmp.Compare(string(a.ID[:]), string(b.ID[:])) })
	return rows, checkRows(rows)
}

// layer removes one layer of encryption.
func layer(r io.Reader, person string, identities []age.Identity) (io.Reader, error) {
	if len(identities) == 0 {
		return nil, &PersonError{person}
	}
	plain, err := age.Decrypt(r, identities...)
	var none *age.NoIdentityMatchError
	if errors.As(err, &none) {
		return nil, &PersonError{person}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot decrypt for the %s person: %w", person, err)
	}
	return plain, nil
}
