package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"unbrick/remediate/rescue"
	"unbrick/remediate/rescue/image"
	"unbrick/remediate/rescue/wire"
)

// fakeImage makes the folder of an image that boots nothing: a place for the configuration, and
// a partition table without partitions.
func fakeImage(t *testing.T) string {
	t.Helper()
	const place = 64 << 10
	iso := make([]byte, 1<<20)
	copy(iso[place:], bytes.Repeat([]byte{' '}, wire.ConfigSize))
	copy(iso[place:], wire.Placeholder)
	header := iso[512:]
	copy(header, "EFI PART\x00\x00\x01\x00\x5c\x00\x00\x00")
	binary.LittleEndian.PutUint64(header[72:], 2)
	binary.LittleEndian.PutUint32(header[80:], 4)
	binary.LittleEndian.PutUint32(header[84:], 128)
	binary.LittleEndian.PutUint32(header[88:], crc32.ChecksumIEEE(iso[1024:][:4*128]))
	sum := sha256.Sum256(iso)
	b, err := json.Marshal(image.Manifest{Profile: image.Client, ConfigOffset: place, ConfigSize: wire.ConfigSize,
		Files: []image.File{{Path: image.ISOName, Size: int64(len(iso)), SHA256: hex.EncodeToString(sum[:])}}})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, content := range map[string][]byte{image.ISOName: iso, image.ManifestName: b} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestSticks makes a stick, lists it, takes it out of use and reads what is on it.
func TestSticks(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "alice.img")
	config := filepath.Join(dir, "unbrick.yaml")
	if err := os.WriteFile(config, []byte("image: "+fakeImage(t)+"\nrescue: {url: \"https://10.1.2.3:8443\"}\nstate: "+filepath.Join(dir, "state.db")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// try runs a command, and wants its exit code and what it says.
	try := func(code int, says string, args ...string) *session {
		t.Helper()
		s := unbrick(t, append([]string{"image"}, append(args, "-c", config)...)...)
		if got := s.run(t); got != code || !strings.Contains(s.stderr.String()+s.stdout.String(), says) {
			t.Fatalf("%v: exit %d, %s%s; want %d, %q", args, got, s.stdout.String(), s.stderr.String(), code, says)
		}
		return s
	}
	order := []string{"usb", "--by", "Alice Jones", "--site", "SYD", "--out", out, "--until"}
	try(exitUsage, "no state file", "sticks")
	try(exitUsage, "for a person and a site", "usb", "--out", out)
	try(exitUsage, "is not a time", append(order, "tomorrow")...)
	try(exitUsage, "would be of no use now", append(order, "2020-01-01T00:00")...)
	try(exitUsage, "not where hosts can reach", append(order, "2020-01-01T00:00", "--url", "http://x")...)
	until := time.Now().Add(6 * time.Hour).Format("2006-01-02T15:04")
	s := try(exitDone, `"by": "Alice Jones"`, append(order, until, "--json")...)
	var info rescue.StickInfo
	if err := json.Unmarshal(s.stdout.Bytes(), &info); err != nil || info.MaxHosts != 100 || info.PerHour != 20 {
		t.Fatalf("%+v, %v", info, err)
	}
	try(exitUsage, "file exists", append(order, until)...)

	stick, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := wire.ParseConfig(stick[64<<10:][:wire.ConfigSize])
	if err != nil || cfg.URL != "https://10.1.2.3:8443" || cfg.Stick.ID != info.ID || !bytes.Contains(cfg.Stick.Playbook, []byte("crowdstrike-291")) {
		t.Errorf("on the stick: %q %+v, %v", cfg.URL, cfg.Stick, err)
	}
	state, err := os.ReadFile(filepath.Join(dir, "state.db"))
	if err != nil || bytes.Contains(state, []byte(cfg.Token)) {
		t.Errorf("the stick's token is in the state, or %v", err)
	}
	if s := try(exitDone, info.ID, "sticks"); strings.Count(s.stdout.String(), "\n") != 2 || !strings.Contains(s.stdout.String(), "its image was not written") {
		t.Errorf("list:\n%s", s.stdout.String())
	}
	try(exitUsage, "no such stick", "sticks", "--revoke", "00000000", "--revoke", info.ID)
	try(exitDone, "revoked by", "sticks")

	try(exitUsage, "cannot read a stick", "sticks", "--read", dir)
	report, err := wire.StickReport{Stick: info.ID, Identity: wire.Identity{Serial: "SN1"}}.Seal(cfg.Token)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, wire.StickReports), 0o700); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, wire.StickReports, "SN1.json")
	if err := os.WriteFile(name, report, 0o600); err != nil {
		t.Fatal(err)
	}
	try(exitDone, `serial "SN1"`, "sticks", "--read", dir)
	tellOfSN1(t, dir, config, func(code int, says string) {
		try(code, says, "sticks", "--read", dir, "--tell", "-i", filepath.Join(dir, "fleet.csv"))
	})
	if err := os.WriteFile(name, bytes.Replace(report, []byte("SN1"), []byte("SN2"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	try(exitUsage, "made or changed by somebody else", "sticks", "--read", dir)
}

// tellOfSN1 tells a run of the report: when there is none, and when the host waits in it for a person.
func tellOfSN1(t *testing.T, dir, config string, tell func(code int, says string)) {
	t.Helper()
	fleet := filepath.Join(dir, "fleet.csv")
	write := func(text string) {
		if err := os.WriteFile(fleet, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("name,serial,site\nWS1,SN7,SYD\n")
	tell(exitUsage, `not have one host with serial "SN1"`)
	write("name,serial,site,address\nWS1,SN1,SYD,127.0.0.1:1\n")
	tell(exitUsage, "no such run")
	f, err := os.OpenFile(config, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("ladder: [{way: manual}]\n"); err != nil {
		t.Fatal(err)
	}
	s := unbrick(t, "run", "-i", fleet, "-c", config, "--no-wait", "--listen", "127.0.0.1:0", "--image-listen", "127.0.0.1:0")
	if code := s.run(t); code != exitNotAll || !strings.Contains(s.stdout.String(), "1 waiting") {
		t.Fatalf("exit %d: %s%s", code, s.stdout.String(), s.stderr.String())
	}
	tell(exitDone, "the run is told of WS1")
}
