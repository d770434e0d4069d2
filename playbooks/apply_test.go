package playbooks_test

import (
	"testing"
	"time"

	"unbrick/playbooks"
	"unbrick/playbooks/volumetest"
)

const folder = "Windows/System32/drivers/CrowdStrike/"

var (
	bad  = time.Date(2024, 7, 19, 4, 9, 47, 0, time.UTC)
	good = time.Date(2024, 7, 19, 5, 27, 0, 0, time.UTC)
)

// channel returns the content of a channel file 291, with something of its own.
func channel(own string) []byte {
	return append([]byte{0xaa, 0xaa, 0xaa, 0xaa, 1, 0, 0x23, 1}, own...)
}

// windows returns a volume with one Windows and no sensor.
func windows() *volumetest.Volume {
	return volumetest.New().Add("Windows/System32/config/SYSTEM", bad, []byte("regf"))
}

func library(t testing.TB) *playbooks.Playbook {
	t.Helper()
	pb, err := playbooks.Open("crowdstrike-291")
	if err != nil {
		t.Fatal(err)
	}
	return pb
}

func TestApplyThread(t *testing.T) {
	v := windows().
		Add(folder+"C-00000291-00000000-00000032.sys", bad, channel("bad")).
		Add(folder+"C-00000291-00000000-00000033.sys", good, channel("good"))
	keep, err := playbooks.NewDirKeeper(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	fs, err := library(t).Apply(v, keep)
	if err != nil || len(fs) != 1 || fs[0].Verdict != playbooks.Both {
		t.Fatalf("%+v, %v", fs, err)
	}
	if v.Has(folder+"C-00000291-00000000-00000032.sys") || !v.Has(folder+"C-00000291-00000000-00000033.sys") {
		t.Errorf("left: %+v", v.Files())
	}
}
