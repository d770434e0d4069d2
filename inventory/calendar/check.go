package calendar

import "strings"

// Check returns the value of a host's field as this package reads it, or says what is wrong
// with it. The fields are country, timezone and opens; of a time zone by Windows's name it
// returns the IANA name, since systems that only Windows fills have no other.
func (c *Calendar) Check(field, value string) (string, error) {
	var err error
	switch field {
	case "country":
		return ParseCountry(value)
	case "timezone":
		if iana, ok := windowsZones()[strings.ToLower(value)]; ok {
			value = iana
		}
		_, err = c.Zone(value)
	case "opens":
		_, err = ParseHours(value)
	}
	return value, err
}
