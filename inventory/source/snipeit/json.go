package snipeit

import "encoding/json"

// UnmarshalJSON takes PHP's empty list for no fields.
func (f *fields) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '[' {
		*f = nil
		return nil
	}
	type plain fields
	return json.Unmarshal(b, (*plain)(f))
}
