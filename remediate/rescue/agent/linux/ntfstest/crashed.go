package ntfstest

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"

	"unbrick/remediate/lab/testenv"
)

// What a restart page says of the journal's client.
const (
	NoClient    = 0xffff
	VolumeClean = 0x0002 // a flag
)

// A Restart is what the restart page of a journal says.
type Restart struct {
	Major, Minor  uint16
	LSN           uint64
	Client, Flags uint16
}

const (
	pageSize    = 4096
	restartArea = 48 // where Windows 10 puts it
	journalSize = 2 << 20
)

// Page returns the restart page with its fixups applied, with one client called NTFS.
func (r Restart) Page() []byte {
	le := binary.LittleEndian
	b := make([]byte, pageSize)
	copy(b, "RSTR")
	const fixups = 30
	le.PutUint16(b[4:], fixups)
	le.PutUint16(b[6:], pageSize/512+1)
	le.PutUint32(b[16:], pageSize)
	le.PutUint32(b[20:], pageSize)
	le.PutUint16(b[24:], restartArea)
	le.PutUint16(b[26:], r.Minor)
	le.PutUint16(b[28:], r.Major)
	area := b[restartArea:]
	le.PutUint64(area, r.LSN)
	le.PutUint16(area[8:], 1)
	le.PutUint16(area[10:], NoClient)
	le.PutUint16(area[12:], r.Client)
	le.PutUint16(area[14:], r.Flags)
	le.PutUint32(area[16:], 45) // bits of a sequence number, for a journal of 2 MiB
	le.PutUint16(area[20:], 64+160)
	le.PutUint16(area[22:], 64)
	le.PutUint64(area[24:], journalSize)
	le.PutUint16(area[36:], 48)
	le.PutUint16(area[38:], 64)
	client := area[64:]
	le.PutUint64(client, r.LSN)
	le.PutUint64(client[8:], r.LSN)
	le.PutUint16(client[16:], NoClient)
	le.PutUint16(client[18:], NoClient)
	le.PutUint32(client[28:], 8)
	for i, u := range utf16.Encode([]rune("NTFS")) {
		le.PutUint16(client[32+2*i:], u)
	}
	const usn = 0x0101
	le.PutUint16(b[fixups:], usn)
	for i := range pageSize / 512 {
		end := b[(i+1)*512-2:]
		copy(b[fixups+2+2*i:], end[:2])
		le.PutUint16(end, usn)
	}
	return b
}

// SetLog writes r as both restart pages of a volume whose journal was never used. There is
// nothing behind them: such a journal cannot be replayed.
func SetLog(t testing.TB, image string, r Restart) {
	t.Helper()
	b, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	// The longest stretch of ones; found without the code that tests are about.
	at := bytes.Index(b, bytes.Repeat([]byte{0xff}, 256<<10))
	if at < 0 {
		t.Fatal("cannot find an unused journal in the image")
	}
	copy(b[at:], append(r.Page(), r.Page()...))
	if err := os.WriteFile(image, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Crashed returns the path of a volume of 10 MiB that Windows formatted and used, with files
// added, as if Windows had crashed: its journal, of version 1.1 or 2.0, is wound back to a
// moment at which ten actions had been committed and not yet written. The records are
// Windows's own. What is patched is the restart pages and the copies of the newest pages.
//
// The volume is what the library go-ntfs ships for its own tests.
func Crashed(t testing.TB, major uint16, files ...File) string {
	t.Helper()
	testenv.Need(t, "go")
	module := strings.TrimSpace(Run(t, "go", "list", "-m", "-f", "{{.Dir}}", "www.velocidex.com/golang/go-ntfs"))
	b, err := os.ReadFile(filepath.Join(module, "parser", "test_data", "test.ntfs.dd"))
	if err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(t.TempDir(), "windows.img")
	if err := os.WriteFile(image, b, 0o600); err != nil {
		t.Fatal(err)
	}
	add(t, image, files)
	if b, err = os.ReadFile(image); err != nil {
		t.Fatal(err)
	}
	windBack(t, b, major)
	if err := os.WriteFile(image, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return image
}

// windBack patches the journal of that very image. The numbers are of its records.
func windBack(t testing.TB, image []byte, major uint16) {
	t.Helper()
	const (
		journal    = 0x154800 // offset of $LogFile
		newest     = 98       // the page that the journal now ends in
		lastLSN    = 0x10c549 // in it
		checkpoint = 0x10c472
		oldest     = 0x10c3ab
	)
	le := binary.LittleEndian
	log := image[journal:]
	// Pages 2 and 3 are copies of the newest two, each with its own place. Version 2.0 keeps
	// more of them, up to page 33, and counts their places in another unit.
	unit, minor, copies := uint64(pageSize), uint16(1), 4
	if major == 2 {
		unit, minor, copies = 512, 0, 34
	}
	for at := 2; at < copies; at++ {
		p := log[at*pageSize : (at+1)*pageSize]
		if at > 3 {
			copy(p, bytes.Repeat([]byte{0xff}, pageSize))
			continue
		}
		from := newest - 3 + at
		copy(p, log[from*pageSize:])
		le.PutUint64(p[8:], uint64(from)*unit)
	}
	for at := range 2 {
		p := log[at*pageSize:]
		if string(p[:4]) != "RSTR" {
			t.Fatal("the image is not the one that this test knows")
		}
		le.PutUint16(p[26:], minor)
		le.PutUint16(p[28:], major)
		area := p[restartArea:]
		le.PutUint64(area, lastLSN)
		le.PutUint16(area[12:], 0)
		le.PutUint16(area[14:], le.Uint16(area[14:])&^VolumeClean)
		le.PutUint32(area[32:], 40) // length of the last record's data
		le.PutUint64(area[64:], oldest)
		le.PutUint64(area[72:], checkpoint)
	}
}
