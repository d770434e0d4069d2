package ports_test

import (
	"net"
	"testing"

	"unbrick/remediate/lab/testenv/ports"
)

// A port that is held stays free for who listens at last, and nobody is given it twice.
func TestHeld(t *testing.T) {
	given := map[int]bool{}
	for n := range 400 {
		hold := ports.TCP
		if n%2 == 1 {
			hold = ports.UDP
		}
		p := ports.ForTest(t, hold)
		if given[p.Number] {
			t.Fatalf("port %d was given twice", p.Number)
		}
		given[p.Number] = true
		if n%2 == 1 {
			c, err := net.ListenPacket("udp", p.Address())
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
			continue
		}
		l, err := net.Listen("tcp", p.Address())
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
}
