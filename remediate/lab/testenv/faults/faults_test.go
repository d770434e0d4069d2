package faults_test

import (
	"slices"
	"testing"

	"unbrick/remediate/lab/testenv/faults"
)

// TestBook orders faults and sends requests by a letter each.
func TestBook(t *testing.T) {
	var b faults.Book[string]
	b.Order("a once", 0, 0)
	b.Order("a from the third on", 1, -1)
	b.Order("b twice", 0, 2)
	var met []string
	for _, request := range "abacbab" {
		f, ok := b.Meet(func(f string) bool { return f[0] == byte(request) })
		if !ok {
			f = "-"
		}
		met = append(met, f)
	}
	if want := []string{"a once", "b twice", "-", "-", "b twice", "a from the third on", "-"}; !slices.Equal(met, want) {
		t.Errorf("met %q, want %q", met, want)
	}
	if got := b.Pending(); !slices.Equal(got, []string{"a from the third on"}) {
		t.Errorf("pending: %q", got)
	}
	if b.Heal(); len(b.Pending()) > 0 {
		t.Error("not healed")
	}
}
