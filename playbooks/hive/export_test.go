package hive

// Marvin is the hash of transaction logs.
func Marvin(seed uint64, b []byte) uint64 { return marvin(seed, b) }
