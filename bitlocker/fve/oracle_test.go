package fve_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"unbrick/bitlocker/fve"
	"unbrick/bitlocker/fve/fvetest"
	"unbrick/remediate/lab/testenv"
)

// run returns what a program prints, with stdin as its input.
func run(t *testing.T, stdin, name string, args ...string) (string, error) {
	t.Helper()
	c := exec.Command(name, args...)
	c.Stdin = strings.NewReader(stdin)
	out, err := c.CombinedOutput()
	return string(out), err
}

// TestOracles has two programs that share nothing with this package, nor with each other, look
// at the same volumes: they see the same protectors, take the same keys, and decrypt to the
// same bytes.
func TestOracles(t *testing.T) {
	testenv.Need(t, "dislocker-metadata", "dislocker-file", "cryptsetup")
	for seed, c := range []struct {
		method     fve.Method
		sector     int
		cryptsetup string // its name of the method
		dislocker  string
	}{
		{fve.Elephant128, 512, "cbc-elephant 256", "AES-128-DIFFUSER"},
		{fve.Elephant256, 512, "cbc-elephant 512", "AES-256-DIFFUSER"},
		{fve.CBC128, 512, "cbc-eboiv 128", "AES-128-NODIFFUSER"},
		{fve.CBC256, 4096, "cbc-eboiv 256", "AES-256-NODIFFUSER"},
		{fve.XTS128, 512, "xts-plain64 256", "AES-XTS-128"},
		{fve.XTS256, 4096, "xts-plain64 512", "AES-XTS-256"},
	} {
		t.Run(c.method.String(), func(t *testing.T) {
			t.Parallel()
			ps := protectors(uint64(10 + seed))
			if c.method != fve.XTS128 {
				ps = ps[:2] // each recovery password takes a million hashes, four times here
			}
			d, master := volume(t, fvetest.Options{Method: c.method, SectorSize: c.sector, Description: "PC1 C:", Protectors: ps})
			name := filepath.Join(t.TempDir(), "volume.img")
			if err := os.WriteFile(name, d, 0o600); err != nil {
				t.Fatal(err)
			}
			v := parse(t, d)
			askCryptsetup(t, name, v, c.cryptsetup)
			askDislocker(t, name, v, c.dislocker)

			last := ps[len(ps)-1]
			if out, err := run(t, last.Key.Reveal(), "cryptsetup", "open", "--type", "bitlk", "--test-passphrase", name); err != nil {
				t.Errorf("cryptsetup does not take the key of %s: %v\n%s", last.ID, err, out)
			}
			// dislocker tries its key on the first recovery password alone.
			out := filepath.Join(t.TempDir(), "plain.img")
			if said, err := run(t, "", "dislocker-file", "-V", name, "-p"+ps[1].Key.Reveal(), "--", out); err != nil {
				t.Fatalf("dislocker: %v\n%s", err, said)
			}
			theirs, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			u, err := v.UnlockMaster(master)
			if err != nil {
				t.Fatal(err)
			}
			if ours := content(t, u, d); !bytes.Equal(ours, theirs) {
				t.Errorf("dislocker reads other bytes: %d of its, %d of ours", len(theirs), len(ours))
			}
		})
	}
	t.Run("another key", func(t *testing.T) {
		d, _ := volume(t, fvetest.Options{Protectors: protectors(20)[:2]})
		name := filepath.Join(t.TempDir(), "volume.img")
		if err := os.WriteFile(name, d, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := run(t, protectors(21)[1].Key.Reveal(), "cryptsetup", "open", "--type", "bitlk", "--test-passphrase", name); err == nil {
			t.Error("cryptsetup takes any key: the test above proves nothing")
		}
	})
}

// askCryptsetup wants cryptsetup to see the same volume.
func askCryptsetup(t *testing.T, name string, v *fve.Volume, method string) {
	t.Helper()
	dump, err := run(t, "", "cryptsetup", "bitlkDump", name)
	if err != nil {
		t.Fatalf("cryptsetup: %v\n%s", err, dump)
	}
	flat := regexp.MustCompile(`\s+`).ReplaceAllString(dump, " ")
	mode, bits, _ := strings.Cut(method, " ")
	wants := []string{"Cipher mode: " + mode, "Cipher key: " + bits + " bits", "Volume size: 1048576", "GUID: " + strings.ToLower(v.ID.String())}
	for _, p := range v.Protectors {
		kind := map[fve.Kind]string{fve.TPM: "TPM", fve.RecoveryPassword: "recovery passphrase"}[p.Kind]
		wants = append(wants, "GUID: "+strings.ToLower(p.ID.String())+" Protection: VMK protected with "+kind)
	}
	for _, want := range wants {
		if !strings.Contains(flat, want) {
			t.Errorf("cryptsetup does not say %q:\n%s", want, dump)
		}
	}
}

// askDislocker wants dislocker to see the same volume.
func askDislocker(t *testing.T, name string, v *fve.Volume, method string) {
	t.Helper()
	said, err := run(t, "", "dislocker-metadata", "-V", name)
	if err != nil {
		t.Fatalf("dislocker: %v\n%s", err, said)
	}
	for _, id := range v.RecoveryIDs() {
		if !strings.Contains(said, id.String()) {
			t.Errorf("dislocker does not know protector %s:\n%s", id, said)
		}
	}
	if !strings.Contains(said, method) {
		t.Errorf("dislocker does not say %s:\n%s", method, said)
	}
}
