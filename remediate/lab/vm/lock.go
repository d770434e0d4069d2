package vm

import (
	"fmt"
	"io"
	"os"

	"unbrick/bitlocker/fve"
	"unbrick/bitlocker/fve/fvetest"
)

// An Encryption says how BitLocker locks the volume of a lab host. Windows itself gets the
// volume's master key from the firmware, as from a TPM.
type Encryption struct {
	Method     fve.Method // XTS128 if zero
	Protectors []fvetest.Protector
}

// tpmName is the file with the master key of a disk: what the host's TPM would give out. It
// is not on the disk.
func tpmName(disk string) string { return disk + ".tpm" }

// lock encrypts a volume in place and leaves its master key for the host of that disk.
func (e *Encryption) lock(volume, disk string) error {
	master, err := fvetest.EncryptFile(volume, fvetest.Options{Method: e.Method, Description: "lab", Protectors: e.Protectors})
	if err != nil {
		return err
	}
	return os.WriteFile(tpmName(disk), master[:], 0o600)
}

// unlock returns the plain text of the BitLocker volume of a disk.
func unlock(volume io.ReaderAt, disk string) (io.ReaderAt, error) {
	master, err := os.ReadFile(tpmName(disk))
	if err != nil || len(master) != 32 {
		return nil, fmt.Errorf("cannot open the BitLocker volume: its key has %d bytes, %v", len(master), err)
	}
	v, err := fve.Parse(volume)
	if err != nil {
		return nil, err
	}
	u, err := v.UnlockMaster([32]byte(master))
	if err != nil {
		return nil, err
	}
	return u.Reader(volume)
}
