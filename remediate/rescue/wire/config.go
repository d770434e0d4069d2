package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// Magic begins the place of the Config in every image, base or not: what a search looks for.
const Magic = `{"unbrick":"`

// ErrPlaceholder means that the image is the base of all hosts, and nobody's.
var ErrPlaceholder = errors.New("this is the base image: it was not fetched from the rescue server, so it belongs to no host")

// Window returns the ConfigSize bytes that go into an image: JSON that begins with Magic,
// then spaces.
func (c Config) Window() ([]byte, error) {
	b, err := json.Marshal(struct {
		Unbrick string `json:"unbrick"` // first, so that the JSON begins with Magic
		Config
	}{fmt.Sprintf("configuration %d", Version), c})
	if err != nil {
		return nil, err
	}
	if len(b) > ConfigSize {
		return nil, fmt.Errorf("the configuration of a host takes %d bytes, an image has room for %d", len(b), ConfigSize)
	}
	return append(b, bytes.Repeat([]byte{' '}, ConfigSize-len(b))...), nil
}

// ParseConfig reads what Window wrote, with or without its spaces. The placeholder of a base
// image is ErrPlaceholder.
func ParseConfig(b []byte) (Config, error) {
	b = bytes.TrimSpace(b)
	if bytes.HasPrefix(b, []byte(Placeholder)) {
		return Config{}, ErrPlaceholder
	}
	var c Config
	if err := json.Unmarshal(b, &c); err != nil {
		// The decoder's own error may quote the text, which holds the token.
		return Config{}, errors.New("the configuration in the image is not JSON")
	}
	if c.URL == "" || c.Pin == "" || c.Token == "" {
		return Config{}, errors.New("the configuration in the image lacks its url, pin or token")
	}
	return c, nil
}
