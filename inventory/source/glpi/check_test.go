package glpi_test

import (
	"strings"
	"testing"

	"unbrick/inventory"
	"unbrick/inventory/secret"
	"unbrick/inventory/source/glpi"
	"unbrick/inventory/sourcetest"
)

func TestCheck(t *testing.T) {
	for down, right := range map[int]string{1: "Network devices", 2: "Computers"} {
		lacking, good := newServer(t, 1), newServer(t, 3)
		lacking.down = down
		sourcetest.CheckRights(t, sourcetest.Rights{
			Good: open(t, good, nil),
			Refused: open(t, newServer(t, 3), func(c *glpi.Config) {
				c.Token = secret.Ref(sourcetest.Secretly(t, sourcetest.Wrong))
			}),
			Lacking: open(t, lacking, nil), Right: "Read on Assets > " + right,
		})
		if good.opened != 1 || good.closed != 1 {
			t.Errorf("a check opened %d sessions and closed %d", good.opened, good.closed)
		}
	}
	if err := inventory.Check(t.Context(), open(t, newServer(t, 0), nil)); err == nil || !strings.Contains(err.Error(), "no computer") {
		t.Errorf("a profile that sees no entity: %v", err)
	}
}
