package windows

import (
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"unbrick/playbooks/hive"
)

// MarkerName is the file beside a boot store that says that unbrick set an entry of it to
// start in Safe Mode with Networking: a [Marker]. It is written before the setting is, and
// removed after the setting is gone; whoever clears the setting removes it too:
//
//	bcdedit /deletevalue ENTRY safeboot
//
// with ENTRY as the marker has it, which is {current} in a Windows that this entry started.
const MarkerName = "unbrick-safeboot.json"

// A Marker is what a MarkerName file holds, as JSON.
type Marker struct {
	Entry string    `json:"entry"` // GUID of the boot entry, in braces
	Set   string    `json:"set"`   // what safeboot was set to: network
	Was   string    `json:"was"`   // what it was: absent
	At    time.Time `json:"at"`    // by the clock of the host, which may be wrong
}

// Numbers in a boot store; names as bcdedit has them.
const (
	bootManager     = "{9dea862c-5cdd-4e70-acc1-f32b344d4795}"
	osLoader        = 0x10200003 // type of an entry that starts Windows or WinPE
	elementDefault  = "23000003"
	elementWinPE    = "26000022"
	elementSafeboot = "25000080" // 0 minimal, 1 network, 2 repair of a directory
	elementShell    = "26000081" // safebootalternateshell, which BitLocker validates
)

const safeNetwork = 1

// A bootStore is a boot store in memory.
type bootStore struct{ h *hive.Hive }

// parseStore reads a boot store as Windows would, with its logs.
func parseStore(primary []byte, logs ...hive.Log) (bootStore, error) {
	r, err := hive.Recover(primary, logs...)
	if err != nil {
		return bootStore{}, err
	}
	h, err := hive.Open(r.Primary)
	return bootStore{h}, err
}

// element returns an element of an entry; ok is false if it has none.
func (b bootStore) element(entry, element string) (v hive.Value, ok bool, err error) {
	v, err = b.h.Get(`Objects\`+entry+`\Elements\`+element, "Element")
	if errors.Is(err, hive.ErrNotExist) {
		return v, false, nil
	}
	return v, err == nil, err
}

var guid = regexp.MustCompile(`\{[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\}`)

var wholeGUID = regexp.MustCompile(`^` + guid.String() + `$`)

// windows returns the entry that starts Windows by default. It refuses where that is not the
// only Windows of the store: which of them is on the locked volume cannot be told.
func (b bootStore) windows() (entry string, err error) {
	v, ok, err := b.element(bootManager, elementDefault)
	if err != nil || !ok || !wholeGUID.MatchString(v.Text()) {
		return "", errors.Join(errors.New("the boot store does not say what it starts by default"), err)
	}
	entry = v.Text()
	names, err := b.h.Keys("Objects")
	if err != nil {
		return "", err
	}
	var loaders []string
	for _, name := range names {
		kind, err := b.h.Get(`Objects\`+name+`\Description`, "Type")
		if err != nil || kind.Number() != osLoader {
			continue
		}
		pe, ok, err := b.element(name, elementWinPE)
		if err != nil {
			return "", err
		}
		if !ok || len(pe.Data) == 0 || pe.Data[0] == 0 {
			loaders = append(loaders, name)
		}
	}
	if len(loaders) != 1 || !strings.EqualFold(loaders[0], entry) {
		return "", fmt.Errorf("the boot store starts %d Windows (by default %s): it cannot be told which one is locked", len(loaders), entry)
	}
	return entry, nil
}

// safeboot returns how an entry starts: set is false if not in Safe Mode.
func (b bootStore) safeboot(entry string) (mode uint64, set bool, err error) {
	v, ok, err := b.element(entry, elementSafeboot)
	if err != nil || !ok {
		return 0, false, err
	}
	if len(v.Data) != 8 {
		return 0, true, fmt.Errorf("the Safe Mode flag of %s is not a number: % X", entry, v.Data)
	}
	return binary.LittleEndian.Uint64(v.Data), true, nil
}

// mayStartSafe refuses an entry that starts in Safe Mode already, which is somebody else's
// doing, or would do so with a command prompt, after which BitLocker asks for its key.
func (b bootStore) mayStartSafe(entry string) error {
	_, set, err := b.safeboot(entry)
	if err != nil {
		return err
	}
	if set {
		return errors.New("it is set to start in Safe Mode already, and not by unbrick")
	}
	_, shell, err := b.element(entry, elementShell)
	if err == nil && shell {
		err = errors.New("the boot entry names another shell for Safe Mode (safebootalternateshell), which BitLocker validates: it would ask for its key")
	}
	return err
}
