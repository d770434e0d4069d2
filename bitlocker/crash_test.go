package bitlocker_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"unbrick/bitlocker"
	"unbrick/bitlocker/keytest"
)

const childLedger = "BITLOCKER_TEST_CHILD_LEDGER"

func TestMain(m *testing.M) {
	if path := os.Getenv(childLedger); path != "" {
		releaseForEver(path)
	}
	if how := os.Getenv(childPanic); how != "" {
		panicWithKey(how)
	}
	os.Exit(m.Run())
}

// releaseForEver releases one key after the other, and prints the id of each that it was given.
func releaseForEver(path string) {
	l, err := bitlocker.OpenLedger(path)
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	r := rand.NewPCG(uint64(os.Getpid()), rand.Uint64())
	for {
		f := keytest.Filing{ID: keytest.NewKeyID(r), Host: "PC1", Key: keytest.NewKey(r)}
		b := bitlocker.Broker{Sources: []bitlocker.Source{escrow{name: "a", keys: []keytest.Filing{f}}}, Ledger: l}
		key, err := b.Release(context.Background(), bitlocker.Query{ID: f.ID, Host: "PC1"}, bitlocker.Recipient{Actor: "child"})
		if err != nil || !key.Equal(f.Key) {
			fmt.Println("failed:", err)
			os.Exit(1)
		}
		fmt.Println(f.ID)
	}
}

// child is a process that releases keys.
type child struct {
	cmd *exec.Cmd
	out *bufio.Scanner
}

func start(t *testing.T, path string) child {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childLedger+"="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	return child{cmd, bufio.NewScanner(out)}
}

// ids returns up to n of the ids that the child has printed; fewer if it is dead.
func (c child) ids(t *testing.T, n int) (ids []string) {
	t.Helper()
	for len(ids) < n && c.out.Scan() {
		if strings.HasPrefix(c.out.Text(), "failed") {
			t.Fatal(c.out.Text())
		}
		ids = append(ids, c.out.Text())
	}
	return ids
}

// kill ends the child as a power cut would and returns the ids that it had printed by then.
func (c child) kill(t *testing.T) []string {
	t.Helper()
	if err := c.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	ids := c.ids(t, 1<<30)
	_ = c.cmd.Wait() // killed: it has no better news
	return ids
}

// Two processes release keys on one ledger and are killed in the middle of it, again and again.
// Every key that left is on record.
func TestKilledProcessesLeaveNoUnrecordedKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.jsonl")
	left := 0
	var ids []string
	for round := range 5 {
		a, b := start(t, path), start(t, path)
		ids = append(ids, a.ids(t, 3+round)...)
		ids = append(ids, a.kill(t)...)
		ids = append(ids, b.ids(t, 3)...) // the other goes on
		ids = append(ids, b.kill(t)...)
	}
	l := open(t, path) // clears away what the last kill left
	recorded := map[any]bool{}
	for _, m := range lines(t, path) {
		recorded[m["key_id"]] = true
	}
	for _, id := range ids {
		if !recorded[id] {
			t.Errorf("key %s left and is not on the ledger", id)
		}
		left++
	}
	if n, _ := verify(t, path); left < 30 || n < left {
		t.Errorf("%d keys left, %d records", left, n)
	}
	record(t, l, "PC1")
}
