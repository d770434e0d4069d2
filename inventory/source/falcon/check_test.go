package falcon_test

import (
	"strings"
	"testing"

	"unbrick/inventory"
	"unbrick/inventory/secret"
	"unbrick/inventory/source/falcon"
	"unbrick/inventory/sourcetest"
)

func TestCheck(t *testing.T) {
	for _, down := range []int{1, 2} { // the list, the details
		sourcetest.CheckRights(t, sourcetest.Rights{
			Good: open(t, newConsole(t, 3), &sourcetest.Service{}, nil),
			Refused: open(t, newConsole(t, 3), &sourcetest.Service{}, func(c *falcon.Config) {
				c.Secret = secret.Ref(sourcetest.Secretly(t, sourcetest.Wrong))
			}),
			Lacking: open(t, newConsole(t, 3), &sourcetest.Service{Down: down}, nil), Right: "Hosts: Read",
		})
	}
	if err := inventory.Check(t.Context(), open(t, newConsole(t, 0), &sourcetest.Service{}, nil)); err == nil || !strings.Contains(err.Error(), "no host") {
		t.Errorf("a filter that fits none: %v", err)
	}
}
