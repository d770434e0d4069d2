package bitlocker_test

import (
	"path/filepath"
	"reflect"
	"testing"

	"unbrick/bitlocker"
)

// What is on the ledger comes back from it, also what another process wrote, and the whole of
// it is still a chain.
func TestRotationOnRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	one, two := open(t, path), open(t, path)
	want := bitlocker.Rotation{Query: release("PC1").Query, Step: bitlocker.RotationAsked, By: "Entra ID", Escrows: []string{"Entra ID"},
		Known: []bitlocker.KeyID{filing("PC1").ID, filing("PC2").ID}}
	record(t, one, "PC1")
	if err := two.RecordRotation(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	var got []bitlocker.Event
	if err := one.Each(t.Context(), func(e bitlocker.Event) error { got = append(got, e); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].Release == nil || got[1].Release != nil || got[1].Rotation == nil || !reflect.DeepEqual(*got[1].Rotation, want) {
		t.Errorf("%+v", got)
	}
	if _, err := bitlocker.AuditLedger(path); err != nil {
		t.Error(err)
	}
}
