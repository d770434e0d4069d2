// Package fvetest makes BitLocker volumes to test with: it encrypts the image of a volume in
// place, as Windows does. dislocker and cryptsetup open what it makes.
//
// It shares no code with package fve, so that a test does not check a mistake against itself.
// Windows has not been asked what it thinks of these volumes, and nothing on the volume keeps
// a file system from using the places of the metadata: test on them, keep nothing on them.
package fvetest

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"

	"unbrick/bitlocker"
	"unbrick/bitlocker/fve"
)

// Options say what volume to make. The zero Options make one that nothing but its master key
// opens.
type Options struct {
	Method      fve.Method // XTS128 if zero
	SectorSize  int        // 512 if zero
	Description string
	Protectors  []Protector
	State, Next fve.State // Encrypted if zero; what is on the volume is encrypted anyway

	// Blocks are the offsets of the three metadata blocks, of 64 KiB each; 8 KiB more are
	// taken behind the first. What is there is lost. If zero, free places of the NTFS volume
	// are found.
	Blocks [3]int64
}

// A Protector is one way to open the volume.
type Protector struct {
	Kind fve.Kind // RecoveryPassword, ClearKey or TPM
	ID   bitlocker.KeyID
	Key  bitlocker.Key // of a RecoveryPassword
}

// A File is what holds the volume.
type File interface {
	io.ReaderAt
	io.WriterAt
}

// headerSize is how much of the volume's beginning makes room for BitLocker's own header.
const headerSize = 8192

const blockSize = 64 << 10

// EncryptFile encrypts the file, all of it, and returns the master key, which is what a TPM
// would give out.
func EncryptFile(name string, o Options) (master [32]byte, err error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return master, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return master, err
	}
	if master, err = Encrypt(f, info.Size(), o); err != nil {
		return master, err
	}
	return master, f.Close()
}

// Encrypt encrypts the first size bytes of f and returns the master key.
func Encrypt(f File, size int64, o Options) (master [32]byte, err error) {
	if o, err = o.complete(f, size); err != nil {
		return master, fmt.Errorf("cannot make a BitLocker volume: %w", err)
	}
	m := &maker{Options: o, size: size}
	_, _ = rand.Read(m.master[:]) // never fails
	m.volumeKey = make([]byte, keySizes[o.Method])
	_, _ = rand.Read(m.volumeKey)
	if m.sectors, err = newEncrypter(o.Method, m.volumeKey); err != nil {
		return master, err
	}
	if err := m.write(f); err != nil {
		return master, fmt.Errorf("cannot make a BitLocker volume: %w", err)
	}
	return m.master, nil
}

func (o Options) complete(f io.ReaderAt, size int64) (Options, error) {
	if o.Method == 0 {
		o.Method = fve.XTS128
	}
	if o.SectorSize == 0 {
		o.SectorSize = 512
	}
	if o.State == 0 {
		o.State = fve.Encrypted
	}
	if o.Next == 0 {
		o.Next = fve.Encrypted
	}
	if keySizes[o.Method] == 0 {
		return o, fmt.Errorf("unknown %s", o.Method)
	}
	if size%int64(o.SectorSize) != 0 {
		return o, errors.New("the volume is not of whole sectors")
	}
	var err error
	if o.Blocks == [3]int64{} {
		o.Blocks, err = freePlaces(f, size)
	}
	return o, err
}

// A maker makes one volume.
type maker struct {
	Options
	size      int64
	master    [32]byte
	volumeKey []byte
	sectors   encrypter
	nonces    uint32
}

// header is where the copy of the volume's beginning goes.
func (m *maker) header() int64 { return m.Blocks[0] + blockSize }

// write encrypts all sectors but those that BitLocker takes, and then writes its own.
func (m *maker) write(f File) error {
	head := make([]byte, headerSize)
	if _, err := f.ReadAt(head, 0); err != nil {
		return err
	}
	buf := make([]byte, 1<<20)
	for at := int64(0); at < m.size; at += int64(len(buf)) {
		b := buf[:min(int64(len(buf)), m.size-at)]
		if _, err := f.ReadAt(b, at); err != nil {
			return err
		}
		m.encrypt(b, at)
		if _, err := f.WriteAt(b, at); err != nil {
			return err
		}
	}
	m.encrypt(head, m.header())
	block := m.block()
	for _, w := range []struct {
		b  []byte
		at int64
	}{{head, m.header()}, {block, m.Blocks[0]}, {block, m.Blocks[1]}, {block, m.Blocks[2]}, {m.bootSector(), 0}} {
		if _, err := f.WriteAt(w.b, w.at); err != nil {
			return err
		}
	}
	return nil
}

// encrypt encrypts whole sectors in place; at is where they go.
func (m *maker) encrypt(b []byte, at int64) {
	for i := 0; i < len(b); i += m.SectorSize {
		m.sectors.encrypt(b[i:i+m.SectorSize], at+int64(i))
	}
}
