package servicenow_test

import (
	"strings"
	"testing"

	"unbrick/inventory"
	"unbrick/inventory/secret"
	"unbrick/inventory/source/servicenow"
	"unbrick/inventory/sourcetest"
)

func TestCheck(t *testing.T) {
	sourcetest.CheckRights(t, sourcetest.Rights{
		Good: open(t, &sourcetest.Service{Next: newInstance(t, 3)}, nil),
		Refused: open(t, &sourcetest.Service{Next: newInstance(t, 3)}, func(c *servicenow.Config) {
			c.Login.Password = secret.Ref(sourcetest.Secretly(t, sourcetest.Wrong))
		}),
		Lacking: open(t, &sourcetest.Service{Next: newInstance(t, 3), Down: 1}, nil), Right: "cmdb_read",
	})
	s := newInstance(t, 3)
	for _, row := range s.rows {
		s.hidden[row["sys_id"]] = true
	}
	err := inventory.Check(t.Context(), open(t, &sourcetest.Service{Next: s}, nil))
	if err == nil || !strings.Contains(err.Error(), "there are 3") || !strings.Contains(err.Error(), "cmdb_read") {
		t.Errorf("rows that are all hidden: %v", err)
	}
	if s.asked != 1 {
		t.Errorf("a check asked %d times", s.asked)
	}
	if err := inventory.Check(t.Context(), open(t, &sourcetest.Service{Next: newInstance(t, 0)}, nil)); err == nil {
		t.Error("a table without rows is in order")
	}
}
