package playbooks

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"unicode/utf16"

	"unbrick/playbooks/hive"
)

func typeOf(name string) hive.Type {
	return map[string]hive.Type{"REG_DWORD": hive.DWord, "REG_QWORD": hive.QWord, "REG_SZ": hive.String, "REG_EXPAND_SZ": hive.ExpandString}[name]
}

// encoded is Set as it is stored.
func (r *Registry) encoded() []byte {
	le := binary.LittleEndian
	n, _ := strconv.ParseUint(r.Set, 0, 64) // Validate has seen to it
	switch r.Type {
	case "REG_DWORD":
		return le.AppendUint32(nil, uint32(n))
	case "REG_QWORD":
		return le.AppendUint64(nil, n)
	}
	var b []byte
	for _, u := range append(utf16.Encode([]rune(r.Set)), 0) {
		b = le.AppendUint16(b, u)
	}
	return b
}

// plainText is data as a playbook writes it.
func plainText(v hive.Value) string {
	switch {
	case v.Type == hive.DWord && len(v.Data) == 4, v.Type == hive.QWord && len(v.Data) == 8:
		return fmt.Sprint(v.Number())
	case v.Type == hive.String, v.Type == hive.ExpandString:
		return v.Text()
	}
	return ""
}

// valueText shows a value to a person.
func valueText(v hive.Value) string {
	const most = 300
	switch {
	case v.Type == hive.DWord && len(v.Data) == 4, v.Type == hive.QWord && len(v.Data) == 8:
		return fmt.Sprintf("%s %d", v.Type, v.Number())
	case v.Type == hive.String, v.Type == hive.ExpandString:
		s := []rune(v.Text())
		if len(s) > most {
			return fmt.Sprintf("%s %q and %d characters more", v.Type, string(s[:most]), len(s)-most)
		}
		return fmt.Sprintf("%s %q", v.Type, string(s))
	}
	return fmt.Sprintf("%s, %d bytes", v.Type, len(v.Data))
}
