package bitlocker_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"unbrick/bitlocker"
	"unbrick/bitlocker/keytest"
)

const childPanic = "BITLOCKER_TEST_CHILD_PANIC"

// panicKey is the key of the child that panics.
func panicKey() bitlocker.Key { return keytest.NewKey(rand.NewPCG(7, 7)) }

// panicWithKey ends the process as a defect would: in the middle of an escrow's answer, while
// another goroutine holds the key in its frames.
func panicWithKey(how string) {
	held := make(chan bitlocker.Key)
	go holdKey(panicKey(), held)
	<-held
	b := bitlocker.Broker{Sources: []bitlocker.Source{careless(how)}, Ledger: nowhere{}}
	b.Release(context.Background(), bitlocker.Query{ID: keytest.NewKeyID(rand.NewPCG(1, 1))}, bitlocker.Recipient{Actor: "child"})
}

//go:noinline
func holdKey(k bitlocker.Key, held chan bitlocker.Key) {
	held <- k
	time.Sleep(time.Hour)
	fmt.Println(k.IsZero()) // it is alive until here
}

type careless string

func (how careless) Lookup(_ context.Context, q bitlocker.Query) (bitlocker.Key, error) {
	k := panicKey()
	switch how {
	case "key":
		panic(k)
	case "error":
		panic(fmt.Errorf("cannot unlock with %v", k))
	case "holder":
		panic(struct{ Key bitlocker.Key }{k})
	}
	var none *bitlocker.Release
	none.Host = q.Host
	return k, nil
}

type nowhere struct{}

func (nowhere) Record(context.Context, bitlocker.Release) error { return nil }

func TestPanicsShowNoKey(t *testing.T) {
	for _, how := range []string{"key", "error", "holder", "nil"} {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childPanic+"="+how, "GOTRACEBACK=system")
		var said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &said, &said
		if cmd.Run() == nil || !strings.Contains(said.String(), "holdKey") {
			t.Fatalf("%s: the child did not panic with a trace of every goroutine:\n%s", how, said.String())
		}
		if keytest.Leaks(panicKey(), said.String()) {
			t.Errorf("%s: the trace has the key in it", how)
		}
	}
}
