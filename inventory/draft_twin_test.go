package inventory_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"unbrick/inventory"
)

// Hosts of one name are told apart by their ids, whatever their order, and before the source
// ends in an error.
func TestTwin(t *testing.T) {
	records := [][2]string{{"web", "1"}, {"db", "2"}, {"WEB", "3"}, {"alone", ""}}
	for range 2 {
		var names, warned []string
		var partial *inventory.PartialError
		for h, err := range inventory.Read(t.Context(), "test", func(emit func(*inventory.Draft) error) error {
			for _, r := range records {
				d := inventory.NewDraft(inventory.Origin{Source: "test", Place: "there"}, "record "+r[1])
				d.Name("name", r[0])
				if r[1] != "" {
					d.Twin(r[1])
				}
				if err := emit(d); err != nil {
					return err
				}
			}
			return &inventory.PartialError{Missing: "a zone does not answer", Want: "another try"}
		}) {
			var row *inventory.RowError
			switch {
			case errors.As(err, &row):
				warned = append(warned, row.Place)
			case err != nil && !errors.As(err, &partial):
				t.Error(err)
			case err == nil:
				names = append(names, h.Name)
			}
		}
		slices.Sort(names)
		slices.Sort(warned)
		if got := strings.Join(names, " "); got != "WEB-3 alone db web-1" || partial == nil {
			t.Errorf("%s, %v", got, partial)
		}
		if got := strings.Join(warned, ", "); got != "there record 1, there record 3" {
			t.Errorf("warned of %s", got)
		}
		slices.Reverse(records)
	}
}

// What wants no more gets no more.
func TestTwinStop(t *testing.T) {
	n := 0
	for range inventory.Read(t.Context(), "test", func(emit func(*inventory.Draft) error) error {
		for _, name := range []string{"a", "b", "c"} {
			d := inventory.NewDraft(inventory.Origin{Place: "there"}, name)
			d.Name("name", name)
			d.Twin(name)
			if err := emit(d); err != nil {
				return err
			}
		}
		return nil
	}) {
		n++
		break
	}
	if n != 1 {
		t.Errorf("%d rows", n)
	}
}
