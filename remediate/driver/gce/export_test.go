package gce

// ParseAddress is parseAddress, for tests: what it makes of an address.
func ParseAddress(text string) (string, error) {
	a, err := parseAddress(text)
	return a.String(), err
}
