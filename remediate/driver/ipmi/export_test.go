package ipmi

// ParseAddress is for the fuzz test.
func ParseAddress(s string) (string, error) { return parseAddress(s) }
