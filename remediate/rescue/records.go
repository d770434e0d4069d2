package rescue

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"maps"
	"sync"
)

// MemRecords are Records in memory, for tests and trials: they end with the process. The zero
// value is empty and ready.
type MemRecords struct {
	mu sync.Mutex
	m  map[string][]byte
}

// Create implements [Records].
func (r *MemRecords) Create(_ context.Context, key string, value []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.m[key]; ok {
		return fmt.Errorf("record %s: %w", key, fs.ErrExist)
	}
	if r.m == nil {
		r.m = map[string][]byte{}
	}
	r.m[key] = bytes.Clone(value)
	return nil
}

// Load implements [Records].
func (r *MemRecords) Load(_ context.Context, key string) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	v, ok := r.m[key]
	if !ok {
		return nil, fmt.Errorf("record %s: %w", key, fs.ErrNotExist)
	}
	return bytes.Clone(v), nil
}

// All returns a copy of every record.
func (r *MemRecords) All() map[string][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.m)
}
