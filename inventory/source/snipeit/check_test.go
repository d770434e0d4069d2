package snipeit_test

import (
	"strings"
	"testing"

	"unbrick/inventory"
	"unbrick/inventory/secret"
	"unbrick/inventory/source/snipeit"
	"unbrick/inventory/sourcetest"
)

func TestCheck(t *testing.T) {
	refusing := newStore(t, 3)
	refusing.refuse = true // with status 200
	for _, lacking := range []*snipeit.Source{open(t, refusing, &sourcetest.Service{}, nil), open(t, newStore(t, 3), &sourcetest.Service{Down: 1}, nil)} {
		sourcetest.CheckRights(t, sourcetest.Rights{
			Good: open(t, newStore(t, 3), &sourcetest.Service{}, nil),
			Refused: open(t, newStore(t, 3), &sourcetest.Service{}, func(c *snipeit.Config) {
				c.Token = secret.Ref(sourcetest.Secretly(t, sourcetest.Wrong))
			}),
			Lacking: lacking, Right: "Assets: View",
		})
	}
	if err := inventory.Check(t.Context(), open(t, newStore(t, 0), &sourcetest.Service{}, nil)); err == nil || !strings.Contains(err.Error(), "another company") {
		t.Errorf("a user who sees no asset: %v", err)
	}
}
