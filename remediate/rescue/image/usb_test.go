package image_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"unbrick/remediate/lab/testenv"
	"unbrick/remediate/rescue/agent/linux/ntfstest"
	"unbrick/remediate/rescue/image"
	"unbrick/remediate/rescue/wire"
)

var stickConfig = wire.Config{URL: "https://10.0.2.2:1", Pin: "00", Token: "t", Stick: &wire.Stick{
	ID: "1a2b3c4d", By: "Alice Jones", Sites: []string{"SYD"}, Until: time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC),
}}

// dataPartition returns the path of a copy of a stick's partition for reports.
func dataPartition(t *testing.T, stick string) string {
	t.Helper()
	dump := ntfstest.Run(t, "sfdisk", "--dump", stick)
	at := regexp.MustCompile(`start= *(\d+), size= *131072, type=EBD0A0A2-B9E5-4433-87C0-68B6B72699C7.*name="unbrick reports"`).FindStringSubmatch(dump)
	if at == nil {
		t.Fatalf("partitions:\n%s", dump)
	}
	data := filepath.Join(t.TempDir(), "data.img")
	ntfstest.Run(t, "dd", "if="+stick, "of="+data, "bs=512", "skip="+at[1], "count=131072", "status=none")
	return data
}

// checkUSB has programs that nobody here wrote look at a stick's image.
func checkUSB(t *testing.T, dir string) {
	testenv.Need(t, "sfdisk", "fsck.vfat", "mdir", "mcopy")
	img, err := image.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	name := filepath.Join(t.TempDir(), "stick.img")
	if err := image.USB(name, img, stickConfig); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the image has a token in it, and mode %v, %v", info.Mode(), err)
	}
	run := func(name string, args ...string) string { t.Helper(); return ntfstest.Run(t, name, args...) }
	if out := run("sfdisk", "--verify", name); !strings.Contains(out, "No errors detected") {
		t.Errorf("sfdisk: %s", out)
	}
	dump := run("sfdisk", "--dump", name)
	if strings.Count(dump, "EBD0A0A2") != 1 || strings.Count(dump, "C12A7328") != 1 {
		t.Errorf("Windows would show other partitions too:\n%s", dump)
	}
	data := dataPartition(t, name)
	run("fsck.vfat", "-n", data)
	if out := run("mdir", "-i", data, "::"); !strings.Contains(out, wire.StickVolume) || !strings.Contains(out, "1A2B-3C4D") {
		t.Errorf("mdir: %s", out)
	}
	run("mcopy", "-i", data, filepath.Join(dir, image.ManifestName), "::/MANIFEST.TXT")
	run("fsck.vfat", "-n", data)

	stick, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	place := stick[img.ConfigOffset:][:wire.ConfigSize]
	cfg, err := wire.ParseConfig(place)
	if err != nil || cfg.Stick == nil || cfg.Stick.By != "Alice Jones" || cfg.Token != "t" {
		t.Errorf("the configuration on the stick is %+v, %v", cfg, err)
	}
	iso, err := os.ReadFile(filepath.Join(dir, image.ISOName))
	if err != nil {
		t.Fatal(err)
	}
	copy(place, iso[img.ConfigOffset:])
	if from, to := 32<<10, len(iso)-64<<10; !bytes.Equal(stick[from:to], iso[from:to]) {
		t.Error("between the tables something else is not as in the ISO")
	}
	if err := image.USB(name, img, stickConfig); err == nil || !strings.Contains(err.Error(), "exists") {
		t.Errorf("written over what was there: %v", err)
	}
	if err := image.USB(name+"2", img, wire.Config{}); err == nil {
		t.Error("a stick was made of what is not the configuration of one")
	}
}

// checkNoStick has the lab's image refused.
func checkNoStick(t *testing.T, dir string) {
	img, err := image.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	name := filepath.Join(t.TempDir(), "stick.img")
	if err := image.USB(name, img, stickConfig); err == nil || !strings.Contains(err.Error(), "--profile client") {
		t.Errorf("said %v", err)
	}
	if _, err := os.Stat(name); err == nil {
		t.Error("left a file behind")
	}
}
